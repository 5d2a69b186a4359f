import { countsAllow, mayBeInPieces, mayHold } from './byte-counts.ts';
import {
  type Backend,
  type Connection,
  LINGER_MS,
  type Service,
  servedUntil,
  type TappedRequest,
} from './index/connection.ts';
import { HIDDEN_KEPT_MS } from './index/counted-requests.ts';
import type { FlowIndex } from './index/flow-index.ts';
import type { Query } from './query.ts';

/** Requests visited for one attempt where no id selects them. With more in the window, the attempt is `ambiguous`. */
export const MAX_LOOKED_AT = 512;
/** The same where byte counts select them. */
export const MAX_COUNTED = 4_096;
/** Connections visited for one attempt where its port does not select them. With more, any backend is possible. */
const MAX_VISITED_CONNECTIONS = 4_096;
/** The first request of a connection that opened within this time before the line's end may not have arrived (ms). */
const NEW_CONNECTION_GRACE_MS = 100;
/** Events of one source may arrive this much out of order (ms). */
const DISORDER_MS = 5_000;

/** The backends that remain possible: none, one, or more than one. */
export class Candidates {
  backend: Backend | undefined;
  /** More than one backend, or more candidates than are examined: any backend is possible then. */
  several = false;
  /** The last one added. */
  connection: Connection | undefined;
  /** When the first and the last connection were opened, ms since the epoch. */
  firstOpened = Infinity;
  lastOpened = -Infinity;
  #connections = 0;

  add(connection: Connection): void {
    const { backend } = connection;
    if (this.connection !== connection) this.#connections++;
    this.connection = connection;
    this.firstOpened = Math.min(this.firstOpened, connection.openTo);
    this.lastOpened = Math.max(this.lastOpened, connection.openTo);
    if (this.backend === undefined) this.backend = backend;
    else if (this.backend.ip !== backend.ip || this.backend.port !== backend.port) this.several = true;
  }

  get none(): boolean {
    return this.backend === undefined && !this.several;
  }

  get sole(): Backend | undefined {
    return this.several ? undefined : this.backend;
  }

  get only(): Connection | undefined {
    return this.#connections === 1 ? this.connection : undefined;
  }
}

/**
 * The query's Service, the one of connections whose Service is not known, as they may have gone through any, and the backends
 * whose direct connections may be the Service's.
 */
export function servicesOf({ service, direct }: Query, index: FlowIndex): readonly Service[] {
  return direct?.services ?? (service ?? index.unknown).withUnknown;
}

/** The connections that may have carried the attempt, whose line has no local port. */
export function connectionsOf(query: Query, index: FlowIndex): Candidates {
  const { service, window, sent, direct } = query;
  const candidates = new Candidates();
  const isPossible = (connection: Connection): boolean =>
    fits(connection, query) && mayHaveConnected(connection, query);
  const add = (connection: Connection): void => {
    index.counters.visited++;
    if (isPossible(connection)) candidates.add(connection);
  };
  if (service?.apart?.every((connection) => connection.list !== undefined && isPossible(connection))) {
    index.counters.visited += 2;
    candidates.several = true;
    return candidates;
  }
  // Where all connections lead to one backend, the first stands for all.
  const oneBackend = !direct && service?.backends.size === 1 && index.unknown.backends.size === 0;
  const closedAfter = (sent === 'no' ? window.begin : window.answeredAfter - LINGER_MS) - DISORDER_MS;
  let visited = 0;
  let first: Connection | undefined;
  const isEnough = (): boolean => {
    first ??= candidates.connection;
    if (candidates.several && service) service.apart = [first!, candidates.connection!];
    if (++visited > MAX_VISITED_CONNECTIONS) candidates.several = true;
    return candidates.several || (oneBackend && candidates.backend !== undefined);
  };
  // All direct connections to a backend lead to it.
  const settles = (each: Service): boolean =>
    each !== service && each !== index.unknown && candidates.connection?.service === each;
  services: for (const each of servicesOf(query, index)) {
    for (const connection of each.open) {
      add(connection);
      if (isEnough()) return candidates;
      if (settles(each)) continue services;
    }
    for (let i = each.closed.length - 1; i >= each.closedHead; i--) {
      const connection = each.closed[i]!;
      if (connection.closeTo < closedAfter) break;
      add(connection);
      if (isEnough()) return candidates;
      if (settles(each)) continue services;
    }
  }
  return candidates;
}

/** An attempt that never connected was on a connection that opened for it. */
function mayHaveConnected({ openTo }: Connection, { sent, window }: Query): boolean {
  return sent !== 'no' || openTo >= window.begin;
}

/**
 * The connections from the attempt's local port that may have carried it. On which direct connections it can have been decides
 * whether one is named, not which are left: of a pod that the load balancer knew before the helper, the port may have come
 * round within the time of the line.
 */
