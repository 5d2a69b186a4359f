/** The connections of the subscribed addresses, from conntrack events and dumps. */

import type { Observation } from '../../model/feed.ts';
import {
  type CloseObservation,
  closeOf,
  type FlowEntry,
  newEntry,
  type OpenObservation,
  openOf,
  type UnreadableObservation,
  unreadableOf,
} from './flow-entry.ts';
import { type ConntrackEvent, TCP_TIME_WAIT } from './message.ts';
import { UnlistedConnections } from './unlisted.ts';

/** A connection that this many dumps in a row do not list has ended: one dump may miss an entry. */
const MISSES = 2;

/** What one entry of a dump changes: a known connection ended, a new one was found, or its requests cannot be read. */
export interface DumpChange {
  closed?: CloseObservation;
  opened?: OpenObservation;
  unreadable?: UnreadableObservation;
}

/**
 * Keeps at most `limit` connections. Records of openings and ends are appended to the array passed in, in the order of
 * events.
 *
 * A connection ends with its TIME_WAIT event (both sides have closed, so no request can begin on it) or its DESTROY event.
 * Not before: while one side may still send, and for the 10 s that an entry outlives a reset, nginx may log a request of
 * it. A late end leaves lines unresolved; an early one could name a wrong pod.
 */
export class FlowTable {
  readonly #limit: number;
  readonly #via: FlowEntry['via'];
  readonly #sources = new Map<string, Map<number, FlowEntry>>();
  readonly #ending: FlowEntry[] = [];
  /** What the tap has read of connections that are not in the table yet. */
  readonly unlisted: UnlistedConnections;
  #size = 0;
  #dump = 0;
  /** Events were lost since the current dump began. */
  #lossInDump = false;
  /** Connections that ended since the current dump began: a part of it may be older than their end. */
  #ended: Set<string> | undefined;
  refused = 0;

  /** `via`: what tells of the connections. */
  constructor(limit: number, via: FlowEntry['via'] = 'conntrack') {
    this.#limit = limit;
    this.#via = via;
    this.unlisted = new UnlistedConnections(limit);
  }

  get size(): number {
    return this.#size;
  }

  get full(): boolean {
    return this.#size >= this.#limit;
  }

