import type {
  CloseRecord,
  OpenRecord,
  RequestRecord,
  ResponseRecord,
  UnreadableRecord,
} from '../../model/feed.ts';
import {
  type Backend,
  type Connection,
  forgetUnreadable,
  newConnection,
  type Service,
  servedUntil,
} from './connection.ts';
import { ConnectionsByPort } from './connections-by-port.ts';
import type { CountedRequests } from './counted-requests.ts';
import { FifoList } from './fifo-list.ts';
import type { RequestTable } from './request-table.ts';

/**
 * The connections remembered, at most `limit` of them. At the limit the one closed longest ago is forgotten, or else the
 * one opened longest ago; `connectionsKnownSince` of its Service then says from when on the memory is complete.
 */
export class ConnectionTable {
  readonly #limit: number;
  readonly #counters: { forgottenConnections: number };
  readonly #requests: RequestTable;
  readonly #counted: CountedRequests;
  readonly #backends = new Map<string, Backend>();
  readonly #open = new FifoList<Connection>();
  readonly #closed = new FifoList<Connection>();
  readonly #byPort = new ConnectionsByPort();

  constructor(
    limit: number,
    counters: { forgottenConnections: number },
    requests: RequestTable,
    counted: CountedRequests,
  ) {
    this.#limit = limit;
    this.#counters = counters;
    this.#requests = requests;
    this.#counted = counted;
  }

  get size(): number {
    return this.#open.size + this.#closed.size;
  }

  get sizes(): { open: number; closed: number; backends: number } {
    return { open: this.#open.size, closed: this.#closed.size, backends: this.#backends.size };
  }

  /** Every remembered connection from this source port, oldest first. */
  onPort(sport: number): readonly Connection[] {
    return this.#byPort.on(sport);
  }

  /** The youngest connection of the record's tuple, as in `ConnectionsByPort`. */
  youngest(
    record: OpenRecord | CloseRecord | RequestRecord | ResponseRecord | UnreadableRecord,
    service: Service,
    unknown: Service,
  ): Connection | undefined {
    return this.#byPort.youngest(record, service, unknown);
  }

  /** A connection that opened after `openFrom` (ms since the epoch; -Infinity if not known), and by the record's time. */
  add(
    record: OpenRecord | RequestRecord | ResponseRecord | UnreadableRecord,
    service: Service,
    openFrom: number,
  ): Connection {
    const connection = newConnection(record, service, this.backend(record.ip, record.port), openFrom);
    this.#open.add(connection);
    service.open.add(connection);
    service.connectionsWithoutRequest.add(connection);
    this.#byPort.add(connection);
    service.backends.set(connection.backend, (service.backends.get(connection.backend) ?? 0) + 1);
    if (this.size > this.#limit) this.#forgetOldest();
    return connection;
  }

  /** The connection closed by `t`; its last request is over. */
  end(connection: Connection, t: number): void {
    const { service, latest } = connection;
    connection.closeTo = t;
    this.#open.delete(connection);
    service.open.delete(connection);
    service.closed.push(connection);
    this.#closed.add(connection);
    if (latest) this.#requests.end(latest);
    if (connection.midStream) this.#requests.end(connection.midStream);
  }

  /** Every open connection closed by `t`. */
  endAll(t: number): void {
    for (const connection of this.#open) this.end(connection, Math.max(t, connection.openTo));
  }

  #forgetOldest(): void {
    this.#counters.forgottenConnections++;
    const connection = this.#closed.oldest ?? this.#open.oldest;
    if (!connection) return;
    const { service, latest, midStream } = connection;
    if (connection.list === this.#closed) {
      this.#closed.delete(connection);
      service.closedHead++;
      if (service.closedHead > 64 && service.closedHead * 2 > service.closed.length) {
        service.closed = service.closed.slice(service.closedHead);
        service.closedHead = 0;
      }
      const until = servedUntil(connection);
      service.connectionsKnownSince = Math.max(service.connectionsKnownSince, until);
      service.openKnownSince = Math.max(service.openKnownSince, connection.closeTo);
      if (!latest) service.withoutRequestKnownSince = Math.max(service.withoutRequestKnownSince, until);
    } else {
      // Still open, so it may serve any later line: nothing can be claimed for its Service until the record begins anew.
      service.connectionsKnownSince = Infinity;
      service.openKnownSince = Infinity;
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
    this.#counted.forget(connection);
    forgetUnreadable(service, connection);
    this.#byPort.remove(connection);
    const left = (service.backends.get(backend) ?? 1) - 1;
    if (left > 0) service.backends.set(backend, left);
    else service.backends.delete(backend);
  }

  /** The one object for this backend. */
  backend(ip: string, port: number): Backend {
    const key = `${ip} ${port}`;
    let backend = this.#backends.get(key);
    if (!backend) {
      // A backend that gets a second object after this counts as another one: lines stay unresolved, none gets a wrong pod.
      if (this.#backends.size >= this.#limit) this.#backends.clear();
      backend = { ip, port };
      this.#backends.set(key, backend);
    }
    return backend;
  }
}
