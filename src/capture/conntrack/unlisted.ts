/** What was read of connections that the table of connections does not have yet. */
import { newOrder, type RequestOrder } from '../tap/request-order.ts';
import type { ConntrackEvent } from './message.ts';

interface Source {
  /** Connections from it may be open that no event told of: a listing has to find them. */
  whole: boolean;
  /** Readers have been told that the record of its requests is complete. */
  told: boolean;
  orders: Map<string, RequestOrder>;
  /** Some of `orders` belong to connections whose requests cannot be read. */
  unreadable: boolean;
  /** There were more than could be remembered. */
  overflowed: boolean;
}

/**
 * The kernel logs one packet of a connection whose requests cannot be read. If that is read before the connection is
 * known, the connection must not count as one without requests once it is found. So the order of such segments is kept by
 * addresses and ports, for as long as the connection may still be found, at most `limit` of them; beyond that each connection
 * that is found counts as unreadable.
 */
export class UnlistedConnections {
  readonly #limit: number;
  readonly #sources = new Map<string, Source>();
  /** Segments whose connection could not be kept. */
  refused = 0;
  #size = 0;
  #notWhole = 0;
  /** Something was kept since `settle`. */
  #unsettled = false;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get size(): number {
    return this.#size;
  }

  /** Of a new source nothing is known, and nobody has been told. */
  add(src: string): void {
    if (this.#sources.has(src)) return;
    this.#notWhole++;
    this.#sources.set(src, {
      whole: false,
      told: false,
      orders: new Map(),
      unreadable: false,
      overflowed: false,
    });
  }

  remove(src: string): void {
    this.#clear(src);
    if (this.#sources.get(src)?.whole === false) this.#notWhole--;
    this.#sources.delete(src);
  }

  /** Events of connections were lost. */
  lost(): void {
    for (const source of this.#sources.values()) {
      if (source.whole) this.#notWhole++;
      source.whole = false;
      source.told = true;
    }
  }

  /** Its open connections have all been listed, and no event was lost meanwhile. */
  listed(src: string): void {
    const source = this.#sources.get(src);
    if (source === undefined) return;
    if (!source.whole) this.#notWhole--;
    source.whole = true;
    source.told = true;
    this.#clear(src);
  }

  /** All events of before the packets read so far have been read. */
  settle(): void {
    if (!this.#unsettled) return;
    this.#unsettled = false;
    for (const [src, source] of this.#sources) if (source.whole) this.#clear(src);
  }

  /** Where segments of this connection, which is not known, leave their state; undefined where it cannot be kept. */
  order(src: string, sport: number, ip: string, port: number): RequestOrder | undefined {
    const source = this.#sources.get(src);
    if (source === undefined) return undefined;
    this.#unsettled = true;
    const key = keyOf(sport, ip, port);
    const known = source.orders.get(key);
    if (known !== undefined) return known;
    if (this.#size >= this.#limit) {
      this.refused++;
      source.overflowed = true;
      source.unreadable = true;
      return undefined;
    }
    // Of an older connection, say: where its first request or frame begins was not seen.
    const order = newOrder(true);
    source.orders.set(key, order);
    this.#size++;
    return order;
  }

  /** A segment has left this state. */
  left(src: string, order: RequestOrder): void {
    const source = this.#sources.get(src);
    if (source !== undefined && order.unreadable !== undefined) source.unreadable = true;
  }

  /**
   * The state that segments have left of a connection that has been found; `again`: another one may be found with its key. IPVS
   * translates behind the tap's rule for input, so a segment may have had the address that was dialed.
   */
  take({ src, sport, ip, port, vip, vport }: ConntrackEvent, again: boolean): RequestOrder | undefined {
    if (this.#notWhole === 0 && !this.#unsettled) return undefined;
    const source = this.#sources.get(src);
    if (source === undefined) return undefined;
    const translated = this.#take(source, keyOf(sport, ip, port), again);
    const dialed = this.#take(source, keyOf(sport, vip, vport), again);
    const order = dialed?.unreadable === undefined ? (translated ?? dialed) : dialed;
    if (order === undefined && source.overflowed) return { ...newOrder(true), unreadable: 'other' };
    return order;
  }

  #take({ orders }: Source, key: string, again: boolean): RequestOrder | undefined {
    const order = orders.get(key);
    if (order === undefined || again) return order;
    orders.delete(key);
    this.#size--;
    return order;
  }

  /** Readers count requests as complete while there may be some on an open connection that is not known. */
  get hidesRequests(): boolean {
    if (this.#notWhole === 0) return false;
    for (const { whole, told, unreadable } of this.#sources.values()) {
      if (!whole && told && unreadable) return true;
    }
    return false;
  }

  #clear(src: string): void {
    const source = this.#sources.get(src);
    if (source === undefined) return;
    this.#size -= source.orders.size;
    source.orders.clear();
    source.unreadable = false;
    source.overflowed = false;
  }
}

function keyOf(sport: number, ip: string, port: number): string {
  return `${sport} ${ip} ${port}`;
}
