import type { ParsedLine } from '../model/line.ts';
import { type LineClock, OFFLINE_LATE_MS } from './line-clock.ts';

/**
 * How much later than the time of its line an attempt without an answer can be (ms): nginx reads its clock once per turn
 * of its event loop, and dates everything within the turn to its beginning. A larger value only adds candidates.
 */
export const TURN_MS = 10_000;

/**
 * How far a logged upstream time may differ from the difference of the two turns (ms): it is truncated to whole
 * milliseconds, and nginx 1.13.10 to 1.21.3 took these times from a clock with a resolution of a jiffy, up to 10 ms.
 */
const TIMES_DIFFER_MS = 11;

/**
 * The request of a line without a duration may have any length, so all connections and requests in the index are
 * candidates. The record must be complete only for this long before the line was written (ms). That covers the usual `flush=5s`
 * of a log buffer, where the line does not say when it was written.
 */
export const UNTIMED_MS = 10_000;

/** Statuses that nginx sets itself when an upstream gave no answer. */
const MADE_UP = new Set([499, 502, 503, 504]);

/** Whether the attempt got an answer (so its request was on the wire), never connected, or neither is certain. */
export type Sent = 'yes' | 'no' | 'unknown';

export function wasSent(line: ParsedLine, k: number): Sent {
  const attempt = line.attempts[k]!;
  if (typeof attempt.headerMs === 'number') return 'yes';
  if (attempt.connectMs === null) return 'no';
  // $status of the line proves nothing: error_page and stale cache entries turn failures into 200.
  return typeof attempt.status === 'number' && !MADE_UP.has(attempt.status) ? 'yes' : 'unknown';
}

/**
 * Whether a connection took bytes of the attempt's request. Beyond `wasSent` this includes attempts without an answer,
 * whose line does not show when the bytes were sent.
 */
export function wasCarried(line: ParsedLine, k: number): Sent {
  return (line.attempts[k]!.bytesSent ?? 0) > 0 ? 'yes' : wasSent(line, k);
}

/** When an attempt can have happened, ms since the epoch. All bounds are inclusive; where in doubt they are wider. */
export interface Window {
  /** The request cannot have been sent before; -Infinity where the line does not say. */
  begin: number;
  /** The request cannot have been sent after. */
  end: number;
  /**
   * The answer cannot have begun before, so conntrack had the connection at this time. Later it may have deleted it: nginx
   * can read for minutes after the backend's end. -Infinity where the line does not say.
   */
  answeredAfter: number;
  /** The exchange cannot have ended before, nor a later request begun on the connection. -Infinity likewise. */
  endedAfter: number;
  /** The line was not written before: its time, or when it was read if it bears none. nginx may keep lines in a buffer for long. */
  writtenAfter: number;
}

/**
 * All evidence of the line has arrived once the watermark is not before this time. `slackMs`: how much later than the
 * line's time the rules look for it.
 */
export function lineEnd(line: ParsedLine, readAt: number, slackMs = 0): number {
  if (line.endMs === undefined || readAt !== Infinity) return readAt;
  for (let k = 0; k < line.attempts.length; k++) {
    if (line.attempts[k]!.kind === 'ip' && wasSent(line, k) !== 'yes')
      return line.endMs + line.endStepMs + TURN_MS;
  }
  return line.endMs + line.endStepMs + Math.max(OFFLINE_LATE_MS, slackMs);
}

/**
 * Whether the clock was set back while the request ran. nginx computes `$request_time` from the wall clock and logs 0 for
 * a negative one (src/http/modules/ngx_http_log_module.c). `$upstream_response_time` is from the monotonic clock, and the
 * sum over the attempts is never longer. `repeatedUntil`: as in `Coverage`.
 */
export function ranAcrossClockRollback(
  { attempts, endMs, requestMs }: ParsedLine,
  repeatedUntil: number,
): boolean {
  if (requestMs === undefined) return false;
  let taken = 0;
  let logged = 0;
  for (const { responseMs } of attempts) {
    if (typeof responseMs !== 'number') continue;
    logged++;
    taken += responseMs - TIMES_DIFFER_MS;
  }
  if (taken > requestMs) return true;
  return requestMs === 0 && logged === 0 && endMs !== undefined && endMs < repeatedUntil;
}

/**
 * The windows of the line's attempts, in step with them.
 *
 * nginx dates every action to the beginning of its event-loop turn (src/core/ngx_times.c), so a logged time is never later
 * than the real one, and logged durations are differences of turns. Attempts follow one another: the durations of earlier
 * attempts move the beginning later, those of later ones move the end earlier. nginx reads an answer in a later turn than
 * the one that sent the request, so the request was sent before the answer's turn began. Each duration in a sum has its
 * tolerance.
 */
export function attemptWindows(line: ParsedLine, readAt: number, clock: LineClock, behindMs = 0): Window[] {
  const { attempts, endMs, requestMs } = line;
  const timed = endMs !== undefined && requestMs !== undefined && !clock.runsAhead(readAt);
  const start = timed ? endMs - requestMs - behindMs : -Infinity;
  const writtenAfter = Math.min(readAt, endMs === undefined ? Infinity : endMs - behindMs);
  const offline = readAt === Infinity;
  const written = !offline || endMs === undefined ? readAt : endMs + line.endStepMs + OFFLINE_LATE_MS;
  // Logged durations may exceed the real ones by the clock's lag, so an end moves earlier only by the rest.
  const coarse = Math.max(TIMES_DIFFER_MS, offline ? OFFLINE_LATE_MS : clock.coarsenessMs);
  // Allocated at its size: a growing array reserves room for many elements.
  const windows = new Array<Window>(attempts.length);
  let before = 0;
  for (let k = 0; k < attempts.length; k++) {
    const { headerMs, responseMs } = attempts[k]!;
    const taken = responseMs ?? 0;
    const begin = start + Math.max(0, before - k * TIMES_DIFFER_MS);
    const answeredAfter = begin + Math.max(0, (headerMs ?? 0) - TIMES_DIFFER_MS);
    const endedAfter = begin + Math.max(0, taken - TIMES_DIFFER_MS);
    windows[k] = { begin, end: readAt, answeredAfter, endedAfter, writtenAfter };
    before += taken;
  }
  let after = 0;
  for (let k = attempts.length - 1; k >= 0; k--) {
    const window = windows[k]!;
    const { headerMs, responseMs } = attempts[k]!;
    const later = attempts.length - 1 - k;
    const over = written - (later > 0 ? Math.max(0, after - later * coarse) : 0);
    const unanswered =
      typeof headerMs === 'number' ? Math.max(0, (responseMs ?? headerMs) - headerMs - coarse) : 0;
    const sent = wasSent(line, k) === 'yes' ? over - unanswered : written + (offline ? TURN_MS : 0);
    window.end = Math.max(window.begin, Math.min(readAt, sent));
    after += responseMs ?? 0;
  }
  return windows;
}
