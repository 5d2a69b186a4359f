import type { FlowIndex } from '../../join/index/flow-index.ts';
import { type App, answering } from '../app.ts';
import type { StatusAnswer } from './answers.ts';
import type { SidecarNumbers } from './metrics.ts';
import type { Plain } from './plain.ts';
import { object, STATUS, text } from './schemas.ts';

/** `GET /status` for people and the page, `/healthz` and `/readyz` for probes. */
export function addStatusRoutes(
  app: App,
  numbers: SidecarNumbers,
  plain: Pick<Plain, 'health' | 'ready'>,
): void {
  const { pipeline, index, follower, sink, feed, view, clock } = numbers;
  app.get(
    '/status',
    { schema: { summary: 'The state of the feed, its sources and the log', response: { 200: STATUS } } },
    async (): Promise<StatusAnswer> => {
      const now = clock();
      const { watermark } = index.coverage;
      const { connected, records, connects, failures } = feed();
      return {
        time: new Date(now).toISOString(),
        startedAt: new Date(view.startedAt).toISOString(),
        feed: {
          connected,
          lagMs: watermark === -Infinity ? null : Math.max(0, now - watermark),
          records,
          connects,
          failures,
        },
        sources: sources(index),
        lines: pipeline.counters.lines,
        evidence: pipeline.counters.evidence,
        reasons: pipeline.counters.reasons,
        waitingBytes: pipeline.pending.bytes,
        unwrittenBytes: pipeline.unwrittenBytes,
        backlogBytes: follower.backlogBytes,
        losses: follower.losses,
        outputStalled: sink.stalled !== 0,
      };
    },
  );
  const ok = object({ status: text('ok') });
  app.get(
    '/healthz',
    { schema: { summary: 'Whether the process answers', response: { 200: ok } } },
    answering(plain.health),
  );
  app.get(
    '/readyz',
    {
      config: { errors: ['output-stalled'] },
      schema: {
        summary: 'Whether lines flow',
        response: {
          200: object({
            status: text('ok'),
            feed: { type: 'boolean', description: 'whether the feed is read' },
          }),
        },
      },
    },
    answering(plain.ready),
  );
}

function sources(index: FlowIndex): StatusAnswer['sources'] {
  const { coverage } = index;
  return coverage.sources().map((source) => {
    const gaps = coverage.gaps(source);
    const last = gaps[gaps.length - 1];
    return { source, gaps: gaps.length, since: last && Number.isFinite(last.to) ? last.to : null };
  });
}
