import type { RequestRecord } from '../../model/feed.ts';
import { Trust } from '../trust.ts';
import { type Connection, type Service, servedUntil, type TappedRequest } from './connection.ts';

/** How long a request that may hide another one is kept after its end (ms). */
export const HIDDEN_KEPT_MS = 60_000;

const NONE: ReadonlySet<Connection> = new Set();

interface ConnectionCounts {
  /** The request before the youngest one. */
  previous: TappedRequest | undefined;
  /** The youngest request that may hide another one. */
  hiding: TappedRequest | undefined;
}

interface ServiceCounts {
  /** Its connections with a request that may hide another one, in the order of those requests. */
  readonly withHidden: Set<Connection>;
  /** Whether the byte counts of its lines are those of the wire: with TLS, or early answers to uploads, they are not. */
  readonly trust: Trust;
}

/**
 * The part of the index for `--tap headers`. With TCP headers alone the boundary between two requests is not certain: the
 * bytes of a request may include the next one, which is then hidden.
 */
export class CountedRequests {
  readonly #connections = new WeakMap<Connection, ConnectionCounts>();
  readonly #services = new WeakMap<Service, ServiceCounts>();
  #active = false;

  /** A request with byte counts was seen, so the rule byte-counts replaces request-window. */
  get active(): boolean {
    return this.#active;
  }

  trust(service: Service): Trust {
    return this.#of(service).trust;
  }

  withHidden(service: Service): ReadonlySet<Connection> {
    return this.#services.get(service)?.withHidden ?? NONE;
  }

  /** The connection's youngest request that may hide another one. */
  hiding(connection: Connection): TappedRequest | undefined {
    return this.#connections.get(connection)?.hiding;
  }

  /** Until when that request may hide another one, ms since the epoch. */
  hidesUntil(connection: Connection): number {
    return Math.min(this.hiding(connection)?.endedBy ?? Infinity, servedUntil(connection));
  }

  /** `request` began on its connection, after `previous`. */
  add(request: TappedRequest, previous: TappedRequest | undefined, watermark: number): void {
    this.#active = true;
    const counts = this.#connections.get(request.connection);
    if (counts) counts.previous = previous;
    else this.#connections.set(request.connection, { previous, hiding: undefined });
    if (!request.singleSegment) this.#mayHide(request, previous, watermark);
  }

  /** New byte counts of the youngest request on the record's connection, which is among those of its port. */
  update(record: RequestRecord, samePort: readonly Connection[], watermark: number): void {
    for (let i = samePort.length - 1; i >= 0; i--) {
      const { src, backend, latest } = samePort[i]!;
      if (latest?.received === undefined || src !== record.src) continue;
      if (backend.ip !== record.ip || backend.port !== record.port) continue;
      latest.sent = record.sent;
      latest.received = record.received;
      latest.reset = record.reset === true;
      if (!record.singleSegment) this.#grew(latest, watermark);
      return;
    }
  }

  /** The request turned out to have more than one segment. */
  #grew(request: TappedRequest, watermark: number): void {
    if (!request.singleSegment) return;
    request.singleSegment = false;
    this.#mayHide(request, this.#connections.get(request.connection)?.previous, watermark);
  }

  forget(connection: Connection): void {
    this.#services.get(connection.service)?.withHidden.delete(connection);
  }

  /** The request may hide another one, or be the rest of the previous one. */
  #mayHide(request: TappedRequest, previous: TappedRequest | undefined, watermark: number): void {
    const { connection } = request;
    if (previous) previous.singleSegment = false;
    if (request.first) return;
    this.#connections.get(connection)!.hiding = request;
    const { withHidden } = this.#of(connection.service);
    withHidden.delete(connection);
    withHidden.add(connection);
    for (const oldest of withHidden) {
      if (this.hidesUntil(oldest) > watermark - HIDDEN_KEPT_MS) break;
      withHidden.delete(oldest);
    }
  }

  #of(service: Service): ServiceCounts {
    let counts = this.#services.get(service);
    if (!counts) {
      counts = { withHidden: new Set(), trust: Trust.earned() };
      this.#services.set(service, counts);
    }
    return counts;
  }
}
