/** When the connection of an attempt can have been opened and closed, for an nginx that opens one for each. */
import type { ParsedLine } from '../model/line.ts';

/** All times are ms since the epoch. */
export interface TimedAttempt {
  /** The connection was opened at or after this time. */
  lo: number;
  /** The connection was open by this time of nginx's clock, which may be late (`ClockGrain`). */
  openBy: number;
  /** The connection ended at or after this time. */
  elo: number;
  /**
   * nginx checked its connections at this time and the attempt continued, so an answer that was complete before is not its.
   * With several workers, another one may have checked; `ClockGrain` detects a worker that stands still.
   */
  lookedAt: number;
  /** The attempt ended by this time of nginx's clock. */
  end: number;
  /** It ended at most this long after its connection was opened for it; Infinity where not logged. */
  took: number;
  /** It got its answer, so that only a keepalive pool can have kept the connection open longer. */
  answered: boolean;
  /** The connect took time, so the connection was opened for the attempt: one from a keepalive pool takes none. */
  fresh: boolean;
  /** Bytes that nginx wrote to the connection and read from it, at least; 0 where not logged. */
  sent: number;
  received: number;
  /** The backend, where other evidence has named it. */
  backend: string | undefined;
  /** It may have had no connection: it can explain one, but does not need one. */
  unconnected: boolean;
  /** It already explains a surplus connection, so it cannot explain a second one. */
  explains: boolean;
  /** The decision: the backend, or undefined where several are possible. */
  decided: boolean;
  outcome: string | undefined;
}

/**
 * Undefined where the line does not say when it was.
 *
 * All logged times are beginnings of nginx's event-loop turns (window.ts), so lower bounds are exact. A connection is
 * opened without waiting (EINPROGRESS), and nginx learns that it is up in a later turn, whose beginning is after the
 * handshake: `$upstream_connect_time` bounds its opening from above without any assumption on how long turns are. Each
 * duration is cut to whole milliseconds, hence a millisecond for each that is added up; `coarseMs`: what nginx's clock
 * adds to that (`ClockGrain`).
 */
export function timedAttempt(line: ParsedLine, k: number, coarseMs: number): TimedAttempt | undefined {
  const { attempts, endMs, requestMs } = line;
  const attempt = attempts[k]!;
  if (attempt.kind !== 'ip' || endMs === undefined || requestMs === undefined || line.endStepMs > 1)
    return undefined;
  let before = 0;
  for (let i = 0; i < k; i++) before += attempts[i]!.responseMs ?? 0;
  let after = 0;
  for (let i = k + 1; i < attempts.length; i++) after += attempts[i]!.responseMs ?? 0;
  const start = endMs - requestMs;
  const lo = before === 0 ? start : Math.max(start, start + before - k - coarseMs);
  const response = attempt.responseMs;
  const end =
    endMs + line.endStepMs - (after === 0 ? 0 : Math.max(0, after - (attempts.length - 1 - k) - coarseMs));
  const connect = attempt.connectMs;
  const rest = typeof response === 'number' && typeof connect === 'number' ? response - connect - 2 : 0;
  return {
    lo,
    openBy: Math.max(lo, rest > coarseMs ? end - rest + coarseMs : end),
    elo: lo + (typeof response === 'number' ? Math.max(0, response - 1 - coarseMs) : 0),
    lookedAt: -Infinity,
    end,
    took: typeof response === 'number' ? response + 2 + coarseMs : Infinity,
    answered: typeof attempt.headerMs === 'number',
    fresh: typeof connect === 'number' && connect > 0,
    sent: attempt.bytesSent ?? 0,
    received: attempt.bytesReceived ?? 0,
    backend: undefined,
    unconnected: !wasConnected(line, k),
    explains: false,
    decided: false,
    outcome: undefined,
  };
}

/** Whether it certainly had an established connection: it got an answer, or failed after the connect. */
function wasConnected(line: ParsedLine, k: number): boolean {
  const { connectMs, headerMs, status } = line.attempts[k]!;
  if (typeof headerMs === 'number') return true;
  if (typeof connectMs !== 'number') return false;
  const last = k === line.attempts.length - 1;
  // A failed connection is logged as 502, the only other end of a connected attempt without an answer.
  return status === 499 || status === 504 || (last && line.status === 499);
}
