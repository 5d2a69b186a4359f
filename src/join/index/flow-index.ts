import type {
  CloseRecord,
  FeedRecord,
  OpenRecord,
  RequestRecord,
  ResponseRecord,
  UnreadableRecord,
} from '../../model/feed.ts';
import { Coverage } from '../coverage.ts';
import { FeedClock } from '../feed-clock.ts';
import { LineClock } from '../line-clock.ts';
import { BlindSpots } from './blind-spots.ts';
import {
  type Backend,
  type Connection,
  endsUnanswered,
  forgetUnreadableBefore,
  newTappedRequest,
  type Service,
  type TappedRequest,
} from './connection.ts';
import { ConnectionTable } from './connection-table.ts';
import { CountedRequests } from './counted-requests.ts';
import { type DirectConnections, DirectTable } from './direct-connections.ts';
import { Endpoints } from './endpoints.ts';
import { FeedBeginning } from './feed-beginning.ts';
import { DEFAULT_LIMITS, type IndexLimits } from './limits.ts';
import { LoggedOpens } from './logged-opens.ts';
import { Names } from './names.ts';
import { QuietMoments } from './quiet-moments.ts';
import { RequestTable } from './request-table.ts';
import { type ComparedAt, Services } from './services.ts';
import { TracedLines } from './traced-lines.ts';

/** How long an unreadable connection stays in the index after it can have served its last request (ms). */
const UNREADABLE_KEPT_MS = 60_000;

/**
 * The records of the feed, indexed for the rules of the join.
 *
 * An open connection stays in the index with its youngest request, however long it is open. Closed connections and
 * finished requests stay until their line has been matched or a limit is reached; `connectionsKnownSince` and
 * `requestsKnownSince` of the Service then say from when on the index is complete.
 */
export class FlowIndex {
  readonly coverage = new Coverage();
  readonly lineClock = new LineClock();
  readonly feedClock = new FeedClock();
  readonly blindSpots = new BlindSpots();
  readonly quiet = new QuietMoments();
  readonly logged = new LoggedOpens();
  readonly counted = new CountedRequests();
  readonly names = new Names();
  readonly traced = new TracedLines();
  readonly endpoints = new Endpoints();
  /** `visited`: connections and requests that the rules examined, the measure of the join's cost. */
  readonly counters = {
    records: 0,
    forgottenConnections: 0,
    forgottenRequests: 0,
    forgottenAnswers: 0,
    visited: 0,
  };
  readonly #beginning = new FeedBeginning();
  readonly #services: Services;
  readonly #direct: DirectTable;
  readonly #connections: ConnectionTable;
  readonly #requests: RequestTable;

  constructor(limits: IndexLimits = DEFAULT_LIMITS, comparedAt?: ComparedAt) {
    this.#services = new Services(limits.services, this.counters, comparedAt);
    this.#direct = new DirectTable(this.#services, this.endpoints);
    this.#requests = new RequestTable(limits, this.counters);
    this.#connections = new ConnectionTable(limits.connections, this.counters, this.#requests, this.counted);
  }

