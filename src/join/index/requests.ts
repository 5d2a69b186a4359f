import { servedUntil, type TappedRequest } from './connection.ts';
import { FifoList } from './fifo-list.ts';

/** Sightings of one id that are told apart. More may be any line's that has this id. */
const MAX_REPEATS = 64;

/**
 * The requests seen, by their ids. One that is still on its connection is kept with it; what is over is kept until its
 * line has come and a little longer, for lines that carry the same id, or until a limit is reached: then
 * `requestsKnownSince` of its Service says from when on the memory is complete.
 */
export class RequestTable {
  readonly #limits: { requests: number; matchedRequests: number };
  readonly #counters: { forgottenSightings: number };
  readonly #byId = new Map<string, TappedRequest>();
  readonly #ended = new FifoList<TappedRequest>();
  readonly #used = new FifoList<TappedRequest>();

  constructor(
    limits: { requests: number; matchedRequests: number },
    counters: { forgottenSightings: number },
  ) {
    this.#limits = limits;
    this.#counters = counters;
  }

  get size(): number {
    return this.#ended.size + this.#used.size;
  }

  /** The youngest with this id; the others hang on `older`. */
  youngest(id: string): TappedRequest | undefined {
    return this.#byId.get(id);
  }

  add(sighting: TappedRequest): void {
    const { id } = sighting;
    const { service } = sighting.connection;
    service.requests.push(sighting);
    if (id === undefined) {
      service.requestsWithoutId.push(sighting);
      return;
    }
    const older = this.#byId.get(id);
    if (older && older.repeats >= MAX_REPEATS) {
      const repeated = service.requestsWithRepeatedId.get(id);
      if (repeated) repeated.push(sighting);
      else service.requestsWithRepeatedId.set(id, [sighting]);
      return;
    }
    sighting.older = older;
    sighting.repeats = older ? older.repeats + 1 : 1;
    this.#byId.set(id, sighting);
  }

  /** These have found their line. */
  markMatched(used: readonly TappedRequest[]): void {
    for (const sighting of used) {
      sighting.matched = true;
      if (this.#ended.delete(sighting)) this.#endUsed(sighting);
    }
  }

  /** Its connection has gone on, or is closed. */
  end(sighting: TappedRequest): void {
    if (sighting.ended) return;
    sighting.ended = true;
    if (sighting.matched) {
      this.#endUsed(sighting);
      return;
    }
    this.#ended.add(sighting);
    if (this.#ended.size <= this.#limits.requests) return;
    const oldest = this.#ended.oldest!;
    const { service } = oldest.connection;
    const until = Math.min(oldest.endedBy, servedUntil(oldest.connection));
    service.requestsKnownSince = Math.max(service.requestsKnownSince, until);
    this.#counters.forgottenSightings++;
    this.forget(oldest);
  }

  forget(sighting: TappedRequest): void {
    sighting.forgotten = true;
    sighting.order?.delete(sighting);
    const { service } = sighting.connection;
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

  #endUsed(sighting: TappedRequest): void {
    this.#used.add(sighting);
    if (this.#used.size > this.#limits.matchedRequests) this.forget(this.#used.oldest!);
  }
}
