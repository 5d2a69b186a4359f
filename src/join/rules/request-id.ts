import type { ParsedLine } from '../../model/line.ts';
import {
  addUnreadable,
  addUnusedConnections,
  Candidates,
  MAX_LOOKED_AT,
  mayBe,
  servicesOf,
} from '../candidates.ts';
import type { Service, TappedRequest } from '../index/connection.ts';
import type { FlowIndex } from '../index/flow-index.ts';
import { orderedAssignments } from '../ordered-assignments.ts';
import type { Group, GroupRequests, Query, Verdict } from '../query.ts';
import { beganWithinRecord, resolve, sawAllRequests, sawAllUnusedConnections } from '../resolve.ts';
import { UNTIMED_MS } from '../window.ts';

/** Where the line has no times: how long before the first request with its id the record has to be complete (ms). */
const BEFORE_SEEN_MS = 250;
/** Longest duration of a connect (ms): Linux ends it after 127 s, nginx by default after 60. */
const LONGEST_CONNECT_MS = 130_000;
/** How long after a request without an id a location that sets none is assumed to exist (ms). */
const WITHOUT_ID_KEPT_MS = 3_600_000;

const NONE: readonly TappedRequest[] = [];

/**
 * By the id on the wire, for all attempts on the same address together: nginx makes them one after another, so only
 * assignments that keep the order of the wire are possible.
 */
export function matchByRequestId(query: Query, index: FlowIndex): Verdict | undefined {
  const { line, attempt, window, group, carried } = query;
  if (line.id === undefined || typeof attempt.localPort === 'number') return undefined;
  if (group.requests === undefined) group.requests = requestsOf(line, group.queries, index) ?? null;
  if (group.requests === null) return undefined;
  const { seen, complete, mayHaveIdOfClient } = group.requests;
  const requests = requestsFor(query);
  if (requests.length === 0) return undefined;
  const remaining = new Candidates();
  if (lacksRequests(group, seen)) remaining.several = true;
  for (const request of requests) remaining.add(request.connection);
  addOthers(mayHaveIdOfClient, query, index, remaining);
  if (isOfAnotherService(query, requests)) remaining.several = true;
  const certain = carried === 'yes';
  if (!certain && mayBeRefusedUnseen(query, requests, remaining)) remaining.several = true;
  const untimedFrom = seen[0]!.from - BEFORE_SEEN_MS;
  let retryAtNextWatermark = false;
  if (!certain && !remaining.several) {
    // If the attempt was not sent, its connection opened for it and carried nothing. The request with its id then belongs
    // to another one, such as a mirror's, which began at the same time: the connection is not older than a connect can
    // take. Without this bound one refused connection would contradict every later line that has no times.
    const dialedAfter = Math.max(window.begin, seen[0]!.from - LONGEST_CONNECT_MS * group.queries.length);
    retryAtNextWatermark = addUnusedConnections(query, dialedAfter, index, remaining);
  }
  const sawAll = complete && (certain || sawAllUnusedConnections(query, index, untimedFrom));
  const outcome = resolve(query, index, remaining, sawAll, 'request-id');
  const resolved = 'evidence' in outcome;
  return {
    outcome,
    final: resolved || outcome.reason === 'ambiguous' || outcome.reason === 'direct',
    hasCounterpart: true,
    matched: resolved && requests.length === 1 ? requests[0] : undefined,
    retryAtNextWatermark,
  };
}

/** The requests with the line's id that may be this attempt's. */
export function requestsFor({ group, place, carried }: Query): readonly TappedRequest[] {
  if (!group.requests) return NONE;
  const { seen, possible } = group.requests;
  return possible ? possible[place]! : carried === 'no' ? NONE : seen;
}

/** The requests with the line's id that fit an attempt of the group; undefined where none does. */
function requestsOf(
  line: ParsedLine,
  queries: readonly Query[],
  index: FlowIndex,
): GroupRequests | undefined {
  let seen: TappedRequest[] | undefined;
  for (let request = index.requestsWithId(line.id!); request; request = request.older) {
    index.counters.visited += queries.length;
    if (!mayBeAny(request, queries)) continue;
    if (seen) seen.push(request);
    else seen = [request];
  }
  if (!seen) return undefined;
  seen.reverse();
  const complete = queries.every((query) => sawAllWithId(query, seen[0]!, index));
  const mayHaveIdOfClient =
    idMayBeFromClient(seen, queries[0]!, index) || mayBeOfSubrequests(seen, line, queries, index);
  if (queries.length === 1) return { seen, complete, mayHaveIdOfClient, possible: undefined };
  // A request that has not the line's id may belong to any attempt of the group, and would shift the others too.
  const others = new Candidates();
  for (const query of queries) addOthers(mayHaveIdOfClient, query, index, others);
  const possible = others.none
    ? orderedAssignments(queries, seen)
    : queries.map((query) => seen.filter((request) => mayBe(request, query)));
  return { seen, complete, mayHaveIdOfClient, possible };
}

/**
 * Whether every request with the id that may be of the attempt's group was seen: one that was missed would shift all others of an
 * assignment. For a line without times the record has to be complete from shortly before the first one, `first`. Where the id may be
 * on the wire again at any later time, with a retry, or because it is not nginx's own, one before the record would be missed.
 */
function sawAllWithId(query: Query, first: TappedRequest, index: FlowIndex): boolean {
  const { line, window, group } = query;
  let untimedFrom = first.from - BEFORE_SEEN_MS;
  if (line.idRecurs || group.queries.length > 1) {
    if (!beganWithinRecord(query, index)) return false;
    untimedFrom = Math.min(untimedFrom, window.writtenAfter - UNTIMED_MS);
  }
  return sawAllRequests(query, index, untimedFrom, window.endedAfter);
}