  get sizes(): { open: number; closed: number; requests: number; services: number; backends: number } {
    return { ...this.#connections.sizes, requests: this.#requests.size, services: this.#services.size };
  }

  /** How many connections are remembered. */
  get connections(): number {
    return this.#connections.size;
  }

  /** Applies one record. Records must come in the order of the feed. */
  apply(record: FeedRecord): void {
    this.counters.records++;
    const sources = this.#beginning.after(record);
    if (sources) this.coverage.endAllBut(sources);
    // Of what is open, the end will not be told.
    if (sources?.has('conntrack') === false) this.#closeAll(record.t);
    switch (record.kind) {
      case 'request':
        this.#request(record);
        break;
      case 'open':
        if (record.via === 'kernel-log') this.logged.add(record, this.coverage.watermark);
        else this.#opened(record);
        break;
      case 'response':
        this.#answered(record);
        break;
      case 'unreadable':
        this.#unreadable(record);
        break;
      case 'close':
        if (!record.update) this.#closedBy(record);
        break;
      case 'line':
        this.traced.add(record);
        break;
      case 'tick':
        if (record.t > this.coverage.watermark) this.coverage.watermark = record.t;
        this.names.forget(record.t);
        this.endpoints.tick(record.t);
        break;
      case 'gap':
        if (record.from === undefined && this.coverage.isClockRollback(record.t))
          this.onClockRollback(record.t);
        if (record.source === 'conntrack' && record.from === undefined) this.#closeAll(record.t);
        this.coverage.addGap(record.source, record.from, record.t);
        // With a request that was missed, its answer counts as that of the request before.
        if (record.source === 'tap') this.#services.forgetContents();
        break;
      case 'name':
        this.names.set(record);
        break;
      case 'endpoint':
        this.endpoints.set(record);
    }
  }

  service(vip: string, vport: number): Service | undefined {
    return this.#services.get(vip, vport);
  }

  /** The direct connections that may have carried attempts on this Service port; undefined where there can be none. */
  directTo(vip: string, vport: number): DirectConnections | undefined {
    return this.#direct.to(vip, vport);
  }

  /** Whether nginx, or its kernel in connect(), may have dialed the backend's own address; no sidecar's to the helper is one. */
  mayBeDirect({ service, backend }: Connection): boolean {
    return this.#services.direct.has(service) && !this.endpoints.isHelper(backend.ip, backend.port);
  }

  /** Connections whose upstream address is not known: each may have gone through any Service. */
  get unknown(): Service {
    return this.#services.unknown;
  }

  /** A Service that is not in the index was not used after this time (ms since the epoch). */
  get servicesKnownSince(): number {
    return this.#services.knownSince;
  }

  /** The youngest request with this id; the others hang on `older`. */
  requestsWithId(id: string): TappedRequest | undefined {
    return this.#requests.youngest(id);
  }

  /** Every remembered connection from this source port, oldest first. */
  onPort(sport: number): readonly Connection[] {
    return this.#connections.onPort(sport);
  }

  /** The one object for this backend. */
  backend(ip: string, port: number): Backend {
    return this.#connections.backend(ip, port);
  }

  /** The content of requests is no longer known to be that of their lines. */
  compareNothing(): void {
    this.#services.compareNothing();
  }

  /** A line has been resolved by each of these requests: they are forgotten earlier than others. */
  markMatched(requests: readonly TappedRequest[]): void {
    this.#requests.markMatched(requests);
  }

  /**
   * The clock was set back to `t` (ms since the epoch), so the times in the index will occur a second time. All that
   * remains certain about them is that they were before `t`.
   */
  onClockRollback(t: number): void {
    this.coverage.onClockRollback(t);
    this.feedClock.reset();
    this.names.onClockRollback(t);
    this.endpoints.onClockRollback(t);
    this.logged.onClockRollback(t);
    this.traced.clear();
    this.quiet.onClockRollback(t);
    this.blindSpots.onClockRollback();
    this.#services.onClockRollback(t);
  }

  #opened(record: OpenRecord): void {
    const service = this.#services.of(record.vip, record.vport);
    if (record.via === 'tap') this.coverage.tapTellsOpenings = true;
    const previous = this.#connections.youngest(record, service, this.#services.unknown);
    if (previous && previous.closeTo === Infinity) {
      if (record.preexisting && previous.backend.ip === record.ip && previous.backend.port === record.port)
        return;
      this.#connections.end(previous, record.t);
    }
    if (previous) previous.overBy = record.t;
    const openFrom = record.preexisting ? -Infinity : this.coverage.watermark;
    const connection = this.#add(record, service, openFrom);
    if (record.preexisting) service.answers.addUnseen(connection, record.t);
  }

