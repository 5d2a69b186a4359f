import type { CloseRecord, FeedRecord, OpenRecord, RequestRecord } from '../record/feed.ts';
import { AgeOrder } from './age-order.ts';
import {
  type Backend,
  type Connection,
  dateBefore,
  newService,
  type Service,
  type Sighting,
  servedUntil,
  UNCLEAR_KEPT_MS,
  unclearUntil,
} from './connection.ts';
import { Coverage } from './coverage.ts';
import { LoggedOpenings } from './logged.ts';
import { Names } from './names.ts';

/** Limits on what is remembered. At each the oldest goes, and lines that would have needed it get `gap`. */
export interface IndexLimits {
  /** Open and closed connections together. About 500 bytes each. */
  connections: number;
  /** Requests whose exchange is over but whose line has not been seen. About 500 bytes each. */
  sightings: number;
  /** Requests whose line has been resolved: kept a little longer, for lines that carry the same id. */
  usedSightings: number;
  /** Dialled addresses. */
  services: number;
}

export const DEFAULT_LIMITS: IndexLimits = {
  connections: 40_000,
  sightings: 30_000,
  usedSightings: 5_000,
  services: 5_000,
};

/** Sightings of one id that are told apart. More may be any line's that has this id. */
const MAX_REPEATS = 64;

/**
 * All that the feed has told, arranged for the questions of the join.
 *
 * A connection is remembered while it is open, and its youngest request with it, however long that takes. What is
 * over is kept until its line has come, or until a limit is reached; then `connectionsKnownSince` and
 * `sightingsKnownSince` of its Service say from when on the memory is complete.
 */
export class FlowIndex {
  readonly coverage = new Coverage();
  readonly logged = new LoggedOpenings();
  readonly names: Names;
  readonly counters = { records: 0, forgottenConnections: 0, forgottenSightings: 0 };
  readonly #limits: IndexLimits;
  /** In the order in which they were first dialled. */
  readonly #services = new Set<Service>();
  /** The same by address; those of one address have different ports. */
  readonly #byVip = new Map<string, Service[]>();
  readonly #unknown: Service = newService(undefined, undefined);
  readonly #backends = new Map<string, Backend>();
  readonly #open = new AgeOrder<Connection>();
  readonly #byPort = new Map<number, Connection[]>();
  readonly #byId = new Map<string, Sighting>();
  readonly #closed = new AgeOrder<Connection>();
  readonly #ended = new AgeOrder<Sighting>();
  readonly #used = new AgeOrder<Sighting>();
  #counted = false;
  /** Memory that went with Services that were dropped at their limit. */
  #servicesKnownSince = -Infinity;

  constructor(limits: IndexLimits = DEFAULT_LIMITS) {
    this.#limits = limits;
    this.names = new Names();
  }

  get sizes(): { open: number; closed: number; sightings: number; services: number; backends: number } {
    return {
      open: this.#open.size,
      closed: this.#closed.size,
      sightings: this.#ended.size + this.#used.size,
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
      case 'close':
        if (!record.again) this.#closedBy(record);
        break;
      case 'tick':
        if (record.t > this.coverage.watermark) this.coverage.watermark = record.t;
        this.names.forget(record.t);
        break;
      case 'gap':
        if (record.from === undefined && this.coverage.liesBack(record.t)) this.clockSetBack(record.t);
        if (record.source === 'conntrack' && record.from === undefined) this.#closeAll(record.t);
        this.coverage.addGap(record.source, record.from, record.t);
        break;
      case 'name':
        this.names.set(record);
        break;
    }
  }

  service(vip: string, vport: number): Service | undefined {
    const services = this.#byVip.get(vip);
    if (services) for (const service of services) if (service.vport === vport) return service;
    return undefined;
  }

  /** Connections that may have gone through any Service, as what they dialled is not known. */
  get unknown(): Service {
    return this.#unknown;
  }

  /** Requests are told by byte counts (`--tap headers`). */
  get counted(): boolean {
    return this.#counted;
  }

  /** Since when on a Service that is not in the index is known not to have been dialled. */
  get servicesKnownSince(): number {
    return this.#servicesKnownSince;
  }

  /** The youngest sighting with this id; the others hang on `older`. */
  sightingsOf(id: string): Sighting | undefined {
    return this.#byId.get(id);
  }

  /** Every remembered connection from this source port, oldest first. */
  onPort(sport: number): readonly Connection[] {
    return this.#byPort.get(sport) ?? [];
  }

