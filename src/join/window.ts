import type { ParsedLine } from '../model/line.ts';
import { type LineClock, OFFLINE_LATE_MS } from './line-clock.ts';

/**
 * How far an attempt that got no answer may trail the time of its line (ms): nginx reads its clock once per turn of its
 * event loop, so within one turn everything is dated to its beginning. Only ever adds candidates.
 */
export const TURN_MS = 10_000;

/**
 * How far a logged upstream time may differ from the turns it is the difference of (ms): it is cut to whole
 * milliseconds, and nginx 1.13.10 to 1.21.3 took these times from a clock that moves by a jiffy, up to 10 ms.
 */
const TIMES_DIFFER_MS = 11;

/**
 * A line that says nothing of its duration may be of any length. All connections and requests that are remembered are
 * candidates for it; that none was missed is asked for only this long before the line was written (ms), which covers
 * a log buffer's usual `flush=5s`.
 */
export const UNTIMED_MS = 10_000;

/** Statuses that nginx makes up itself when an upstream gave no answer. */
const MADE_UP = new Set([499, 502, 503, 504]);

/** Whether the attempt got an answer (so its request was on the wire), never connected, or neither is certain. */
export type Sent = 'yes' | 'no' | 'unknown';

export function wasSent(line: ParsedLine, k: number): Sent {
  const attempt = line.attempts[k]!;
  if (typeof attempt.headerMs === 'number') return 'yes';
  if (attempt.connectMs === null) return 'no';
  // The line's own $status proves nothing: error_page and stale cache entries turn failures into 200.
  return typeof attempt.status === 'number' && !MADE_UP.has(attempt.status) ? 'yes' : 'unknown';
}

/**
 * Whether the attempt's request was on the wire: also where no answer tells it, but bytes were taken by a connection.
 * When that was, such an attempt does not say (`wasSent`).
 */
export function wasCarried(line: ParsedLine, k: number): Sent {
  return (line.attempts[k]!.bytesSent ?? 0) > 0 ? 'yes' : wasSent(line, k);
}

/** When an attempt can have happened, ms since the epoch. All bounds are inclusive and err towards wider. */
export interface Window {
  /** The request cannot have been sent before; -Infinity where the line does not say. */
  begin: number;
  /** The request cannot have been sent after. */
  end: number;
  /**
   * The answer cannot have begun before, so conntrack had the connection then: later it may have forgotten it, as nginx
   * can read on for minutes after the backend's end has come. -Infinity where the line does not say.
   */
  answeredAfter: number;
  /** The exchange cannot have ended before: no other request began on the connection. -Infinity likewise. */
  endedAfter: number;
}

/**
 * The latest instant that matters for the line: with a watermark not before it, all its evidence has arrived. `slackMs`:
 * how much later than the line says it is looked for.
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
 * Whether the clock was set back while the request ran. nginx takes `$request_time` from the clock of the day and logs 0
 * for less than that (src/http/modules/ngx_http_log_module.c); `$upstream_response_time` is from a clock that is never
 * set, and all of them together are never longer. `toldBefore`: up to when times have come twice (`Coverage`).
 */
export function ranAcrossClockRollback(
  { attempts, endMs, requestMs }: ParsedLine,
  toldBefore: number,
): boolean {
  if (requestMs === undefined) return false;
  let taken = 0;
  let told = 0;
  for (const { responseMs } of attempts) {
    if (typeof responseMs !== 'number') continue;
    told++;
    taken += responseMs - TIMES_DIFFER_MS;
  }
  if (taken > requestMs) return true;
  return requestMs === 0 && told === 0 && endMs !== undefined && endMs < toldBefore;
}

/**
 * Windows of the line's attempts, in step with them.
 *
 * nginx dates what it does by the beginning of the event-loop turn it does it in (src/core/ngx_times.c), so a logged
 * time is never later than the real one, and all logged times are differences of turns. Attempts follow one another:
 * the times of those before push the beginning later, those after pull the end earlier. An answer is taken in a later
 * turn than the one that sent the request, so a request was out when its answer's turn began. Each time that is added
 * up brings its tolerance.
 */
export function attemptWindows(line: ParsedLine, readAt: number, clock: LineClock, behindMs = 0): Window[] {
  const { attempts, endMs, requestMs } = line;
  const timed = endMs !== undefined && requestMs !== undefined && !clock.runsAhead(readAt);
  const start = timed ? endMs - requestMs - behindMs : -Infinity;
  const offline = readAt === Infinity;
  const written = !offline || endMs === undefined ? readAt : endMs + line.endStepMs + OFFLINE_LATE_MS;
  // Logged durations may be longer than real ones by what the clock lags: they pull an end earlier only by what is left.
  const coarse = Math.max(TIMES_DIFFER_MS, offline ? OFFLINE_LATE_MS : clock.coarsenessMs);
  // An array that grows takes room for many from the first element on.
  const windows = new Array<Window>(attempts.length);
  let before = 0;
  for (let k = 0; k < attempts.length; k++) {
    const { headerMs, responseMs } = attempts[k]!;
    const taken = responseMs ?? 0;
    const begin = start + Math.max(0, before - k * TIMES_DIFFER_MS);
    const answeredAfter = begin + Math.max(0, (headerMs ?? 0) - TIMES_DIFFER_MS);
    const endedAfter = begin + Math.max(0, taken - TIMES_DIFFER_MS);
    windows[k] = { begin, end: readAt, answeredAfter, endedAfter };
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