function mayBeAny(request: TappedRequest, queries: readonly Query[]): boolean {
  for (let k = 0; k < queries.length; k++) if (mayBe(request, queries[k]!)) return true;
  return false;
}

/** Adds the requests that may be the attempt's without having the line's id. */
function addOthers(withIdOfClient: boolean, query: Query, index: FlowIndex, remaining: Candidates): void {
  addWithoutReadableId(query.line.id!, query, index, remaining);
  if (!withIdOfClient) return;
  for (const each of servicesOf(query, index)) addFitting(each.requests, query, index, remaining, query.line);
}

/**
 * nginx may forward the id in some locations only. So a request in the window without a readable id may be the attempt's,
 * while those with the id are an auth_request's or a mirror's. Its target proves nothing, as nginx may have rewritten it.
 * The same holds for requests beyond the limit for one id.
 */
function addWithoutReadableId(id: string, query: Query, index: FlowIndex, remaining: Candidates): void {
  addUnreadable(query, index, remaining, { byId: true });
  for (const each of servicesOf(query, index)) {
    addFitting(each.requestsWithoutId, query, index, remaining);
    const { requestsWithRepeatedId: repeated } = each;
    if (repeated.size > 0) addFitting(repeated.get(id) ?? NONE, query, index, remaining);
  }
}

/** With `line`, only those whose id a client may have written. */
function addFitting(
  others: readonly TappedRequest[],
  query: Query,
  index: FlowIndex,
  remaining: Candidates,
  line?: ParsedLine,
): void {
  let visited = 0;
  for (let i = others.length - 1; i >= 0; i--) {
    const other = others[i]!;
    if (other.to < query.window.begin) break;
    index.counters.visited++;
    if (++visited > MAX_LOOKED_AT) remaining.several = true;
    if (remaining.several) return;
    if (other.forgotten || (line && !mayHaveIdFromClient(other, line))) continue;
    if (mayBe(other, query)) remaining.add(other.connection);
  }
}

/**
 * Whether fewer requests have the id than attempts were certainly sent: one of them has another id, such as the client's
 * where an error page leads to a location that passes it on, and it is not certain which.
 */
function lacksRequests({ queries }: Group, seen: readonly TappedRequest[]): boolean {
  if (queries.length === 1) return false;
  let sent = 0;
  for (const { carried } of queries) if (carried === 'yes') sent++;
  return seen.length < sent;
}

/** Whether a client may have written the id: passed on by a location that sets none, or in a body in chunks. */
function idMayBeFromClient(requests: readonly TappedRequest[], query: Query, index: FlowIndex): boolean {
  const passes = servicesOf(query, index).some((each) => passesIds(each, query.window.end));
  for (const { idBeforeHost, afterChunks } of requests)
    if (afterChunks || (passes && !idBeforeHost)) return true;
  return false;
}

/** Whether a location may pass the id of a client on to the Service at `t` (ms since the epoch). */
function passesIds({ idsBeforeHost, lastWithoutIdAt }: Service, t: number): boolean {
  return idsBeforeHost || t - lastWithoutIdAt < WITHOUT_ID_KEPT_MS;
}

/**
 * Whether fewer of the requests have the line's method and target than attempts may have been sent, and the Service has
 * requests with ids of clients: the rest may be of an `auth_request` or a mirror, while an attempt's own has its client's id.
 */
function mayBeOfSubrequests(
  seen: readonly TappedRequest[],
  line: ParsedLine,
  queries: readonly Query[],
  index: FlowIndex,
): boolean {
  const { service, direct } = queries[0]!;
  const others = direct
    ? direct.services.some(({ idsBehindHost }) => idsBehindHost)
    : service?.idsBehindHost || index.unknown.idsBehindHost;
  if (!others) return false;
  let missing = 0;
  for (const { carried } of queries) if (carried !== 'no') missing++;
  // Of one behind Host the Service's other requests have to tell (`idMayBeFromClient`).
  for (const request of seen) if (!request.idBeforeHost || isAlike(request, line)) missing--;
  return missing > 0;
}

/** Whether method and target are those of the line, whose texts are made when they are asked for. */
function isAlike({ method, target }: TappedRequest, line: ParsedLine): boolean {
  return target !== undefined && target === line.path && method === line.method;
}

/** Whether all requests with the id are on connections that are another Service's, by what is known of endpoints so far. */
function isOfAnotherService({ service, direct }: Query, requests: readonly TappedRequest[]): boolean {
  if (!direct) return false;
  for (const { connection } of requests) {
    const { service: dialed } = connection;
    if (dialed === service || dialed.vip === undefined || !direct.contradicts(connection)) return false;
  }
  return true;
}

/**
 * Whether the attempt may have been refused without a packet: a load balancer in connect() does so where the Service has no
 * endpoint. The request with the id is then another's: of an `auth_request`, or of the line's attempt on another address.
 */
function mayBeRefusedUnseen(
  { line, window, service, direct, group }: Query,
  requests: readonly TappedRequest[],
  { sole }: Candidates,
): boolean {
  if (!direct || requests.every(({ connection }) => connection.service === service)) return false;
  if (line.attempts.length > group.queries.length) return true;
  return sole !== undefined && !direct.isEndpointAt(sole.ip, sole.port, window.end);
}

/**
 * If a client wrote the id, the request with it can be another one's. The attempt's request then has an id from a client
 * too, or none, and no other line was resolved by it.
 */
function mayHaveIdFromClient({ idBeforeHost, matched, id }: TappedRequest, line: ParsedLine): boolean {
  return !idBeforeHost && (!matched || id === line.id);
}