  /** These sightings have found their line: they need not be kept for another. */
  learn(used: readonly Sighting[]): void {
    for (const sighting of used) {
      sighting.used = true;
      if (this.#ended.delete(sighting)) this.#endUsed(sighting);
    }
  }

  /**
   * The clock was set back to `t` (ms since the epoch): what is remembered bears times that come again. Of all of it no
   * more is known than that it was before `t`.
   */
  clockSetBack(t: number): void {
    this.coverage.setBack(t);
    this.names.setBack(t);
    this.logged.setBack(t);
    for (const { open, closed, sightings } of [...this.#services, this.#unknown]) {
      for (const connection of open) dateBefore(connection, t);
      for (const connection of closed) dateBefore(connection, t);
      for (const sighting of sightings) {
        sighting.from = -Infinity;
        sighting.to = t;
        if (sighting.endedBy !== Infinity) sighting.endedBy = t;
      }
    }
  }

  #opened(record: OpenRecord): void {
    const service = this.#serviceOf(record.vip, record.vport);
    const previous = this.#youngest(record, service);
    if (previous && previous.closeTo === Infinity) {
      if (record.held && previous.backend.ip === record.ip && previous.backend.port === record.port) return;
      this.#end(previous, record.t);
    }
    if (previous) previous.overBy = record.t;
    this.#add(record, service, record.held ? -Infinity : this.coverage.watermark);
  }

  #add(record: OpenRecord | RequestRecord, service: Service, openFrom: number): Connection {
    const connection: Connection = {
      src: record.src,
      sport: record.sport,
      service,
      backend: this.#backend(record.ip, record.port),
      via: record.via,
      openFrom: Math.min(openFrom, record.t),
      openTo: record.t,
      closeTo: Infinity,
      overBy: Infinity,
      latest: undefined,
      within: undefined,
      previous: undefined,
      unclear: undefined,
      flow: undefined,
      order: undefined,
      before: undefined,
      after: undefined,
    };
    this.#open.add(connection);
    service.open.add(connection);
    service.withoutRequest.add(connection);
    const samePort = this.#byPort.get(record.sport);
    if (samePort) samePort.push(connection);
    else this.#byPort.set(record.sport, [connection]);
    service.backends.set(connection.backend, (service.backends.get(connection.backend) ?? 0) + 1);
    if (this.#open.size + this.#closed.size > this.#limits.connections) this.#forgetOldestConnection();
    return connection;
  }

  #closedBy(record: CloseRecord): void {
    const service = this.#serviceOf(record.vip, record.vport);
    for (const group of service === this.#unknown ? [service] : [service, this.#unknown]) {
      const connection = this.#youngest(record, group);
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
    if (latest) this.#endSighting(latest);
    if (connection.within) this.#endSighting(connection.within);
  }

  /** A new beginning of the conntrack record: what is still open comes again as `held`. */
  #closeAll(t: number): void {
    for (const connection of this.#open) this.#end(connection, Math.max(t, connection.openTo));
    for (const service of [...this.#services, this.#unknown]) {
      if (service.connectionsKnownSince > t) service.forgottenBackend = undefined;
      service.connectionsKnownSince = Math.min(service.connectionsKnownSince, t);
      service.emptyKnownSince = Math.min(service.emptyKnownSince, t);
      service.sightingsKnownSince = Math.min(service.sightingsKnownSince, t);
    }
  }

  #request(record: RequestRecord): void {
    if (record.again) {
      this.#countAgain(record);
      return;
    }
    let service = this.#serviceOf(record.vip, record.vport);
    let connection = this.#youngest(record, service);
    if (connection && (connection.backend.ip !== record.ip || connection.backend.port !== record.port)) {
      // Not the connection that the packet belongs to: what it dialled cannot be told.
      service = this.#unknown;
      connection = this.#youngest(record, service);
    }
    // Sources are read one after the other: a short connection's end may come before the request that was on it.
    if (!connection || connection.closeTo < this.coverage.watermark) {
      connection = this.#add(record, service, -Infinity);
    }
    // It was on one of the connections that share its port and its pod, so these are no longer known to have carried none.
    if (service === this.#unknown) {
      for (const other of this.onPort(record.sport)) {
        if (other.backend === connection.backend) other.service.withoutRequest.delete(other);
      }
    }
    if (record.within) {
      this.#within(connection, record);
      return;
    }
    const sighting = this.#sighting(connection, record);
    if (sighting.own) service.ownIds = true;
    const bare = record.id === undefined && !record.cut && record.received === undefined;
    if (bare) service.bareAt = record.t;
    const { latest, within } = connection;
    connection.latest = sighting;
    if (within) {
      within.endedBy = record.t;
      connection.within = undefined;
      this.#endSighting(within);
    }
    if (latest) {
      latest.endedBy = record.t;
      this.#endSighting(latest);
    } else {
      service.withoutRequest.delete(connection);
    }
    if (record.received !== undefined) {
      this.#counted = true;
      connection.previous = latest;
      if (!sighting.entire) this.#mayHold(sighting, latest);
    }
    const over = connection.closeTo !== Infinity;
    service.sightings.push(sighting);
    const older = record.id === undefined ? undefined : this.#byId.get(record.id);
    if (record.id === undefined) {
      service.withoutId.push(sighting);
    } else if (older && older.repeats >= MAX_REPEATS) {
      const repeated = service.repeated.get(record.id);
      if (repeated) repeated.push(sighting);
      else service.repeated.set(record.id, [sighting]);
    } else {
      sighting.older = older;
      sighting.repeats = older ? older.repeats + 1 : 1;
      this.#byId.set(record.id, sighting);
    }
    if (over) this.#endSighting(sighting);
  }

  #sighting(connection: Connection, record: RequestRecord): Sighting {
    return {
      connection,
      from: Math.min(this.coverage.watermark, record.t),
      to: record.t,
      id: record.id,
      own: record.own === true,
      bytes: record.bytes,
      entire: record.entire === true,
      sent: record.sent,
      received: record.received,
      reset: record.reset === true,
      first: connection.latest === undefined && record.sent !== undefined,
      older: undefined,
      repeats: 0,
      endedBy: Infinity,
      ended: false,
      used: false,
      forgotten: false,
      order: undefined,
      before: undefined,
      after: undefined,
    };
  }

