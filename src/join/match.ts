import type { ParsedLine } from '../model/line.ts';
import type { Outcome } from '../model/outcome.ts';
import type { Service, TappedRequest } from './index/connection.ts';
import type { FlowIndex } from './index/flow-index.ts';
import type { Match } from './match-result.ts';
import { matchByElimination } from './rules/only-candidate.ts';
import { matchById } from './rules/request-id.ts';
import { attemptWindows, ranAcrossClockRollback, wasCarried } from './window.ts';

const NONE: readonly TappedRequest[] = [];

/**
 * Which pod served each attempt of a line.
 *
 * One idea: take every connection and request that could have served the attempt, drop those that contradict the
 * line, and if all that remain lead to one pod, and the record is whole over that time, that is the pod. Everything
 * here errs towards keeping a candidate: one too many leaves a line as it was, one too few can name a wrong pod.
 *
 * `readAt`: when the line was read, ms since the epoch.
 */
export function matchLine(line: ParsedLine, readAt: number, index: FlowIndex): Match {
  const { attempts } = line;
  const windows = attemptWindows(line, readAt, index.lineClock);
  const outcomes = new Array<Outcome>(attempts.length);
  const match: Match = { outcomes, matched: NONE, retryAtNextWatermark: false };
  const mistimed = ranAcrossClockRollback(line, index.coverage.repeatedUntil);
  for (let k = 0; k < attempts.length; k++) {
    const attempt = attempts[k]!;
    if (attempt.kind !== 'ip') {
      outcomes[k] = { reason: 'not-ip' };
      continue;
    }
    if (mistimed) {
      outcomes[k] = { reason: 'gap' };
      continue;
    }
    const service = index.service(attempt.ip, attempt.port);
    if (!outcomes[k] && line.id !== undefined && typeof attempt.localPort !== 'number') {
      matchById(line, k, windows, service, index, match);
    }
    const byId = outcomes[k];
    if (byId && ('evidence' in byId || byId.reason === 'ambiguous' || byId.reason === 'direct')) continue;
    const byElimination = matchByElimination(line, k, windows[k]!, readAt, service, index, match);
    if (!byId && 'evidence' in byElimination && hidesItsId(line, k, service))
      outcomes[k] = { reason: 'ambiguous' };
    else outcomes[k] = byId && 'reason' in byElimination ? byId : byElimination;
  }
  return match;
}

/**
 * The line has an id, the Service's requests carry ids, and this id was not among them. Its request was not seen, so the
 * requests that were seen say nothing about it, however few they are.
 */
function hidesItsId(line: ParsedLine, k: number, service: Service | undefined): boolean {
  if (line.id === undefined || service === undefined || !service.carriesIds) return false;
  return typeof line.attempts[k]!.localPort !== 'number' && wasCarried(line, k) !== 'no';
}
