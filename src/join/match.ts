import type { ParsedLine } from '../model/line.ts';
import { isResolved, type Outcome, type Resolved } from '../model/outcome.ts';
import type { TappedRequest } from './index/connection.ts';
import type { FlowIndex } from './index/flow-index.ts';
import type { Match } from './match-result.ts';
import { type Query, queriesOf, type Rule, type Verdict } from './query.ts';
import { matchByByteCounts } from './rules/byte-counts.ts';
import { matchByLogRecord } from './rules/log-record.ts';
import { matchByOnlyAnswer, spendAnswer } from './rules/only-answer.ts';
import { matchByRequestId, requestsFor } from './rules/request-id.ts';
import { matchByRequestWindow } from './rules/request-window.ts';
import { matchBySoleBackend } from './rules/sole-backend.ts';
import { matchBySourcePort } from './rules/source-port.ts';
import { matchByTrace } from './rules/trace.ts';
import type { TracedLine } from './traced-line.ts';
import { ranAcrossClockRollback, UNTIMED_MS } from './window.ts';

const NONE: readonly TappedRequest[] = [];
const NOT_IP: Outcome = { reason: 'not-ip' };
const GAP: Outcome = { reason: 'gap' };
const UNCONNECTED: Outcome = { reason: 'unconnected' };
const AMBIGUOUS: Verdict = { outcome: { reason: 'ambiguous' }, final: true };

/**
 * The rules, strongest evidence first. The first that names a pod wins; a final verdict ends the search. If none names one,
 * the outcome is the reason of the first rule that applies. docs/evidence.md has each assumption with the observation that
 * refutes it.
 *
 * | rule | assumes |
 * | --- | --- |
 * | trace | nginx's memory was read as it is, from all workers of the log; every connection from the port was seen |
 * | request-id | every request on the wire with this id was seen; requests whose id a client may have written are candidates too |
 * | source-port | every connection from this port was seen |
 * | log-record | the kernel logged the connection that opened for this attempt |
 * | sole-backend | every connection to the Service that can have been open was seen |
 * | byte-counts | the counts of the Service's lines are those of the wire (`Trust`) |
 * | request-window | every request to the Service in the window was seen, whoever sent it |
 * | only-answer | every answer since the last quiet moment was seen; each answered line had one, before it was read |
 */
const RULES: readonly Rule[] = [
  matchByTrace,
  matchByRequestId,
  matchBySourcePort,
  matchByLogRecord,
  whereNothingIsMissing(matchBySoleBackend),
  whereNothingIsMissing(matchByByteCounts),
  whereNothingIsMissing(matchByRequestWindow),
  whereNothingIsMissing(matchByOnlyAnswer),
];

/**
 * Which pod served each attempt of a line.
 *
 * One idea: take every connection and request that could have served the attempt, drop those that contradict the
 * line, and if all that remain lead to one pod, and the record is complete over that time, that is the pod. Everything
 * here errs towards keeping a candidate: one too many leaves a line as it was, one too few can name a wrong pod.
 *
 * `readAt`: when the line was read, ms since the epoch.
 */
export function matchLine(line: ParsedLine, readAt: number, index: FlowIndex, traced?: TracedLine): Match {
  const queries = queriesOf(line, readAt, index, traced);
  const outcomes = new Array<Outcome>(queries.length);
  const mistimed = ranAcrossClockRollback(line, index.coverage.repeatedUntil);
  let matched = NONE;
  let retryAtNextWatermark = false;
  for (let k = 0; k < queries.length; k++) {
    const query = queries[k];
    if (query === undefined || mistimed) {
      outcomes[k] = query === undefined ? NOT_IP : GAP;
      continue;
    }
    let chosen: Verdict | undefined;
    for (const rule of RULES) {
      const verdict = rule(query, index);
      if (!verdict) continue;
      learn(query, verdict);
      retryAtNextWatermark ||= verdict.retryAtNextWatermark === true;
      const ends = verdict.final || isResolved(verdict.outcome);
      if (ends || !chosen) chosen = verdict;
      if (ends) break;
    }
    outcomes[k] = connected(query, chosen!.outcome);
    if (chosen!.matched) matched = matched === NONE ? [chosen!.matched] : [...matched, chosen!.matched];
  }
  return { outcomes: shared(outcomes, matched), matched, retryAtNextWatermark, queries };
}

/** The list of the connection where it says the same: those of recent lines are kept, and most are of few connections. */
function shared(outcomes: readonly Outcome[], matched: readonly TappedRequest[]): readonly Outcome[] {
  const named = matched[0]?.connection.named;
  return named && outcomes.length === 1 && outcomes[0] === named[0] ? named : outcomes;
}

/** The outcomes stand: what the line had, no other line can have. In the order of the log. */
export function settleLine({ outcomes, queries }: Match, index: FlowIndex): void {
  for (let k = 0; k < queries.length; k++) {
    const query = queries[k];
    if (query) spendAnswer(query, outcomes[k]!, index);
  }
}

/** If nginx got no connection, no pod answered, whatever the reason of the rules. */
function connected({ carried }: Query, outcome: Outcome): Outcome {
  if (carried !== 'no' || isResolved(outcome)) return outcome;
  return outcome.reason === 'ambiguous' || outcome.reason === 'no-flow' ? UNCONNECTED : outcome;
}

/**
 * The rule, but `ambiguous` where the record lacks the line's request, or a recent line of the Service had no counterpart in
 * the record: the rule would choose among the requests and connections that were seen.
 */
function whereNothingIsMissing(rule: Rule): Rule {
  return (query, index) => {
    const verdict = rule(query, index);
    if (!verdict || !isResolved(verdict.outcome)) return verdict;
    const { service, window } = query;
    const begin = window.begin === -Infinity ? window.writtenAfter - UNTIMED_MS : window.begin;
    const missing =
      lacksItsRequest(query) ||
      service?.trust.trusts(begin) === false ||
      isUnexplained(query, verdict.outcome);
    return missing ? { ...AMBIGUOUS, hasCounterpart: verdict.hasCounterpart } : verdict;
  };
}

/** Whether no Service is known by which a direct connection to the pod could be of this attempt. */
function isUnexplained({ service, direct }: Query, { ip, port }: Resolved): boolean {
  if (!direct) return false;
  for (const backend of service?.backends.keys() ?? [])
    if (backend.ip === ip && backend.port === port) return false;
  return !direct.isEndpoint(ip, port);
}

function learn({ service, window }: Query, { hasCounterpart }: Verdict): void {
  if (hasCounterpart !== undefined) service?.trust.seen(hasCounterpart, window.end);
}

/** Whether the line has an id, and the requests of its Service have ids, but none of them this one. */
function lacksItsRequest(query: Query): boolean {
  const { line, service, direct, attempt, carried } = query;
  if (line.id === undefined || typeof attempt.localPort === 'number' || carried === 'no') return false;
  const carriesIds = direct ? direct.services.some((each) => each.carriesIds) : service?.carriesIds === true;
  return carriesIds && requestsFor(query).length === 0;
}
