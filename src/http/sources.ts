import { LRUCache } from '../lru.ts';

/** Limits of one peer address, so that others are served. */
export interface SourceLimits {
  /** Open connections of one source; one more is closed at once. */
  connectionsPerSource: number;
  /** Requests of one source a second; as many more may come at once. */
  requestsPerSecond: number;
}

/** What was turned away since the start. */
export interface Refusals {
  connections: number;
  /** Beyond the rate of their source. */
  requests: number;
  /** Requests by a name that is not allowed. */
  hosts: number;
}

/** Sources whose rate is remembered, about 150 bytes each. Beyond, the one idle longest begins anew. */
const MAX_SOURCES = 10_000;

/** Requests that a source may still send, as of `at` (ms). */
interface Rate {
  tokens: number;
  at: number;
}

export class Sources {
  readonly #limits: SourceLimits;
  readonly #refusals: Refusals;
  /** Open connections by source, as many as the server's own limit allows. */
  readonly #connections = new Map<string, number>();
  readonly #rates = new LRUCache<string, Rate>({ max: MAX_SOURCES });

  constructor(limits: SourceLimits, refusals: Refusals) {
    this.#limits = limits;
    this.#refusals = refusals;
  }

  /** Whether another connection from there is admitted; if so, call `disconnect` at its end. */
  connect(address: string): boolean {
    const open = this.#connections.get(address) ?? 0;
    if (open >= this.#limits.connectionsPerSource) {
      this.#refusals.connections++;
      return false;
    }
    this.#connections.set(address, open + 1);
    return true;
  }

  disconnect(address: string): void {
    const left = (this.#connections.get(address) ?? 0) - 1;
    if (left > 0) this.#connections.set(address, left);
    else this.#connections.delete(address);
  }

  /** Whether a request from there is admitted now (ms, of any clock that does not step). */
  request(address: string, now: number): boolean {
    const { requestsPerSecond } = this.#limits;
    const rate = this.#rates.get(address) ?? { tokens: 2 * requestsPerSecond, at: now };
    const grown = (Math.max(0, now - rate.at) * requestsPerSecond) / 1000;
    const tokens = Math.min(2 * requestsPerSecond, rate.tokens + grown);
    const admitted = tokens >= 1;
    this.#rates.set(address, { tokens: admitted ? tokens - 1 : tokens, at: now });
    if (admitted) return true;
    this.#refusals.requests++;
    return false;
  }
}
