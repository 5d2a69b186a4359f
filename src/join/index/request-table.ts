import { servedUntil, type TappedRequest } from './connection.ts';
import { FifoList } from './fifo-list.ts';
import { IdTable } from './id-table.ts';

/** Requests found by one id. Further ones with this id are candidates for every line with it. */
const MAX_REPEATS = 64;

/**
 * The tapped requests, by id. The latest request of a connection stays as long as the connection. A finished one stays
 * until its line has been matched, and a little longer for lines with the same id, or until a limit is reached;
 * `requestsKnownSince` of its Service then says from when on the table is complete.
 */
export class RequestTable {
  readonly #limits: { requests: number; matchedRequests: number };
  readonly #counters: { forgottenRequests: number };
  readonly #byId = new IdTable<TappedRequest>();
  readonly #ended = new FifoList<TappedRequest>();
  readonly #matched = new FifoList<TappedRequest>();

  constructor(
    limits: { requests: number; matchedRequests: number },
    counters: { forgottenRequests: number },
  ) {
    this.#limits = limits;
    this.#counters = counters;
  }

  get size(): number {
    return this.#ended.size + this.#matched.size;
  }

  /** The youngest with this id; older ones are linked by `older`. */
  youngest(id: string): TappedRequest | undefined {
    return this.#byId.get(id);
  }

  add(tapped: TappedRequest): void {
    const { id } = tapped;
    const { service } = tapped.connection;
    service.requests.push(tapped);
    if (id === undefined) {
      service.requestsWithoutId.push(tapped);
      return;
    }
    const older = this.#byId.swap(tapped);
    if (older && older.repeats >= MAX_REPEATS) {
      this.#byId.swap(older);
      const repeated = service.requestsWithRepeatedId.get(id);
      if (repeated) repeated.push(tapped);
      else service.requestsWithRepeatedId.set(id, [tapped]);
      return;
    }
    tapped.older = older;
    tapped.repeats = older ? older.repeats + 1 : 1;
  }

  /** A line has been resolved by each of these. */
  markMatched(requests: readonly TappedRequest[]): void {
    for (const tapped of requests) {
      tapped.matched = true;
      if (this.#ended.delete(tapped)) this.#endMatched(tapped);
    }
  }

  /** The connection has a newer request, or is closed. */
  end(tapped: TappedRequest): void {
    if (tapped.ended) return;
    tapped.ended = true;
    if (tapped.matched) {
      this.#endMatched(tapped);
      return;
    }
    this.#ended.add(tapped);
    if (this.#ended.size <= this.#limits.requests) return;
    const oldest = this.#ended.oldest!;
    const { service } = oldest.connection;
    const until = Math.min(oldest.endedBy, servedUntil(oldest.connection));
    service.requestsKnownSince = Math.max(service.requestsKnownSince, until);
    this.#counters.forgottenRequests++;
    this.forget(oldest);
  }

  forget(tapped: TappedRequest): void {
    tapped.forgotten = true;
    tapped.list?.delete(tapped);
    const { service } = tapped.connection;
    service.forgottenRequests++;
    if (service.forgottenRequests > 64 && service.forgottenRequests * 2 > service.requests.length) {
      service.requests = service.requests.filter((s) => !s.forgotten);
      service.requestsWithoutId = service.requestsWithoutId.filter((s) => !s.forgotten);
      for (const [id, repeated] of service.requestsWithRepeatedId) {
        const left = repeated.filter((s) => !s.forgotten);
        if (left.length > 0) service.requestsWithRepeatedId.set(id, left);
        else service.requestsWithRepeatedId.delete(id);
      }
      service.forgottenRequests = 0;
    }
    if (tapped.id === undefined || tapped.repeats === 0) return;
    const youngest = this.#byId.getAs(tapped);
    if (youngest === tapped) {
      if (tapped.older) this.#byId.swap(tapped.older);
      else this.#byId.delete(tapped);
      return;
    }
    for (let s = youngest; s; s = s.older) {
      if (s.older === tapped) {
        s.older = tapped.older;
        return;
      }
    }
  }

  #endMatched(tapped: TappedRequest): void {
    this.#matched.add(tapped);
    if (this.#matched.size > this.#limits.matchedRequests) this.forget(this.#matched.oldest!);
  }
}
