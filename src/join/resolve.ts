import type { Flow } from '../model/feed.ts';
import type { Evidence, Outcome, Resolved } from '../model/outcome.ts';
import type { Candidates } from './candidates.ts';
import type { Connection, Service } from './index/connection.ts';
import type { FlowIndex } from './index/flow-index.ts';
import type { Query } from './query.ts';
import { UNTIMED_MS } from './window.ts';

/** Whether every connection that existed in the window was seen and is in the index. */
export function sawAllConnections(query: Query, index: FlowIndex): boolean {
  const { window, attempt } = query;
  const { answeredAfter, end, writtenAfter } = window;
  const from = answeredAfter === -Infinity ? writtenAfter - UNTIMED_MS : answeredAfter;
  const since = knownSince(query, index, 'connectionsKnownSince');
  return (
    since < from &&
    beganWithinRecord(query, index) &&
    index.blindSpots.isServed(attempt.ip, from, end) &&
    index.coverage.isComplete('conntrack', from, end)
  );
}

/**
 * Whether every connection that was open at the attempt's time is in the index. Of one that was closed by then no line may still
 * come, so less has to be remembered than for `sawAllConnections`.
 */
export function sawAllOpen(query: Query, index: FlowIndex): boolean {
  const { begin, end } = query.window;
  return (
    knownSince(query, index, 'openKnownSince') < begin &&
    index.blindSpots.isServed(query.attempt.ip, begin, end) &&
    index.coverage.isComplete('conntrack', begin, end)
  );
}

/**
 * Whether the connection that carried the attempt's request is in the index, by the packets themselves: one that carries data and
 * is not known is a gap. A line without times does not tell when its request passed.
 */
export function sawItsPackets(query: Query, index: FlowIndex): boolean {
  const { window, attempt, carried } = query;
  const { begin, end, answeredAfter } = window;
  return (
    carried === 'yes' &&
    begin !== -Infinity &&
    index.coverage.tapTellsOpenings &&
    knownSince(query, index, 'connectionsKnownSince') < answeredAfter &&
    index.blindSpots.isServed(attempt.ip, begin, end) &&
    index.coverage.isComplete('tap', begin, end)
  );
}

/**
 * Whether the request began within the record. A line without times may be of a request that began before it, as a
 * client can take any time. Open client connections show until when this is possible (`BlindSpots`); nginx may buffer
 * lines for `UNTIMED_MS`.
 */
export function beganWithinRecord({ window }: Query, { blindSpots }: FlowIndex): boolean {
  return window.begin !== -Infinity || blindSpots.isWithinRecord(window.writtenAfter - UNTIMED_MS);
}

/** From when on all that may be the attempt's is in the index, ms since the epoch. */
function knownSince(
  { service, direct }: Query,
  index: FlowIndex,
  what: 'connectionsKnownSince' | 'openKnownSince' | 'withoutRequestKnownSince' | 'requestsKnownSince',
): number {
  if (direct) {
    // A backend's address may be forgotten like a Service's.
    let since = index.servicesKnownSince;
    for (const each of direct.services) since = Math.max(since, each[what]);
    return since;
  }
  const own = what === 'connectionsKnownSince' ? connectionsKnownSince : (each: Service) => each[what];
  return Math.max(service ? own(service) : index.servicesKnownSince, index.unknown[what]);
}

/** If all forgotten connections and all others led to the same backend, the forgotten ones change nothing. */
function connectionsKnownSince(service: Service): number {
  if (
    service.backends.size === 1 &&
    service.forgottenBackend &&
    service.backends.has(service.forgottenBackend)
  ) {
    return -Infinity;
  }
  return service.connectionsKnownSince;
}

/**
 * Whether every connection without a request that existed in the window was seen and is in the index. `untimedFrom`:
 * the beginning of that time for a line without times, ms since the epoch.
 */
export function sawAllUnusedConnections(query: Query, index: FlowIndex, untimedFrom: number): boolean {
  const { window, attempt } = query;
  const { answeredAfter, end } = window;
  const timed = answeredAfter !== -Infinity;
  return (
    remembersUnusedConnections(query, index) &&
    index.blindSpots.isServed(attempt.ip, timed ? answeredAfter : untimedFrom, end) &&
    index.coverage.isComplete('conntrack', timed ? answeredAfter : untimedFrom, end)
  );
}

/** Whether the index still has every connection without a request that it had of the window. */
export function remembersUnusedConnections(query: Query, index: FlowIndex): boolean {
  const { answeredAfter, writtenAfter } = query.window;
  const since = knownSince(query, index, 'withoutRequestKnownSince');
  return since < (answeredAfter === -Infinity ? writtenAfter - UNTIMED_MS : answeredAfter);
}

/**
 * Whether every request in the window was seen, and every one that may match is in the index: one whose exchange ended
 * before `lastedUntil` cannot match. `untimedFrom`: the beginning of that time for a line without times.
 */
export function sawAllRequests(
  query: Query,
  index: FlowIndex,
  untimedFrom: number,
  lastedUntil: number,
): boolean {
  const { window, attempt } = query;
  const { begin, end } = window;
  const timed = begin !== -Infinity;
  const since = knownSince(query, index, 'requestsKnownSince');
  return (
    since < (timed ? lastedUntil : untimedFrom) &&
    index.blindSpots.isServed(attempt.ip, timed ? begin : untimedFrom, end) &&
    index.coverage.isComplete('tap', timed ? begin : untimedFrom, end)
  );
}

/** The one backend that remains, if the record is `complete`; otherwise the reason why there is none. */
export function resolve(
  { attempt, window }: Query,
  index: FlowIndex,
  remaining: Candidates,
  complete: boolean,
  evidence: Evidence,
): Outcome {
  const backend = remaining.sole;
  if (backend && complete) {
    const { ip, port } = backend;
    // With one backend, not all connections were visited: their openings may be of any time.
    const all = evidence !== 'sole-backend';
    const first = all ? remaining.firstOpened : -Infinity;
    const last = all ? remaining.lastOpened : window.end;
    const name = index.names.of(ip, first, last, window.end);
    if (ip === attempt.ip && port === attempt.port) {
      return name ? { reason: 'direct', name } : { reason: 'direct' };
    }
    const only = all ? remaining.only : undefined;
    const same = only?.named?.[0];
    if (same?.evidence === evidence && same.name === name) return same;
    const resolved: Resolved = { evidence, ip, port };
    if (name) resolved.name = name;
    if (only) {
      resolved.flow = flowOf(only);
      only.named = [resolved];
    }
    return resolved;
  }
  if (!complete) return { reason: window.end > index.coverage.watermark ? 'late' : 'gap' };
  return { reason: remaining.several ? 'ambiguous' : 'no-flow' };
}

/** One object for all outcomes of the connection. */
function flowOf(connection: Connection): Flow {
  if (connection.flow === undefined) {
    const { src, sport, service, backend } = connection;
    const { vip, vport } = service;
    const dialed = vip === undefined || vport === undefined ? {} : { vip, vport };
    connection.flow = { src, sport, ...dialed, ip: backend.ip, port: backend.port };
  }
  return connection.flow;
}