  /** One sighting for all such packets between two requests; it is listed again with each, as lists are by `to`. */
  #within(connection: Connection, record: RequestRecord): void {
    const { service } = connection;
    let { within } = connection;
    if (!within || within.forgotten) within = connection.within = this.#sighting(connection, record);
    within.to = record.t;
    service.sightings.push(within);
    service.withoutId.push(within);
    if (connection.closeTo !== Infinity) this.#endSighting(within);
  }

  /** More bytes of the youngest request on the connection between these ends. */
  #countAgain(record: RequestRecord): void {
    const samePort = this.onPort(record.sport);
    for (let i = samePort.length - 1; i >= 0; i--) {
      const { src, backend, latest, previous } = samePort[i]!;
      if (latest?.received === undefined || src !== record.src) continue;
      if (backend.ip !== record.ip || backend.port !== record.port) continue;
      latest.sent = record.sent;
      latest.received = record.received;
      latest.reset = record.reset === true;
      if (latest.entire && !record.entire) {
        latest.entire = false;
        this.#mayHold(latest, previous);
      }
      return;
    }
  }

  /** The request may hold another one, and be the rest of the one before it: where bytes are counted. */
  #mayHold(sighting: Sighting, before: Sighting | undefined): void {
    const { connection } = sighting;
    const { unclear } = connection.service;
    if (before) before.entire = false;
    if (sighting.first) return;
    connection.unclear = sighting;
    unclear.delete(connection);
    unclear.add(connection);
    for (const oldest of unclear) {
      if (unclearUntil(oldest) > this.coverage.watermark - UNCLEAR_KEPT_MS) break;
      unclear.delete(oldest);
    }
  }

  #endSighting(sighting: Sighting): void {
    if (sighting.ended) return;
    sighting.ended = true;
    if (sighting.used) {
      this.#endUsed(sighting);
      return;
    }
    this.#ended.add(sighting);
    if (this.#ended.size <= this.#limits.sightings) return;
    const oldest = this.#ended.oldest!;
    const { service } = oldest.connection;
    const until = Math.min(oldest.endedBy, servedUntil(oldest.connection));
    service.sightingsKnownSince = Math.max(service.sightingsKnownSince, until);
    this.counters.forgottenSightings++;
    this.#forgetSighting(oldest);
  }

  #endUsed(sighting: Sighting): void {
    this.#used.add(sighting);
    if (this.#used.size > this.#limits.usedSightings) this.#forgetSighting(this.#used.oldest!);
  }

  #forgetSighting(sighting: Sighting): void {
    sighting.forgotten = true;
    sighting.order?.delete(sighting);
    const { service } = sighting.connection;
    service.forgottenSightings++;
    if (service.forgottenSightings > 64 && service.forgottenSightings * 2 > service.sightings.length) {
      service.sightings = service.sightings.filter((s) => !s.forgotten);
      service.withoutId = service.withoutId.filter((s) => !s.forgotten);
      for (const [id, repeated] of service.repeated) {
        const left = repeated.filter((s) => !s.forgotten);
        if (left.length > 0) service.repeated.set(id, left);
        else service.repeated.delete(id);
      }
      service.forgottenSightings = 0;
    }
    if (sighting.id === undefined || sighting.repeats === 0) return;
    const youngest = this.#byId.get(sighting.id);
    if (youngest === sighting) {
      if (sighting.older) this.#byId.set(sighting.id, sighting.older);
      else this.#byId.delete(sighting.id);
      return;
    }
    for (let s = youngest; s; s = s.older) {
      if (s.older === sighting) {
        s.older = sighting.older;
        return;
      }
    }
  }

  #forgetOldestConnection(): void {
    this.counters.forgottenConnections++;
    const connection = this.#closed.oldest ?? this.#open.oldest;
    if (!connection) return;
    const { service, latest, within } = connection;
    if (connection.order === this.#closed) {
      this.#closed.delete(connection);
      service.closedHead++;
      if (service.closedHead > 64 && service.closedHead * 2 > service.closed.length) {
        service.closed = service.closed.slice(service.closedHead);
        service.closedHead = 0;
      }
      const until = servedUntil(connection);
      service.connectionsKnownSince = Math.max(service.connectionsKnownSince, until);
      if (!latest) service.emptyKnownSince = Math.max(service.emptyKnownSince, until);
    } else {
      // Still open, so it may serve any line to come: nothing can be claimed for its Service until the feed begins anew.
      service.connectionsKnownSince = Infinity;
      if (!latest) {
        service.emptyKnownSince = Infinity;
      } else {
        service.sightingsKnownSince = Infinity;
        this.#forgetSighting(latest);
        if (within) this.#forgetSighting(within);
      }
      service.open.delete(connection);
      this.#open.delete(connection);
    }
    this.#release(connection);
  }

  #release(connection: Connection): void {
    const { service, backend, sport } = connection;
    if (service.forgottenBackend === undefined) service.forgottenBackend = backend;
    else if (service.forgottenBackend !== backend) service.forgottenBackend = null;
    service.withoutRequest.delete(connection);
    service.unclear.delete(connection);
    const samePort = this.#byPort.get(sport) ?? [];
    if (samePort.length <= 1) this.#byPort.delete(sport);
    else samePort.splice(samePort.indexOf(connection), 1);
    const left = (service.backends.get(backend) ?? 1) - 1;
    if (left > 0) service.backends.set(backend, left);
    else service.backends.delete(backend);
  }

  #serviceOf(vip: string | undefined, vport: number | undefined): Service {
    if (vip === undefined || vport === undefined) return this.#unknown;
    return this.service(vip, vport) ?? this.#addService(vip, vport);
  }

  #addService(vip: string, vport: number): Service {
    // Before the new one is there, which nothing would speak for keeping. Those in use stay, also beyond the limit.
    if (this.#services.size >= this.#limits.services) this.#forgetService();
    const service = newService(vip, vport);
    service.connectionsKnownSince = this.#servicesKnownSince;
    service.emptyKnownSince = this.#servicesKnownSince;
    service.sightingsKnownSince = this.#servicesKnownSince;
    const sameVip = this.#byVip.get(vip);
    if (sameVip) sameVip.push(service);
    else this.#byVip.set(vip, [service]);
    this.#services.add(service);
    return service;
  }

  #forgetService(): void {
    for (const service of this.#services) {
      if (service.open.size > 0 || service.closed.length > service.closedHead) continue;
      if (service.sightings.length > service.forgottenSightings) continue;
      this.#services.delete(service);
      const sameVip = this.#byVip.get(service.vip!)!;
      if (sameVip.length === 1) this.#byVip.delete(service.vip!);
      else sameVip.splice(sameVip.indexOf(service), 1);
      this.#servicesKnownSince = Math.max(
        this.#servicesKnownSince,
        service.connectionsKnownSince,
        service.sightingsKnownSince,
      );
      return;
    }
  }

  /** The youngest remembered connection of the record's tuple, open or closed. Few share a source port. */
  #youngest(flow: OpenRecord | CloseRecord | RequestRecord, service: Service): Connection | undefined {
    const samePort = this.#byPort.get(flow.sport);
    if (!samePort) return undefined;
    for (let i = samePort.length - 1; i >= 0; i--) {
      const connection = samePort[i]!;
      if (connection.service !== service || connection.src !== flow.src) continue;
      const { backend } = connection;
      if (service !== this.#unknown || (backend.ip === flow.ip && backend.port === flow.port))
        return connection;
    }
    return undefined;
  }

  #backend(ip: string, port: number): Backend {
    const key = `${ip} ${port}`;
    let backend = this.#backends.get(key);
    if (!backend) {
      // Identity is only needed among remembered connections; a rare full sweep keeps the table small.
      if (this.#backends.size >= this.#limits.connections) this.#backends.clear();
      backend = { ip, port };
      this.#backends.set(key, backend);
    }
    return backend;
  }
}