  addSource(src: string): void {
    if (this.#sources.has(src)) return;
    this.#sources.set(src, new Map());
    // Only conntrack lists connections.
    if (this.#via === 'conntrack') this.unlisted.add(src);
  }

  /** Forgets its connections and emits nothing. */
  removeSource(src: string): void {
    for (const entry of this.#of(src)) {
      entry.ending = false;
      this.#size--;
    }
    this.#sources.delete(src);
    this.unlisted.remove(src);
  }

  /** In the order of their first sight. */
  ofSource(src: string): FlowEntry[] {
    return [...this.#of(src)].sort((a, b) => a.t - b.t);
  }

  ofPort(src: string, sport: number): FlowEntry[] {
    return [...chain(this.#sources.get(src)?.get(sport))];
  }

  /**
   * The connection of a request from `src:sport` to the backend `ip:port`. `several` if there is more than one: connections
   * to two Services may have one source port and one pod.
   */
  find(src: string, sport: number, ip: string, port: number): FlowEntry | 'several' | undefined {
    let found: FlowEntry | undefined;
    let entry = this.#sources.get(src)?.get(sport);
    for (; entry; entry = entry.next) {
      if (entry.port !== port || entry.ip !== ip) continue;
      if (found !== undefined) return 'several';
      found = entry;
    }
    return found;
  }

  /** The connection from `src:sport` that dialed `vip:vport`, by its original tuple. */
  dialed(src: string, sport: number, vip: string, vport: number): FlowEntry | undefined {
    let entry = this.#sources.get(src)?.get(sport);
    while (entry && (entry.vport !== vport || entry.vip !== vip)) entry = entry.next;
    return entry;
  }

  /** Whether the tuple of a NEW event has a connection that has ended, and is there only until `release`. */
  opensAgain(event: ConntrackEvent): boolean {
    const known = this.#lookup(event);
    if (known?.ending !== true) return false;
    known.reopened = true;
    return true;
  }

  /** A NEW event of a connection opened at `t`, or, with `from`, between the two. False if the table is full. */
  opened(event: ConntrackEvent, t: number, out: Observation[], from?: number): boolean {
    const known = this.#lookup(event);
    // A dump has listed it before its NEW event was read.
    if (known !== undefined && known.id === event.id && known.preexisting && !known.ending) {
      known.unsure = false;
      return true;
    }
    // The tuple is reused, so the previous connection has ended.
    if (known !== undefined) out.push(this.#end(known, t));
    this.#ended?.delete(keyOf(event));
    const entry = this.#add(event, t, false, from);
    if (entry === undefined) return false;
    out.push(openOf(entry));
    if (entry.unreadable !== undefined) out.push(unreadableOf(entry, t, entry.unreadable));
    return true;
  }

  /** An UPDATE to TIME_WAIT, or to CLOSE before it was established, or a DESTROY event. The record comes with `release`. */
  ended(event: ConntrackEvent, at?: number): void {
    if (this.#ended && this.#ended.size < this.#limit) this.#ended.add(keyOf(event));
    const entry = this.#lookup(event);
    if (entry === undefined || entry.ending || entry.id !== event.id) return;
    entry.ending = true;
    entry.endedAt = at;
    if (event.tcpState === TCP_TIME_WAIT) entry.endKind = 'fin';
    else if (event.assured === false) entry.endKind = 'refused';
    this.#ending.push(entry);
  }

  get endings(): number {
    return this.#ending.length;
  }

  /** Records the ends of `count` connections whose end was read, from number `first` in the order of reading on. */
  release(first: number, count: number, t: number, out: Observation[]): void {
    for (const entry of this.#ending.splice(first, count)) {
      // A NEW event may have ended it in the meantime.
      if (entry.ending) out.push(this.#end(entry, t));
    }
  }

  /** From here to `endDump`, ends are remembered, so that a dump cannot bring them back. */
  beginDump(): void {
    this.#dump++;
    this.#lossInDump = false;
    this.#ended = new Set();
  }

  /** An entry of the dump. `over`: listed, but in TIME_WAIT. */
  listed(event: ConntrackEvent, over: boolean, t: number): DumpChange {
    const known = this.#lookup(event);
    if (known !== undefined && known.id === event.id) {
      known.listedIn = this.#dump;
      known.missed = 0;
      // Its closing events were lost, or never sent.
      if (over) return { closed: this.#end(known, t) };
      const unreadable = takenByFlowTable(known, event, t);
      return unreadable === undefined ? {} : { unreadable };
    }
    if (over || this.#ended?.has(keyOf(event))) return {};
    // From an event, so newer than this part of the dump.
    if (known !== undefined && !known.unsure) return {};
    const listed: DumpChange = {};
    if (known !== undefined) listed.closed = this.#end(known, t);
    const entry = this.#add(event, t, true);
    if (entry === undefined) return listed;
    entry.listedIn = this.#dump;
    // Until now its packets counted as that one's.
    if (known !== undefined) entry.unreadable ??= known.unreadable ?? 'other';
    listed.opened = openOf(entry);
    if (entry.unreadable !== undefined) {
      listed.unreadable = unreadableOf(entry, t, entry.unreadable);
      return listed;
    }
    const unreadable = takenByFlowTable(entry, event, t);
    if (unreadable !== undefined) listed.unreadable = unreadable;
    return listed;
  }

  /**
   * The dump of `sources` is complete: connections that neither it nor the dump before listed have ended. Returns the
   * ends.
   */
  endDump(sources: Iterable<string>, begunAt: number, t: number): CloseObservation[] {
    this.#ended = undefined;
    const closed: CloseObservation[] = [];
    for (const src of sources) {
      if (!this.#lossInDump) this.unlisted.listed(src);
      for (const entry of this.#of(src)) {
        if (entry.ending || entry.t > begunAt) continue;
        if (entry.listedIn === this.#dump) {
          entry.unsure = entry.preexisting;
          continue;
        }
        entry.unsure = true;
        entry.missed++;
        if (entry.missed >= MISSES) closed.push(this.#end(entry, t));
      }
    }
    return closed;
  }

  /** More connections ended during the dump than are remembered: it may list some that have ended. */
  get dumpIsDoubtful(): boolean {
    return this.#ended !== undefined && this.#ended.size >= this.#limit;
  }

  abandonDump(): void {
    this.#ended = undefined;
  }

  /** Connections may be open that no event told of, until a dump during which this is not called has ended. */
  eventsLost(): void {
    this.#lossInDump = true;
    this.unlisted.lost();
  }

  /** After a loss of events the end of any connection may be missing. */
  markUnsure(): void {
    for (const src of this.#sources.keys()) {
      for (const entry of this.#of(src)) entry.unsure = true;
    }
  }

  /** The sources with connections that resyncs check; whether one of those was missing in the last dump. */
  unsure(): { sources: string[]; missing: boolean } {
    const sources: string[] = [];
    let missing = false;
    for (const src of this.#sources.keys()) {
      let found = false;
      for (const entry of this.#of(src)) {
        if (!entry.unsure) continue;
        found = true;
        if (entry.missed > 0) missing = true;
      }
      if (found) sources.push(src);
    }
    return { sources, missing };
  }

  *#of(src: string): Generator<FlowEntry> {
    for (const first of this.#sources.get(src)?.values() ?? []) yield* chain(first);
  }

  #lookup(event: ConntrackEvent): FlowEntry | undefined {
    let entry = this.#sources.get(event.src)?.get(event.sport);
    while (entry && (entry.vport !== event.vport || entry.vip !== event.vip || entry.zone !== event.zone)) {
      entry = entry.next;
    }
    return entry;
  }

  #add(event: ConntrackEvent, t: number, preexisting: boolean, openedAfter?: number): FlowEntry | undefined {
    const bySport = this.#sources.get(event.src);
    if (bySport === undefined) return undefined;
    if (this.full) {
      this.refused++;
      return undefined;
    }
    const entry = newEntry(event, t, preexisting, openedAfter, bySport.get(event.sport));
    entry.via = this.#via;
    // A listing may find the connection in another zone, too.
    const order = this.unlisted.take(event, preexisting);
    if (order !== undefined) Object.assign(entry, order, { preexisting });
    bySport.set(event.sport, entry);
    this.#size++;
    return entry;
  }

  #end(entry: FlowEntry, t: number): CloseObservation {
    entry.ending = false;
    const bySport = this.#sources.get(entry.src)!;
    const first = bySport.get(entry.sport)!;
    if (first === entry) {
      if (entry.next) bySport.set(entry.sport, entry.next);
      else bySport.delete(entry.sport);
    } else {
      let before = first;
      while (before.next && before.next !== entry) before = before.next;
      before.next = entry.next;
    }
    this.#size--;
    return closeOf(entry, t);
  }
}

/** `next` is read before the entry is handed out, so that it may be ended meanwhile. */
function* chain(first: FlowEntry | undefined): Generator<FlowEntry> {
  for (let entry = first; entry; ) {
    const next: FlowEntry | undefined = entry.next;
    yield entry;
    entry = next;
  }
}

/** A flow table that the helper does not see, of hardware say, may take packets past the tap until the connection closes. */
function takenByFlowTable(
  entry: FlowEntry,
  event: ConntrackEvent,
  t: number,
): UnreadableObservation | undefined {
  if (!event.offloaded || entry.unreadable !== undefined) return undefined;
  entry.unreadable = 'offloaded';
  return unreadableOf(entry, t, 'offloaded');
}

function keyOf({ src, sport, vip, vport, zone, id }: ConntrackEvent): string {
  return `${src} ${sport} ${vip} ${vport} ${zone} ${id}`;
}
