import type { ClientRecord, ClientsRecord, FeedRecord } from '../../model/feed.ts';
import {
  ConnectionGroup,
  type Found,
  type Incoming,
  type LineTime,
  mayHaveCarried,
} from './connection-group.ts';

/** How long connections are remembered after their end (ms): by FIN, and otherwise, when nginx may go on with a request. */
const FIN_KEPT_MS = 60_000;
const GONE_KEPT_MS = 600_000;
/** Addresses by which nodes translate. At the limit all are forgotten: their lines then say nothing of the client. */
const MAX_TRANSLATING = 4_096;
/** Length of the gap after the clock was set back (ms), as in `Coverage`. */
const SET_BACK_PAUSE_MS = 1_000;

/** Limits of the table, each with its behaviour. About 200 bytes a connection. */
export interface ClientLimits {
  /** Open connections. At the limit the table is void until the feed lists the connections anew. */
  open: number;
  /** Ended ones. At the limit the oldest is forgotten, and lines that may be its are `gap`. */
  ended: number;
}

export const CLIENT_LIMITS: ClientLimits = { open: 50_000, ended: 20_000 };

/** The connections of clients to nginx, from the feed's `client` and `clients` records, which come in its order. */
export class ClientTable {
  /** `records`: those applied; `forgotten`: ended connections dropped at the limit; `overflows`: times that it became void. */
  readonly counters = { records: 0, forgotten: 0, overflows: 0 };
  readonly #limits: ClientLimits;
  /** Since when every connection to an address of nginx is in the record (ms since the epoch); Infinity: it is not. */
  readonly #completeSince = new Map<string, number>();
  readonly #nodes = new Map<string, ReadonlySet<string>>();
  readonly #translating = new Set<string>();
  readonly #byPeer = new Map<string, ConnectionGroup>();
  readonly #byPort = new Map<string, Incoming[]>();
  #all = new ConnectionGroup();
  /** Ends by FIN, and other ones, may be forgotten up to these times. */
  #finForgotten = -Infinity;
  #goneForgotten = -Infinity;