  #closedBy(record: CloseRecord): void {
    const service = this.#services.of(record.vip, record.vport);
    const { unknown } = this.#services;
    // Looking for one of an unknown Service visits all connections of the port.
    const services = service === unknown || unknown.open.size === 0 ? [service] : [service, unknown];
    for (const each of services) {
      const connection = this.#connections.youngest(record, each, unknown);
      if (!connection || connection.closeTo !== Infinity) continue;
      if (endsUnanswered(connection)) each.answers.endedWithout(record.t);
      this.#connections.end(connection, record.t);
    }
  }

  /** The conntrack record begins anew: connections that are still open follow as `preexisting`. */
  #closeAll(t: number): void {
    this.#connections.endAll(t);
    this.#services.knowAllFrom(t);
  }

  #request(record: RequestRecord): void {
    if (record.update) {
      this.counted.update(record, this.onPort(record.sport), this.coverage.watermark);
      return;
    }
    const { connection, service } = this.#connectionOf(record);
    // Any of the connections that share its port and its pod may have carried it: none of them counts as idle.
    if (service === this.#services.unknown) {
      for (const other of this.onPort(record.sport)) {
        if (other.backend === connection.backend) other.service.connectionsWithoutRequest.delete(other);
      }
    }
    if (record.midStream) {
      this.#midStream(connection, record);
      return;
    }
    const tapped = newTappedRequest(connection, record, this.coverage.watermark);
    if (tapped.id !== undefined) {
      service.carriesIds = true;
      if (tapped.idBeforeHost) service.idsBeforeHost = true;
      else service.idsBehindHost = true;
    }
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
      if (this.#services.direct.has(service)) this.endpoints.sawPacket(record.ip);
    }
    if (record.received !== undefined) this.counted.add(tapped, latest, this.coverage.watermark);
    this.#requests.add(tapped);
    if (connection.closeTo !== Infinity) this.#requests.end(tapped);
  }

  /** The connection that a packet belongs to; one that is not in the index is added. */
  #connectionOf(record: RequestRecord | ResponseRecord | UnreadableRecord): {
    connection: Connection;
    service: Service;
  } {
    let service = this.#services.of(record.vip, record.vport);
    let connection = this.#connections.youngest(record, service, this.#services.unknown);
    if (connection && (connection.backend.ip !== record.ip || connection.backend.port !== record.port)) {
      // The packet belongs to another connection, whose VIP is not known.
      service = this.#services.unknown;
      connection = this.#connections.youngest(record, service, this.#services.unknown);
    }
    // The sources are read one after another, so a short connection's end may precede its request.
    if (!connection || connection.closeTo < this.coverage.watermark) {
      connection = this.#add(record, service, -Infinity);
    }
    return { connection, service };
  }

  #add(
    record: OpenRecord | RequestRecord | ResponseRecord | UnreadableRecord,
    service: Service,
    openFrom: number,
  ): Connection {
    const connection = this.#connections.add(record, service, openFrom);
    this.#services.connected(service, connection.backend);
    return connection;
  }

  /**
   * A packet in which a request may begin unseen. An upload can have one such record a packet, so all of them between
   * two requests become one entry, which is appended anew because the lists are sorted by `to`.
   */
  #midStream(connection: Connection, record: RequestRecord): void {
    const { service, midStream: before } = connection;
    const tapped = newTappedRequest(connection, record, this.coverage.watermark);
    if (before && !before.forgotten) {
      tapped.from = before.from;
      this.#requests.forget(before);
    }
    connection.midStream = tapped;
    service.requests.push(tapped);
    service.requestsWithoutId.push(tapped);
    if (connection.closeTo !== Infinity) this.#requests.end(tapped);
  }

  #answered(record: ResponseRecord): void {
    const { connection, service } = this.#connectionOf(record);
    const { latest, midStream } = connection;
    // Another request may have begun on the connection unseen: within a body, or in a gap.
    const isToLatest = !midStream && latest !== undefined && latest.to > this.coverage.lastGapEnd('tap');
    if (isToLatest && !latest.answered) this.quiet.refuteBetween(latest.to, record.t);
    if (latest) latest.answered = true;
    if (service === this.#services.unknown) {
      this.quiet.void(record.t);
      return;
    }
    const from = record.kernelTime ? record.t : Math.min(this.coverage.watermark, record.t);
    const content = isToLatest ? latest.content : undefined;
    if (!service.answers.add(connection, from, record.t, content)) this.counters.forgottenAnswers++;
  }

  #unreadable(record: UnreadableRecord): void {
    const { connection } = this.#connectionOf(record);
    const { service } = connection;
    service.connectionsWithoutRequest.delete(connection);
    service.unreadable.add(connection);
    // A packet of it passed the tap, as that of a request does; of one that is offloaded, conntrack told.
    if (record.protocol !== 'offloaded' && this.#services.direct.has(service))
      this.endpoints.sawPacket(record.ip);
    // For good: an earlier record, sent again to a new reader, takes nothing back.
    if (!record.idsRead) service.hidingIds.add(connection);
    forgetUnreadableBefore(service, this.coverage.watermark - UNREADABLE_KEPT_MS);
  }
}