export function connectionsFromPort(query: Query, index: FlowIndex): Candidates {
  const { attempt, window, direct, sent } = query;
  const candidates = new Candidates();
  const samePort = index.onPort(attempt.localPort!);
  if (samePort.length > MAX_VISITED_CONNECTIONS) candidates.several = true;
  for (let i = samePort.length - 1; i >= 0 && !candidates.several; i--) {
    const connection = samePort[i]!;
    index.counters.visited++;
    const isOf = mayBeOf(connection, query) || (direct !== undefined && index.mayBeDirect(connection));
    // A pod that answers has not ended the connection before the request.
    const isOpen = sent !== 'yes' || connection.closeTo >= window.begin;
    if (isOf && isOpen && existed(connection, query) && mayHaveConnected(connection, query))
      candidates.add(connection);
  }
  return candidates;
}

/**
 * Adds the connections whose requests cannot be read: each may have carried the attempt. `byId`: only those whose requests
 * cannot be read for their ids.
 */
export function addUnreadable(
  query: Query,
  index: FlowIndex,
  candidates: Candidates,
  { byId = false } = {},
): void {
  const { answeredAfter } = query.window;
  for (const each of servicesOf(query, index)) {
    const knownSince = byId ? each.hidingIdsKnownSince : each.unreadableKnownSince;
    if (knownSince > answeredAfter && knownSince !== -Infinity) candidates.several = true;
    let visited = 0;
    for (const connection of byId ? each.hidingIds : each.unreadable) {
      index.counters.visited++;
      if (++visited > MAX_LOOKED_AT) candidates.several = true;
      if (candidates.several) return;
      if (fits(connection, query)) candidates.add(connection);
    }
  }
}

/** Adds the connections with a request that may hide the attempt's (`--tap headers`). */
export function addHidden(query: Query, index: FlowIndex, candidates: Candidates): void {
  const { window, attempt } = query;
  const { counted, coverage } = index;
  // The index does not keep such requests for longer.
  if (window.begin < coverage.watermark - HIDDEN_KEPT_MS) candidates.several = true;
  for (const each of servicesOf(query, index)) {
    let visited = 0;
    for (const connection of counted.withHidden(each)) {
      index.counters.visited++;
      if (++visited > MAX_COUNTED) candidates.several = true;
      if (candidates.several) return;
      const hiding = counted.hiding(connection);
      if (!hiding || counted.hidesUntil(connection) < window.begin || !mayHold(hiding, attempt)) continue;
      if (fits(connection, query)) candidates.add(connection);
    }
  }
}

/**
 * Adds connections without a request: that of an attempt that was not sent, or whose packets the tap did not see. Returns
 * whether one of them opened so recently that its request may be in the next batch.
 *
 * `dialedAfter`: leaves out connections that opened before, ms since the epoch.
 */
export function addUnusedConnections(
  query: Query,
  dialedAfter: number,
  index: FlowIndex,
  candidates: Candidates,
): boolean {
  const { window } = query;
  let young = false;
  for (const each of servicesOf(query, index)) {
    let visited = 0;
    for (const connection of each.connectionsWithoutRequest) {
      index.counters.visited++;
      if (++visited > MAX_LOOKED_AT) candidates.several = true;
      // Its requests may be from before the record, so it is no candidate for a line without times.
      if (connection.openFrom === -Infinity && window.begin === -Infinity) continue;
      if (connection.openTo < dialedAfter || !fits(connection, query)) continue;
      candidates.add(connection);
      if (connection.closeTo === Infinity && connection.openTo > window.end - NEW_CONNECTION_GRACE_MS)
        young = true;
      else if (candidates.several) return false;
    }
  }
  return candidates.several && young;
}

/** Whether the connection may have been opened for the Service: to its address, to one that is not known, or directly. */
export function mayBeOf(connection: Connection, { service, direct }: Query): boolean {
  if (connection.service === service || connection.service.vip === undefined) return true;
  return direct?.mayHave(connection) === true;
}

/**
 * Whether the connection may be of the attempt's Service, existed when the attempt ran, and has the attempt's local port where
 * the line has that.
 */
export function fits(connection: Connection, query: Query): boolean {
  const { attempt, direct } = query;
  return (
    (direct === undefined || mayBeOf(connection, query)) &&
    existed(connection, query) &&
    (typeof attempt.localPort !== 'number' || attempt.localPort === connection.sport)
  );
}

function existed(connection: Connection, { window }: Query): boolean {
  return connection.openFrom <= window.end && servedUntil(connection) >= window.answeredAfter;
}

/** Whether time, port, Service and size allow the request to be the attempt's. */
export function mayBe(request: TappedRequest, query: Query): boolean {
  const { attempt, window } = query;
  const { connection } = request;
  if (!mayBeOf(connection, query)) return false;
  if (request.from > window.end || request.to < window.begin) return false;
  // Bytes after a body or a change of protocol may look like a request, so `endedBy` is certain for one segment only.
  const certain = request.singleSegment && !mayBeInPieces(request, attempt);
  if (certain && request.endedBy < window.endedAfter) return false;
  if (typeof attempt.localPort === 'number' && attempt.localPort !== connection.sport) return false;
  if (request.received !== undefined) return countsAllow(request, attempt);
  if (typeof attempt.bytesSent !== 'number' || request.bytes === undefined) return true;
  // One segment has exactly the logged size; the first packet of a longer request has at most that.
  return request.singleSegment ? request.bytes === attempt.bytesSent : request.bytes <= attempt.bytesSent;
}
