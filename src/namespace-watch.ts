import { inboundSockets } from './client-sockets.ts';
import type { BlindSpots } from './join/index/blind-spots.ts';

/** How often the namespace is looked at (ms). Until the next time, requests from a new address are not known to be missing. */
const NAMESPACE_POLL_MS = 1_000;
/**
 * How long client connections that are older than the record are reckoned with (ms). Connections to other servers of the
 * pod, such as a metrics scraper's, look the same and may stay for days; a download of an hour is rare.
 */
const OLDER_MS = 3_600_000;

export interface NamespaceParts {
  blindSpots: BlindSpots;
  /** nginx's addresses now. Undefined: nginx is in another namespace, so neither addresses nor sockets can be seen. */
  addresses: (() => readonly string[]) | undefined;
  /** The addresses whose records are read now. */
  served(): readonly string[];
  /** Reads the records of all of these from now on. */
  subscribe(addresses: readonly string[]): void;
  /** The text of the kernel's socket tables. */
  sockets(): Promise<string | undefined>;
  /** The sidecar's own port, whose clients send nothing through nginx. */
  ownPort: number;
  clock(): number;
}

/** Keeps track of what nginx's network namespace has that the record has not: addresses, and clients older than it. */
export class NamespaceWatch {
  readonly #parts: NamespaceParts;
  readonly #timer: NodeJS.Timeout;
  #asked: readonly string[] = [];
  /** Client connections that were there when the record began; undefined where they are not known. */
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

  /** The record begins anew: requests of the clients that are there now may have been over before. */
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
    // The record began anew while the tables were read: they are read again.
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
    // Asked once for each new set: a helper that refuses an address is asked again by the feed's own back-off.
    if (unserved.length === 0 || own.every((address) => this.#asked.includes(address))) return;
    this.#asked = own;
    subscribe(own);
  }
}
