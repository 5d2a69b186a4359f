import type { Flow } from '../model/feed.ts';
import type { Attempt } from '../model/line.ts';
import type { Evidence, Outcome, Resolved } from '../model/outcome.ts';
import type { Candidates } from './candidates.ts';
import type { Connection, Service } from './index/connection.ts';
import type { FlowIndex } from './index/flow-index.ts';
import { UNTIMED_MS, type Window } from './window.ts';

/** Whether every connection that was alive in the window was seen, and is still remembered. */
export function sawAllConnections(
  index: FlowIndex,
  service: Service | undefined,
  { answeredAfter, end }: Window,
): boolean {
  const from = answeredAfter === -Infinity ? end - UNTIMED_MS : answeredAfter;
  const since = Math.max(
    service === undefined ? index.servicesKnownSince : knownSince(service),
    index.unknown.connectionsKnownSince,
  );
  return since < from && index.coverage.isComplete('conntrack', from, end);
}

/** Where all connections that were forgotten led to the backend that all the others lead to, nothing was forgotten. */
function knownSince(service: Service): number {
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
 * The same for connections that carried no request. `earliest`: since when that is asked for where the line does not
 * say how long it took.
 */
export function sawAllUnusedConnections(
  index: FlowIndex,
  service: Service | undefined,
  { answeredAfter, end }: Window,
  earliest: number,
): boolean {
  const timed = answeredAfter !== -Infinity;
  const since = Math.max(
    service?.withoutRequestKnownSince ?? index.servicesKnownSince,
    index.unknown.withoutRequestKnownSince,
  );
  return (
    since < (timed ? answeredAfter : end - UNTIMED_MS) &&
    index.coverage.isComplete('conntrack', timed ? answeredAfter : earliest, end)
  );
}

/**
 * Whether every request of the window was seen, and is still remembered if it can be the one meant: what its record
 * says to have been over before `lastedUntil` cannot. `untimedFrom` as above.
 */
export function sawAllRequests(
  index: FlowIndex,
  service: Service | undefined,
  { begin, end }: Window,
  untimedFrom: number,
  lastedUntil: number,
): boolean {
  const timed = begin !== -Infinity;
  const since = Math.max(
    service?.requestsKnownSince ?? index.servicesKnownSince,
    index.unknown.requestsKnownSince,
  );
  return (
    since < (timed ? lastedUntil : untimedFrom) &&
    index.coverage.isComplete('tap', timed ? begin : untimedFrom, end)
  );
}

/** The one backend that remains, if the record is `whole`; else why there is none. */
export function resolve(
  attempt: Attempt,
  remaining: Candidates,
  whole: boolean,
  window: Window,
  index: FlowIndex,
  evidence: Evidence,
): Outcome {
  const backend = remaining.sole;
  if (backend && whole) {
    const { ip, port } = backend;
    // Of a Service's only backend not all connections were looked at.
    const all = evidence !== 'sole-backend';
    const first = all ? remaining.firstOpened : -Infinity;
    const last = all ? remaining.lastOpened : window.end;
    const name = index.names.of(ip, first, last, window.end);
    if (ip === attempt.ip && port === attempt.port)
      return name ? { reason: 'direct', name } : { reason: 'direct' };
    const resolved: Resolved = { evidence, ip, port };
    if (name) resolved.name = name;
    const only = remaining.only;
    if (only && all) resolved.flow = flowOf(only);
    return resolved;
  }
  if (!whole) return { reason: window.end > index.coverage.watermark ? 'late' : 'gap' };
  return { reason: remaining.several ? 'ambiguous' : 'no-flow' };
}

/** As the outcomes of all its lines share it. */
function flowOf(connection: Connection): Flow {
  if (connection.flow === undefined) {
    const { src, sport, service, backend } = connection;
    const { vip, vport } = service;
    const dialled = vip === undefined || vport === undefined ? {} : { vip, vport };
    connection.flow = { src, sport, ...dialled, ip: backend.ip, port: backend.port };
  }
  return connection.flow;
}