  constructor(limits: ClientLimits = CLIENT_LIMITS) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#all.size;
  }

  /** Whether a line can be of a client that is not `$remote_addr`. */
  get isOfUse(): boolean {
    return this.#translating.size > 0 || this.#nodes.size > 0;
  }

  /** Whether this node put this address in the place of a client's. */
  isTranslating(address: string): boolean {
    return this.#translating.has(address);
  }

  /** Whether a node, this one or another, may have put this address in the place of a client's. */
  mayHide(address: string): boolean {
    if (this.#translating.has(address)) return true;
    for (const nodes of this.#nodes.values()) if (nodes.has(address)) return true;
    return false;
  }

  /** Whether no connection is missing that can have carried a line of this time, whose request began after `from`. */
  isComplete(from: number, time: LineTime): boolean {
    if (this.#completeSince.size === 0 || this.#finForgotten >= time.finAfter) return false;
    if (this.#goneForgotten >= time.goneAfter) return false;
    for (const since of this.#completeSince.values()) if (since > from) return false;
    return true;
  }

  findAll(time: LineTime, found: Found): void {
    this.#all.find(time, found);
  }

  findFrom(peer: string, time: LineTime, found: Found): void {
    this.#byPeer.get(peer)?.find(time, found);
  }

  findOn(peer: string, port: number, time: LineTime, found: Found): void {
    for (const connection of this.#byPort.get(portKey(peer, port)) ?? []) {
      if (mayHaveCarried(connection, time)) found.add(connection);
    }
  }

  /** `watermark`: the last one before the record. */
  apply(record: FeedRecord, watermark: number): void {
    switch (record.kind) {
      case 'client':
        this.counters.records++;
        if (record.end === undefined) this.#opened(record, watermark);
        else this.#closed(record, record.end === 'fin');
        break;
      case 'clients':
        this.#begins(record);
        break;
      case 'tick':
        this.#forget(record.t);
        break;
      case 'gap':
        // Connections that opened or ended in a gap: the helper lists them anew after it.
        if (record.source === 'conntrack' && record.from === undefined) this.#void();
        break;
    }
  }

  /** The clock was set back to `t` (ms since the epoch): earlier times cannot be compared. */
  onClockRollback(t: number): void {
    for (const connection of this.#all.opened) connection.openFrom = -Infinity;
    this.#forget(Infinity);
    this.#finForgotten = -Infinity;
    this.#goneForgotten = -Infinity;
    for (const [dst, since] of this.#completeSince)
      if (since !== Infinity) this.#completeSince.set(dst, t + SET_BACK_PAUSE_MS);
  }

  #begins({ dst, t, complete, nodes }: ClientsRecord): void {
    if (nodes.length > 0) this.#nodes.set(dst, new Set(nodes));
    else this.#nodes.delete(dst);
    if (complete === undefined) return;
    // Each may have ended while nobody looked; those that have not follow.
    for (const connection of [...this.#all.opened]) if (connection.dst === dst) this.#remove(connection);
    this.#completeSince.set(dst, complete ? t : Infinity);
  }

  #void(): void {
    this.#completeSince.clear();
    this.#byPeer.clear();
    this.#byPort.clear();
    this.#all = new ConnectionGroup();
    this.#finForgotten = -Infinity;
    this.#goneForgotten = -Infinity;
  }

  #opened(record: ClientRecord, watermark: number): void {
    const { dst, dport, peer, peerPort, client, clientPort } = record;
    if (client !== peer) {
      if (this.#translating.size >= MAX_TRANSLATING) this.#translating.clear();
      this.#translating.add(peer);
    }
    if (this.#all.opened.size >= this.#limits.open) {
      this.counters.overflows++;
      this.#void();
      return;
    }
    const openFrom = record.preexisting ? -Infinity : record.kernelTime ? record.t : watermark;
    const connection: Incoming = {
      dst,
      dport,
      peer,
      peerPort,
      client,
      clientPort,
      openFrom,
      closedAt: Infinity,
      fin: false,
    };
    let group = this.#byPeer.get(peer);
    if (!group) {
      group = new ConnectionGroup();
      this.#byPeer.set(peer, group);
    }
    group.opened.add(connection);
    this.#all.opened.add(connection);
    const key = portKey(peer, peerPort);
    const samePort = this.#byPort.get(key);
    if (samePort) samePort.push(connection);
    else this.#byPort.set(key, [connection]);
  }

  #closed({ t, dst, dport, peer, peerPort, client, clientPort }: ClientRecord, fin: boolean): void {
    const samePort = this.#byPort.get(portKey(peer, peerPort)) ?? [];
    for (const other of samePort) {
      const same = other.client === client && other.clientPort === clientPort && other.closedAt === Infinity;
      if (same && other.dst === dst && other.dport === dport) this.#end(other, t, fin);
    }
  }

  #end(connection: Incoming, t: number, fin: boolean): void {
    connection.closedAt = t;
    connection.fin = fin;
    this.#all.close(connection);
    this.#byPeer.get(connection.peer)?.close(connection);
  }

  /** Drops what ended too long before `now` (ms since the epoch), and what is too much. */
  #forget(now: number): void {
    for (const fin of [true, false]) {
      const before = now - (fin ? FIN_KEPT_MS : GONE_KEPT_MS);
      for (let oldest = this.#all.oldest(fin); oldest; oldest = this.#all.oldest(fin)) {
        if (oldest.closedAt > before && this.#all.ended <= this.#limits.ended) break;
        if (oldest.closedAt > before) this.counters.forgotten++;
        if (fin) this.#finForgotten = Math.max(this.#finForgotten, oldest.closedAt);
        else this.#goneForgotten = Math.max(this.#goneForgotten, oldest.closedAt);
        this.#drop(oldest);
      }
    }
  }

  /** The one that ended first. */
  #drop(connection: Incoming): void {
    this.#all.dropOldest(connection.fin);
    this.#byPeer.get(connection.peer)?.dropOldest(connection.fin);
    this.#tidy(connection);
  }

  /** One that is open. */
  #remove(connection: Incoming): void {
    this.#all.opened.delete(connection);
    this.#byPeer.get(connection.peer)?.opened.delete(connection);
    this.#tidy(connection);
  }

  #tidy(connection: Incoming): void {
    const group = this.#byPeer.get(connection.peer);
    if (group?.isEmpty) this.#byPeer.delete(connection.peer);
    const key = portKey(connection.peer, connection.peerPort);
    const rest = this.#byPort.get(key)?.filter((other) => other !== connection) ?? [];
    if (rest.length > 0) this.#byPort.set(key, rest);
    else this.#byPort.delete(key);
  }
}

function portKey(peer: string, port: number): string {
  return `${peer} ${port}`;
}
