import type {
  CloseRecord,
  FeedRecord,
  OpenRecord,
  RequestRecord,
  UnreadableRecord,
} from '../../model/feed.ts';
import { Coverage } from '../coverage.ts';
import { FeedClock } from '../feed-clock.ts';
import { LineClock } from '../line-clock.ts';
import { BlindSpots } from './blind-spots.ts';
import {
  type Backend,
  type Connection,
  clampTimesTo,
  newConnection,
  newTappedRequest,
  type Service,
  servedUntil,
  type TappedRequest,
} from './connection.ts';
import { ConnectionsByPort } from './connections-by-port.ts';
import { CountedRequests } from './counted-requests.ts';
import { FifoList } from './fifo-list.ts';
import { LoggedOpens } from './logged-opens.ts';
import { Names } from './names.ts';
import { RequestTable } from './requests.ts';
import { Services } from './services.ts';

/** How long an unreadable connection is kept after it can have served its last request (ms). */
const UNREADABLE_KEPT_MS = 60_000;

/** Limits on what is remembered. At each the oldest goes, and lines that would have needed it get `gap`. */
export interface IndexLimits {
  /** Open and closed connections together. About 500 bytes each. */
  connections: number;
  /** Requests whose exchange is over but whose line has not been seen. About 500 bytes each. */
  requests: number;
  /** Requests whose line has been resolved: kept a moment longer, for lines that carry the same id. Short-lived is cheap. */
  matchedRequests: number;
  /** Upstream addresses. */
  services: number;
}

export const DEFAULT_LIMITS: IndexLimits = {
  connections: 40_000,
  requests: 30_000,
  matchedRequests: 500,
  services: 5_000,
};

/**
 * All that the feed has told, arranged for the questions of the join.
 *
 * A connection is remembered while it is open, and its youngest request with it, however long that takes. What is
 * over is kept until its line has come, or until a limit is reached; then `connectionsKnownSince` and
 * `requestsKnownSince` of its Service say from when on the memory is complete.
 */
export class FlowIndex {
  readonly coverage = new Coverage();
  readonly lineClock = new LineClock();
  readonly feedClock = new FeedClock();
  readonly blindSpots = new BlindSpots();
  readonly logged = new LoggedOpens();
  readonly counted = new CountedRequests();
  readonly names: Names;
  /** `visited`: connections and requests that the rules have looked at, the measure of the join's cost. */
  readonly counters = { records: 0, forgottenConnections: 0, forgottenRequests: 0, visited: 0 };
  readonly #limits: IndexLimits;
  readonly #services: Services;
  readonly #backends = new Map<string, Backend>();
  readonly #open = new FifoList<Connection>();
  readonly #byPort = new ConnectionsByPort();
  readonly #closed = new FifoList<Connection>();
  readonly #requests: RequestTable;

  constructor(limits: IndexLimits = DEFAULT_LIMITS) {
    this.#limits = limits;
    this.#services = new Services(limits.services);
    this.#requests = new RequestTable(limits, this.counters);
    this.names = new Names();
  }

  get sizes(): { open: number; closed: number; requests: number; services: number; backends: number } {
    return {
      open: this.#open.size,
      closed: this.#closed.size,
      requests: this.#requests.size,
      services: this.#services.size,
      backends: this.#backends.size,
    };
  }

  /** Applies one record. Records must come in the order of the feed. */
  apply(record: FeedRecord): void {
    this.counters.records++;
    switch (record.kind) {
      case 'request':
        this.#request(record);
        break;
      case 'open':
        if (record.via === 'kernel-log') this.logged.add(record, this.coverage.watermark);
        else this.#opened(record);
        break;
      case 'unreadable':
        this.#unreadable(record);
        break;
      case 'close':
        if (!record.update) this.#closedBy(record);
        break;
      case 'tick':
        if (record.t > this.coverage.watermark) this.coverage.watermark = record.t;
        this.names.forget(record.t);
        break;
      case 'gap':
        if (record.from === undefined && this.coverage.isClockRollback(record.t))
          this.onClockRollback(record.t);
        if (record.source === 'conntrack' && record.from === undefined) this.#closeAll(record.t);
        this.coverage.addGap(record.source, record.from, record.t);
        break;
      case 'name':
        this.names.set(record);
        break;
    }
  }

  service(vip: string, vport: number): Service | undefined {
    return this.#services.get(vip, vport);
  }

  /** Connections that may have gone through any Service, as their upstream address is not known. */
  get unknown(): Service {
    return this.#services.unknown;
  }

  /** Since when on a Service that is not in the index is known not to have been used. */
  get servicesKnownSince(): number {
    return this.#services.knownSince;
  }

  /** The youngest request with this id; the others hang on `older`. */
  requestsWithId(id: string): TappedRequest | undefined {
    return this.#requests.youngest(id);
  }

