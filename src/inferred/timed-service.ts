/** What is remembered of one upstream address. */
import type { TimedAttempt } from './timed-attempt.ts';
import type { TimedFlow } from './timed-flow.ts';
import { TimedFlows } from './timed-flows.ts';

/** After a sign of upstream keepalive, or of requests that are not logged, nothing is named for this long (ms). */
const NO_NAMES_AFTER_SIGN_MS = 60_000;
/** A connection that stayed open for longer than this after the last line that explains it may have been kept (ms). */
export const KEPT_MS = 100;
/** Connections that may have been kept, for each Service. With more, nothing is named that one of them may have served. */
const MAX_KEPT = 512;

export interface TimedService {
  flows: TimedFlows;
  /** In the order of the log. */
  attempts: TimedAttempt[];
  /** Attempts that began before this time are not named: some attempt or connection was surplus. */
  voidUntil: number;
  /** Attempts that ended before were too many to be remembered: nothing is said of them, and nothing learned. */
  crowdedUntil: number;
  /** Attempts since the last sign that each had a connection of its own. */
  clean: number;
  /** Connections opened up to this time were checked for a line. */
  checkedUntil: number;
  /** Connections that ended before this time may have been kept and forgotten. */
  keptUnknownUntil: number;
}

export function newService(): TimedService {
  return {
    flows: new TimedFlows(),
    attempts: [],
    voidUntil: -Infinity,
    crowdedUntil: -Infinity,
    clean: 0,
    checkedUntil: -Infinity,
    keptUnknownUntil: -Infinity,
  };
}

/** An attempt or connection at `t` was surplus: nothing is named for the Service around that time. */
export function distrust(service: TimedService, t: number, counters: { distrusted: number }): void {
  counters.distrusted++;
  service.voidUntil = Math.max(service.voidUntil, t + NO_NAMES_AFTER_SIGN_MS);
  service.clean = 0;
}

/** Whether it was open for longer than the lines so far explain. */
export function mayHaveBeenKept({ closeTo, explainedUntil }: TimedFlow): boolean {
  return closeTo > explainedUntil + KEPT_MS;
}

/** Connections that are or were open for longer than the lines explain. Undefined if there are too many. */
export function keptConnections({ flows }: TimedService, watermark: number): TimedFlow[] | undefined {
  const kept: TimedFlow[] = [];
  for (const group of [flows.open, flows.long]) {
    for (const flow of group) {
      if (Math.min(flow.closeTo, watermark) <= flow.explainedUntil + KEPT_MS) continue;
      if (kept.push(flow) > MAX_KEPT) return undefined;
    }
  }
  return kept;
}
