import { inboundSockets } from './client-sockets.ts';
import type { BlindSpots } from './join/index/blind-spots.ts';

/** Interval of looks at the namespace (ms). For so long, missing requests from a new address can stay undetected. */
const NAMESPACE_POLL_MS = 1_000;
/**
 * How long client connections from before the record count (ms). Connections to other servers of the pod, such as a metrics
 * scraper's, look the same and may stay open for days; a download of an hour is rare.
 */
const OLDER_MS = 3_600_000;

export interface NamespaceParts {
  blindSpots: BlindSpots;
  /** nginx's addresses now. Undefined: nginx is in another namespace, whose addresses and sockets cannot be read. */
  addresses: (() => readonly string[]) | undefined;
  /** The addresses whose records are read now. */
  served(): readonly string[];
  /** Reads the records of all of these from now on. */
  subscribe(addresses: readonly string[]): void;
  /** The text of the kernel's socket tables; undefined where there is none. */
  sockets(): Promise<string | undefined>;
  /** The sidecar's port: its clients send nothing through nginx. */
  ownPort: number;
  clock(): number;
}

/** Finds what nginx's network namespace has and the record lacks: addresses, and client connections from before it. */
export class NamespaceWatch {
  readonly #parts: NamespaceParts;
  readonly #timer: NodeJS.Timeout;
  #asked: readonly string[] = [];
  /** Client connections from before the record; undefined where they are not known. */
  #older: Set<string> | undefined;
  #olderSince = -Infinity;
  #reading = false;

  constructor(parts: NamespaceParts) {
    this.#parts = parts;
    this.#timer = setInterval(() => void this.poll(), NAMESPACE_POLL_MS);
    this.#timer.unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** The record begins anew: requests of the present clients may have ended before. */
  recordBegins(): void {
    const { blindSpots, clock } = this.#parts;
    this.#older = undefined;
    this.#olderSince = clock();
    blindSpots.setOlderClients(true, this.#olderSince);
    void this.poll();
  }

  async poll(): Promise<void> {
    this.#checkAddresses();
    if (this.#olderSince === -Infinity || this.#reading) return;
    const { addresses, blindSpots, clock, sockets, ownPort } = this.#parts;
    const since = this.#olderSince;
    this.#reading = true;
    const text = addresses === undefined ? undefined : await sockets();
    this.#reading = false;
    // The record began anew while the tables were read, so they are outdated.
    if (since !== this.#olderSince) return;
    if (text !== undefined) {
      const open = inboundSockets(text, ownPort);
      if (this.#older === undefined) this.#older = open;
      else for (const socket of this.#older) if (!open.has(socket)) this.#older.delete(socket);
    }
    if (this.#older?.size !== 0 && clock() - since < OLDER_MS) return;
    this.#olderSince = -Infinity;
    blindSpots.setOlderClients(false, clock());
  }

  #checkAddresses(): void {
    const { addresses, served, subscribe, blindSpots, clock } = this.#parts;
    const own = addresses?.();
    if (own === undefined) return;
    const read = new Set(served());
    const unserved = own.filter((address) => !read.has(address));
    blindSpots.setUnserved(unserved, clock());
    // One call for each new set: if the helper refuses an address, the feed's back-off repeats the request.
    if (unserved.length === 0 || own.every((address) => this.#asked.includes(address))) return;
    this.#asked = own;
    subscribe(own);
  }
}