  /** Every remembered connection from this source port, oldest first. */
  onPort(sport: number): readonly Connection[] {
    return this.#byPort.on(sport);
  }

  /** These requests have found their line: they need not be kept for another. */
  markMatched(used: readonly TappedRequest[]): void {
    this.#requests.markMatched(used);
  }

  /**
   * The clock was set back to `t` (ms since the epoch): what is remembered bears times that come again. Of all of it no
   * more is known than that it was before `t`.
   */
  onClockRollback(t: number): void {
    this.coverage.onClockRollback(t);
    this.feedClock.reset();
    this.names.onClockRollback(t);
    this.logged.onClockRollback(t);
    for (const { open, closed, requests, trust } of this.#services) {
      trust.onClockRollback(t);
      for (const connection of open) clampTimesTo(connection, t);
      for (const connection of closed) clampTimesTo(connection, t);
      for (const tapped of requests) {
        tapped.from = -Infinity;
        tapped.to = t;
        if (tapped.endedBy !== Infinity) tapped.endedBy = t;
      }
    }
  }

  #opened(record: OpenRecord): void {
    const service = this.#services.of(record.vip, record.vport);
    const previous = this.#byPort.youngest(record, service, this.#services.unknown);
    if (previous && previous.closeTo === Infinity) {
      if (record.preexisting && previous.backend.ip === record.ip && previous.backend.port === record.port)
        return;
      this.#end(previous, record.t);
    }
    if (previous) previous.overBy = record.t;
    this.#add(record, service, record.preexisting ? -Infinity : this.coverage.watermark);
  }

  #add(
    record: OpenRecord | RequestRecord | UnreadableRecord,
    service: Service,
    openFrom: number,
  ): Connection {
    const connection = newConnection(record, service, this.#backend(record.ip, record.port), openFrom);
    this.#open.add(connection);
    service.open.add(connection);
    service.connectionsWithoutRequest.add(connection);
    this.#byPort.add(connection);
    service.backends.set(connection.backend, (service.backends.get(connection.backend) ?? 0) + 1);
    if (this.#open.size + this.#closed.size > this.#limits.connections) this.#forgetOldestConnection();
    return connection;
  }

  #closedBy(record: CloseRecord): void {
    const service = this.#services.of(record.vip, record.vport);
    for (const group of service === this.#services.unknown ? [service] : [service, this.#services.unknown]) {
      const connection = this.#byPort.youngest(record, group, this.#services.unknown);
      if (connection && connection.closeTo === Infinity) this.#end(connection, record.t);
    }
  }

  #end(connection: Connection, t: number): void {
    const { service, latest } = connection;
    connection.closeTo = t;
    this.#open.delete(connection);
    service.open.delete(connection);
    service.closed.push(connection);
    this.#closed.add(connection);
    if (latest) this.#requests.end(latest);
    if (connection.midStream) this.#requests.end(connection.midStream);
  }

  /** A new beginning of the conntrack record: what is still open comes again as `preexisting`. */
  #closeAll(t: number): void {
    for (const connection of this.#open) this.#end(connection, Math.max(t, connection.openTo));
    for (const service of this.#services) {
      if (service.connectionsKnownSince > t) service.forgottenBackend = undefined;
      service.connectionsKnownSince = Math.min(service.connectionsKnownSince, t);
      service.withoutRequestKnownSince = Math.min(service.withoutRequestKnownSince, t);
      service.requestsKnownSince = Math.min(service.requestsKnownSince, t);
      service.unreadableKnownSince = Math.min(service.unreadableKnownSince, t);
    }
  }

  #request(record: RequestRecord): void {
    if (record.update) {
      this.#countAgain(record);
      return;
    }
    const { connection, service } = this.#connectionOf(record);
    // It was on one of the connections that share its port and its pod, so these are no longer known to have carried none.
    if (service === this.#services.unknown) {
      for (const other of this.onPort(record.sport)) {
        if (other.backend === connection.backend) other.service.connectionsWithoutRequest.delete(other);
      }
    }
    if (record.midStream) {
      this.#within(connection, record);
      return;
    }
    const tapped = newTappedRequest(connection, record, this.coverage.watermark);
    if (tapped.idBeforeHost) service.idsBeforeHost = true;
    if (tapped.id !== undefined) service.carriesIds = true;
    const bare = record.id === undefined && !record.cut && record.received === undefined;
    if (bare) service.lastWithoutIdAt = record.t;
    const { latest, midStream } = connection;
    connection.latest = tapped;
    if (midStream) {
      midStream.endedBy = record.t;
      connection.midStream = undefined;
      this.#requests.end(midStream);
    }
    if (latest) {
      latest.endedBy = record.t;
      this.#requests.end(latest);
    } else {
      service.connectionsWithoutRequest.delete(connection);
    }
    if (record.received !== undefined) this.counted.add(tapped, latest, this.coverage.watermark);
    this.#requests.add(tapped);
    if (connection.closeTo !== Infinity) this.#requests.end(tapped);
  }

  /** The connection that a packet belongs to. One that is not known is added. */
  #connectionOf(record: RequestRecord | UnreadableRecord): { connection: Connection; service: Service } {
    let service = this.#services.of(record.vip, record.vport);
    let connection = this.#byPort.youngest(record, service, this.#services.unknown);
    if (connection && (connection.backend.ip !== record.ip || connection.backend.port !== record.port)) {
      // The packet belongs to another connection, whose VIP is not known.
      service = this.#services.unknown;
      connection = this.#byPort.youngest(record, service, this.#services.unknown);
    }
    // Sources are read one after the other: the end of a short connection may come before the request that was on it.
    if (!connection || connection.closeTo < this.coverage.watermark) {
      connection = this.#add(record, service, -Infinity);
    }
    return { connection, service };
  }

  /**
   * One request for all such packets between two requests, as there can be one for each packet of an upload. It takes
   * the place of the one before it, as lists are by `to`.
   */
  #within(connection: Connection, record: RequestRecord): void {
    const { service, midStream: before } = connection;
    const within = newTappedRequest(connection, record, this.coverage.watermark);
    if (before && !before.forgotten) {
      within.from = before.from;
      this.#requests.forget(before);
    }
    connection.midStream = within;
    service.requests.push(within);
    service.requestsWithoutId.push(within);
    if (connection.closeTo !== Infinity) this.#requests.end(within);
  }

  #unreadable(record: UnreadableRecord): void {
    const { connection } = this.#connectionOf(record);
    const { service } = connection;
    connection.unreadable = true;
    service.connectionsWithoutRequest.delete(connection);
    service.unreadable.add(connection);
    for (const oldest of service.unreadable) {
      const until = servedUntil(oldest);
      if (until > this.coverage.watermark - UNREADABLE_KEPT_MS) break;
      service.unreadable.delete(oldest);
      service.unreadableKnownSince = Math.max(service.unreadableKnownSince, until);
    }
  }

  /** More bytes of the youngest request on the connection between these ends. */
  #countAgain(record: RequestRecord): void {
    const samePort = this.onPort(record.sport);
    for (let i = samePort.length - 1; i >= 0; i--) {
      const { src, backend, latest } = samePort[i]!;
      if (latest?.received === undefined || src !== record.src) continue;
      if (backend.ip !== record.ip || backend.port !== record.port) continue;
      latest.sent = record.sent;
      latest.received = record.received;
      latest.reset = record.reset === true;
      if (!record.singleSegment) this.counted.grew(latest, this.coverage.watermark);
      return;
    }
  }

  #forgetOldestConnection(): void {
    this.counters.forgottenConnections++;
    const connection = this.#closed.oldest ?? this.#open.oldest;
    if (!connection) return;
    const { service, latest, midStream } = connection;
    if (connection.order === this.#closed) {
      this.#closed.delete(connection);
      service.closedHead++;
      if (service.closedHead > 64 && service.closedHead * 2 > service.closed.length) {
        service.closed = service.closed.slice(service.closedHead);
        service.closedHead = 0;
      }
      const until = servedUntil(connection);
      service.connectionsKnownSince = Math.max(service.connectionsKnownSince, until);
      if (!latest) service.withoutRequestKnownSince = Math.max(service.withoutRequestKnownSince, until);
    } else {
      // Still open, so it may serve any line to come: nothing can be claimed for its Service until the feed begins anew.
      service.connectionsKnownSince = Infinity;
      if (!latest) {
        service.withoutRequestKnownSince = Infinity;
      } else {
        service.requestsKnownSince = Infinity;
        this.#requests.forget(latest);
        if (midStream) this.#requests.forget(midStream);
      }
      service.open.delete(connection);
      this.#open.delete(connection);
    }
    this.#release(connection);
  }

  #release(connection: Connection): void {
    const { service, backend } = connection;
    if (service.forgottenBackend === undefined) service.forgottenBackend = backend;
    else if (service.forgottenBackend !== backend) service.forgottenBackend = null;
    service.connectionsWithoutRequest.delete(connection);
    this.counted.forget(connection);
    if (service.unreadable.delete(connection))
      service.unreadableKnownSince = Math.max(service.unreadableKnownSince, servedUntil(connection));
    this.#byPort.remove(connection);
    const left = (service.backends.get(backend) ?? 1) - 1;
    if (left > 0) service.backends.set(backend, left);
    else service.backends.delete(backend);
  }

  #backend(ip: string, port: number): Backend {
    const key = `${ip} ${port}`;
    let backend = this.#backends.get(key);
    if (!backend) {
      // Identity is only needed among remembered connections; clearing it now and then keeps the table small.
      if (this.#backends.size >= this.#limits.connections) this.#backends.clear();
      backend = { ip, port };
      this.#backends.set(key, backend);
    }
    return backend;
  }
}
