import { jsonAnswer, type Respond } from '../answer.ts';
import { failure } from '../errors.ts';
import type { Refusals } from '../sources.ts';
import { type SidecarNumbers, sidecarMetrics } from './metrics.ts';

/** What programs ask again and again: `/healthz`, `/readyz`, `/metrics`. */
export interface Plain {
  health: Respond;
  ready: Respond;
  metrics: Respond;
}

export function plainAnswers(numbers: SidecarNumbers, refusals: Readonly<Refusals>): Plain {
  const { sink, feed } = numbers;
  const metrics = sidecarMetrics({ ...numbers, refusals });
  return {
    health: () => jsonAnswer({ status: 'ok' }),
    // Ready means that lines are written. Without a helper they are written too, with the addresses that nginx logged.
    ready() {
      if (sink.stalled !== 0) throw failure('output-stalled', 'an output is blocked');
      return jsonAnswer({ status: 'ok', feed: feed().connected });
    },
    metrics: () => ({ type: metrics.contentType, body: metrics.text() }),
  };
}
