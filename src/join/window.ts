import type { ParsedLine } from '../record/line.ts';

/**
 * How far an event's logged or read time may trail what nginx's cached clock says (ms). nginx's clock is read once
 * per event-loop turn, so a long turn dates its events early. Generous, as it only ever adds candidates.
 */
export const CLOCK_SLACK_MS = 250;

/**
 * A line that says nothing of its duration is taken to have ended its exchange with the upstream at most this long
 * before it was written (ms): nginx's own default read and send time-outs.
 */
export const UNTIMED_MS = 60_000;

/** When an attempt can have happened, ms since the epoch. All bounds are inclusive and err towards wider. */
export interface Window {
  /** The request cannot have been sent before; -Infinity where the line does not say. */
  begin: number;
  /** The request cannot have been sent after. */
  end: number;
  /** The exchange cannot have ended before: the connection was alive then. */
  endedAfter: number;
  /** From when on the record of requests must be whole for a claim. */
  wholeFrom: number;
}

/**
 * The latest instant that a line can speak of. Nothing that happened after the line was read can have served it.
 */
export function lineEnd(line: ParsedLine, readAt: number): number {
  if (line.endMs === undefined) return readAt;
  return Math.min(readAt, line.endMs + line.endStepMs + CLOCK_SLACK_MS);
}

/**
 * Windows of the line's attempts, in step with them. Attempts follow one another, so the response times of those
 * before push the beginning later and those after pull the end earlier; each logged time is cut to whole
 * milliseconds, hence one millisecond of tolerance an attempt.
 */
export function attemptWindows(line: ParsedLine, readAt: number): Window[] {
  const { attempts } = line;
  const last = lineEnd(line, readAt);
  const start =
    line.endMs !== undefined && line.requestMs !== undefined ? line.endMs - line.requestMs : -Infinity;
  const windows: Window[] = [];
  let before = 0;
  for (let k = 0; k < attempts.length; k++) {
    const taken = attempts[k]!.responseMs ?? 0;
    const begin = start + Math.max(0, before - k);
    windows.push({ begin, end: last, endedAfter: begin + Math.max(0, taken - 1), wholeFrom: begin });
    before += taken;
  }
  let after = 0;
  for (let k = attempts.length - 1; k >= 0; k--) {
    const window = windows[k]!;
    const taken = attempts[k]!.responseMs ?? 0;
    const ended = last - Math.max(0, after - (attempts.length - 1 - k));
    if (start === -Infinity) {
      window.endedAfter = ended - UNTIMED_MS;
      window.wholeFrom = window.endedAfter - taken;
    }
    window.end = Math.max(window.begin, ended);
    after += taken;
  }
  return windows;
}
