import { hasHiddenClients, inboundSockets, type NamespaceTables } from './client-sockets.ts';
import { untilLook } from './each-second.ts';
import type { BlindSpots } from './join/index/blind-spots.ts';
import type { QuietMoment } from './join/index/quiet-moments.ts';

/** Interval of looks while quiet moments are wanted, unless to look takes longer than the other (ms). Else it is a second. */
const WANTED_POLL_MS = 100;
const MAX_LOOK_MS = 10;
/**
 * How long client connections from before the record count (ms). Connections to other servers of the pod, such as a metrics
 * scraper's, look the same and may stay open for days; a download of an hour is rare.
 */
const OLDER_MS = 3_600_000;
/** Looks at the addresses take at most this share of the time: of hundreds of interfaces, as on a node, one takes milliseconds. */
const ADDRESSES_SHARE = 1 / 20;

export interface NamespaceParts {
  blindSpots: BlindSpots;
  /** nginx's addresses now. Undefined: nginx is in another namespace, whose addresses and sockets cannot be read. */
  addresses: (() => readonly string[]) | undefined;
  /** The addresses whose records are read now. */
  served(): readonly string[];
  /** Reads the records of all of these from now on. False where no feed is there yet. */
  subscribe(addresses: readonly string[]): boolean;
  /** The kernel's socket tables, with `hidden` also those of UDP and Unix sockets; undefined where there are none. */
  sockets(hidden: boolean): Promise<NamespaceTables | undefined>;
  /** All client connections of an earlier time are closed. Undefined: no rule needs it, and the tables are not read for it. */
  onQuiet: ((moment: QuietMoment) => void) | undefined;
  /** Whether more quiet moments would help. */
  isQuietWanted(): boolean;
  /** How often the clock was set back so far. */
  clockSetBack(): number;
  /** The sidecar's port: its clients send nothing through nginx. */
  ownPort: number;
  clock(): number;
  /** CPU time of this process (ms): a look may be held up by others for long, and that is no cost of its own. */
  cpuMs(): number;
}

/** Finds what nginx's network namespace has and the record lacks: addresses, and client connections from before it. */
export class NamespaceWatch {
  readonly #parts: NamespaceParts;
  #timer: NodeJS.Timeout | undefined;
  #asked: readonly string[] = [];
  /** When the addresses were looked at, how much CPU that took (ms), and when a line may have them looked at again. */
  #addressesLookedAt = -Infinity;
  #addressesTook = Infinity;
  #addressesFrom = -Infinity;
  /** Client connections from before the record; undefined where they are not known. */
  #older: Set<string> | undefined;
  #olderSince = -Infinity;
  /** The client connections of an earlier time that are still open. */
  #clients: { before: number; setBack: number; open: Set<string> } | undefined;
  #reading = false;
  /** How long the last look took (ms). */
  #lookTook = 0;

  constructor(parts: NamespaceParts) {
    this.#parts = parts;
    if (parts.addresses)
      parts.blindSpots.lookWith(() => {
        const now = parts.clock();
        if (now >= this.#addressesFrom || now < this.#addressesLookedAt) this.#checkAddresses();
      });
    this.#schedule();
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #schedule(): void {
    const { clock, onQuiet, isQuietWanted } = this.#parts;
    const wait = untilLook(clock());
    const soon = onQuiet !== undefined && isQuietWanted() && this.#lookTook <= MAX_LOOK_MS;
    this.#timer = setTimeout(
      () => {
        this.#schedule();
        void this.poll();
      },
      soon ? Math.min(wait, WANTED_POLL_MS) : wait,
    );
    this.#timer.unref();
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
    const { addresses, clock, sockets, ownPort, onQuiet } = this.#parts;
    const since = this.#olderSince;
    if (this.#reading || (onQuiet === undefined && since === -Infinity)) return;
    this.#reading = true;
    const before = clock();
    const tables = addresses === undefined ? undefined : await sockets(onQuiet !== undefined);
    // The clock cuts to milliseconds.
    const after = clock() + 1;
    this.#reading = false;
    this.#lookTook = after - before - 1;
    const open = tables && inboundSockets(tables.tcp, ownPort);
    if (onQuiet && tables && open && after > before && !hasHiddenClients(tables))
      this.#checkClients(open, before, after);
    else this.#clients = undefined;
    // Where the record began anew while the tables were read, they are outdated.
    if (since === this.#olderSince && since !== -Infinity) this.#checkOlder(open, since);
  }

  #checkClients(open: ReadonlySet<string>, before: number, after: number): void {
    const { onQuiet, clockSetBack } = this.#parts;
    const setBack = clockSetBack();
    const clients = this.#clients;
    if (clients && clients.setBack === setBack && clients.before <= before) {
      for (const socket of clients.open) if (!open.has(socket)) clients.open.delete(socket);
      if (clients.open.size > 0) return;
      onQuiet?.({ before: clients.before, after });
    }
    this.#clients = open.size > 0 ? { before, setBack, open: new Set(open) } : undefined;
    if (open.size === 0) onQuiet?.({ before, after });
  }

  #checkOlder(open: ReadonlySet<string> | undefined, since: number): void {
    const { blindSpots, clock } = this.#parts;
    if (open !== undefined) {
      if (this.#older === undefined) this.#older = new Set(open);
      else for (const socket of this.#older) if (!open.has(socket)) this.#older.delete(socket);
    }
    if (this.#older?.size !== 0 && clock() - since < OLDER_MS) return;
    this.#olderSince = -Infinity;
    blindSpots.setOlderClients(false, clock());
  }

  #checkAddresses(): void {
    const { addresses, served, subscribe, blindSpots, clock, cpuMs } = this.#parts;
    const begun = clock();
    const spent = cpuMs();
    const own = addresses?.();
    if (own === undefined) return;
    this.#addressesLookedAt = begun;
    // Of two looks the one that took less: V8's own threads may have worked during the other.
    const took = cpuMs() - spent;
    // At most one in a millisecond: beside a clock that is ahead, each line would have its own.
    this.#addressesFrom = begun + Math.max(1, Math.min(took, this.#addressesTook) / ADDRESSES_SHARE);
    this.#addressesTook = took;
    const read = new Set(served());
    const unserved = own.filter((address) => !read.has(address));
    blindSpots.setUnserved(unserved, clock(), begun);
    // One call for each new set: if the helper refuses an address, the feed's back-off repeats the request.
    if (unserved.length === 0 || own.every((address) => this.#asked.includes(address))) return;
    if (subscribe(own)) this.#asked = own;
  }
}
