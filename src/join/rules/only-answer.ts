import type { Attempt, ParsedLine } from '../../model/line.ts';
import { isResolved, type Outcome } from '../../model/outcome.ts';
import { Candidates } from '../candidates.ts';
import type { Answers } from '../index/answers.ts';
import type { Connection, Service } from '../index/connection.ts';
import type { FlowIndex } from '../index/flow-index.ts';
import type { Query, Verdict } from '../query.ts';
import { resolve } from '../resolve.ts';

/** Answers whose connections are used to find the pod's name. With more, the openings count as of any time. */
const MAX_NAMED_BY = 64;

/**
 * Statuses with which the last attempt may have got no answer: nginx sets them itself, also where the client fails
 * (src/http/ngx_http_request.h). A pod may send them as well.
 */
const MAYBE_MADE_UP = new Set([400, 408, 413, 444, 494, 495, 496, 497, 498, 499, 500, 502, 503, 504, 507]);

/** By the answers on the wire, if all that the line can have had are of one pod (`Answers`). */
export function matchByOnlyAnswer(query: Query, index: FlowIndex): Verdict | undefined {
  const { service, window } = query;
  // The answers on direct connections may be those to other Services' lines.
  if (!service || query.direct) return undefined;
  const answers = answersFor(query, service, index);
  if (!answers?.trust.trusts(window.end)) return undefined;
  const possible = answers.ofOnePod(query.line.content);
  if (!possible) {
    index.quiet.want(query.readAt);
    return undefined;
  }
  const remaining = new Candidates();
  for (let i = 0; i < possible.length && i < MAX_NAMED_BY; i++) remaining.add(possible[i]!.connection);
  if (possible.length > MAX_NAMED_BY) remaining.firstOpened = -Infinity;
  return { outcome: resolve(query, index, remaining, true, 'only-answer') };
}

/** Counts the attempt's answer as used, whichever evidence named its pod. Call it once per attempt, in the order of the log. */
export function spendAnswer(query: Query, outcome: Outcome, index: FlowIndex): void {
  const { service, window, attempt } = query;
  // Its answer may have been on a direct connection: one too many remains then, which costs names.
  if (!service || query.direct) return;
  const answers = answersFor(query, service, index);
  if (!answers) return;
  const { ip, port } = isResolved(outcome) ? outcome : attempt;
  const isNamed = isResolved(outcome) || outcome.reason === 'direct';
  const had = answers.spend(isNamed ? index.backend(ip, port) : undefined, query.line.content);
  answers.trust.seen(had, window.end);
  if (had) return;
  // The line's answer was not seen, or nginx did not pass its content on: other lines could be given the wrong one.
  answers.void(query.readAt, service.open);
  answers.compareNothing();
}

/** The Service's answers up to the line; undefined where the line's answer may not be among them. */
function answersFor(
  { line, readAt, attempt }: Query,
  service: Service,
  index: FlowIndex,
): Answers<Connection> | undefined {
  const { answers } = service;
  const { coverage, lineClock, quiet, blindSpots } = index;
  const { endMs } = line;
  const answered = wasAnswered(line, attempt);
  if (readAt === Infinity || endMs === undefined || answered === 'unknown') return undefined;
  const ready = answers.isReadyFor(endMs, readAt, quiet.before(endMs));
  const { since } = answers;
  if (since === Infinity) {
    quiet.want(readAt);
    return undefined;
  }
  const complete = coverage.isComplete('tap', since, readAt);
  const whole =
    complete &&
    since >= quiet.validFrom &&
    blindSpots.isServed(attempt.ip, since, readAt) &&
    !lineClock.runsAhead(readAt) &&
    !hasUnreadable(service, since) &&
    !hasUnreadable(index.unknown, since);
  if (!whole) answers.void(complete ? readAt : Math.min(readAt, coverage.lastGapEnd('tap')), service.open);
  // error_page and stale cache entries turn a failure into any status.
  const certain = answered === 'yes' || !answers.someFailed;
  return whole && ready && certain ? answers : undefined;
}

/** Whether an unreadable connection may have carried unseen answers after `since`. */
function hasUnreadable({ unreadable }: Service, since: number): boolean {
  for (const { closeTo } of unreadable) if (closeTo >= since) return true;
  return false;
}

/** Whether the attempt certainly got an answer: by its fields (`yes`), or only by the line's status. */
function wasAnswered({ status, attempts }: ParsedLine, attempt: Attempt): 'yes' | 'by-status' | 'unknown' {
  if (typeof attempt.headerMs === 'number') return 'yes';
  if (attempt.connectMs === null) return 'unknown';
  const ofAttempt = typeof attempt.status === 'number';
  const own = ofAttempt ? attempt.status : attempt === attempts.at(-1) ? status : undefined;
  if (typeof own !== 'number' || own <= 100 || MAYBE_MADE_UP.has(own)) return 'unknown';
  return ofAttempt ? 'yes' : 'by-status';
}
