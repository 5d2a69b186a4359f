/** What one peer address may take of a server, so that others are served. */
export interface SourceLimits {
  /** Open connections of one source; one more is closed at once. */
  connectionsPerSource: number;
  /** Requests of one source a second; as many more may come at once. */
  requestsPerSecond: number;
}

/** Connections and requests that were turned away since the start. */
export interface Refusals {
  connections: number;
  requests: number;
}

/** Sources remembered, about 150 bytes each. Beyond, the oldest without a connection begins anew. */
const MAX_SOURCES = 10_000;

interface Source {
  connections: number;
  /** Requests it may still send, as of `at` (ms). */
  tokens: number;
  at: number;
}

export class Sources {
  readonly #limits: SourceLimits;
  readonly #refusals: Refusals;
  readonly #sources = new Map<string, Source>();

  constructor(limits: SourceLimits, refusals: Refusals) {
    this.#limits = limits;
    this.#refusals = refusals;
  }

  /** Whether another connection from there is welcome; then `disconnect` has to follow its end. */
  connect(address: string, now: number): boolean {
    const source = this.#source(address, now);
    if (source.connections >= this.#limits.connectionsPerSource) {
      this.#refusals.connections++;
      return false;
    }
    source.connections++;
    return true;
  }

  disconnect(address: string): void {
    const source = this.#sources.get(address);
    if (source) source.connections--;
  }

  /** Whether a request from there is welcome now. */
  request(address: string, now: number): boolean {
    const { requestsPerSecond } = this.#limits;
    const source = this.#source(address, now);
    const grown = (Math.max(0, now - source.at) * requestsPerSecond) / 1000;
    source.tokens = Math.min(2 * requestsPerSecond, source.tokens + grown);
    source.at = now;
    if (source.tokens < 1) {
      this.#refusals.requests++;
      return false;
    }
    source.tokens--;
    return true;
  }

  #source(address: string, now: number): Source {
    let source = this.#sources.get(address);
    if (!source) {
      if (this.#sources.size >= MAX_SOURCES) this.#forgetOldest();
      source = { connections: 0, tokens: 2 * this.#limits.requestsPerSecond, at: now };
      this.#sources.set(address, source);
    }
    return source;
  }

  /** The server's own limit of connections keeps those with one far below `MAX_SOURCES`. */
  #forgetOldest(): void {
    for (const [address, { connections }] of this.#sources) {
      if (connections > 0) continue;
      this.#sources.delete(address);
      return;
    }
  }
}
