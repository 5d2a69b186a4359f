/** The connections of clients to subscribed addresses, from conntrack events and dumps. */

import { setTimeout as delay } from 'node:timers/promises';
import type { Observation } from '../../model/feed.ts';
import type { ClientObservation } from '../capture.ts';
import { AddressSet, type AddressTexts } from '../ip-bytes.ts';
import type { Libc } from '../netlink/libc.ts';
import type { Incoming } from './event-filter.ts';
import { incomingDumpRequests } from './events.ts';
import { openOf } from './flow-entry.ts';
import { FlowTable } from './flow-table.ts';
import { parseIncoming } from './incoming.ts';
import { isOver } from './message.ts';
import { type Direction, type EventReader, type ResyncTarget, resync } from './resync.ts';

/** Interval of the checks of connections whose end may produce no event, of the routes, and of what failed (ms). */
const CHECK_MS = 30_000;
const RETRY_MS = 1_000;
const TRIES = 5;
const INCOMING: Direction = { requests: incomingDumpRequests, parse: parseIncoming, record: toClient };

/**
 * What is captured of an address. `translated`: the connections whose source the node translates, until the first of them
 * comes; then all of them are listed (`listing`), and all are captured (`complete`). `failed`: nothing, until the next check.
 */
type State = 'translated' | 'listing' | 'complete' | 'failed';

interface Target extends ResyncTarget {
  state: State;
  /** The addresses of the same pod, this one among them: a line may have come to any of them. */
  group: readonly string[];
  /** The node has translated a client of the group. */
  translated: boolean;
  /** Since when its record is complete in its state, ms since the epoch. */
  since: number;
  ready: Promise<void>;
}

export interface ClientsParts {
  libc: Libc;
  /** Connections kept at a time. An address that needs more is captured no longer, until the next check. */
  limit: number;
  reader: EventReader;
  texts: AddressTexts;
  /** `incoming` has changed. */
  onChange(): void;
  otherNodes(): string[];
  /** Lists the connections of addresses. Default: the kernel's. */
  resync?: typeof resync;
  log(level: 'info' | 'warn' | 'error', message: string): void;
}

/**
 * As long as the node translates no client of an address, nothing of it is read beyond the kernel's filter. From the first one on,
 * those that come directly are needed, too: a line may be of any of them.
 */
export class Clients {
  readonly #parts: ClientsParts;
  readonly #targets = new Map<string, Target>();
  readonly #addresses = new AddressSet();
  readonly #flows: FlowTable;
  #nodes: string[] = [];
  #work: Promise<unknown> = Promise.resolve();
  #losses = 0;
  #checkDue = 0;
  #closed = false;

  constructor(parts: ClientsParts) {
    this.#parts = parts;
    this.#flows = new FlowTable(parts.limit);
  }

  /** Whether an address is captured. */
  get active(): boolean {
    return this.#targets.size > 0;
  }

  captures(address: string): boolean {
    return this.#targets.has(address);
  }

  get connections(): number {
    return this.#flows.size;
  }

  /** For the kernel's filter. */
  get incoming(): Incoming {
    const all: string[] = [];
    const translated: string[] = [];
    for (const [address, { state }] of this.#targets) {
      if (state === 'translated') translated.push(address);
      else if (state !== 'failed') all.push(address);
    }
    return { all, translated };
  }

  /** Captures these addresses, too. Resolves when their open connections are known. */
  async watch(addresses: readonly string[]): Promise<void> {
    const fresh: string[] = [];
    if (!this.active) this.#nodes = this.#parts.otherNodes();
    for (const address of addresses) {
      if (this.#targets.has(address)) continue;
      this.#targets.set(address, {
        state: 'listing',
        group: addresses,
        translated: false,
        since: Infinity,
        fresh: true,
        ready: Promise.resolve(),
      });
      this.#addresses.add(address);
      this.#flows.addSource(address);
      fresh.push(address);
    }
    if (fresh.length > 0) {
      this.#parts.onChange();
      const ready = this.#list(fresh);
      for (const address of fresh) this.#targets.get(address)!.ready = ready;
    }
    await Promise.all(addresses.map((address) => this.#targets.get(address)?.ready));
  }

  unwatch(addresses: readonly string[]): void {
    let changed = false;
    for (const address of addresses) {
      if (!this.#targets.delete(address)) continue;
      changed = true;
      this.#addresses.delete(address);
      this.#flows.removeSource(address);
    }
    if (changed) this.#parts.onChange();
  }

  close(): void {
    this.#closed = true;
  }

  /** The records of an address for a new reader. */
  snapshot(address: string): ClientObservation[] {
    const target = this.#targets.get(address);
    if (!target) return [];
    const complete = target.state === 'complete';
    const t = Number.isFinite(target.since) ? target.since : this.#parts.libc.wallClock();
    const begin: ClientObservation = { kind: 'clients', t, dst: address, complete, nodes: this.#nodes };
    return complete
      ? [begin, ...this.#flows.ofSource(address).map((entry) => toClient(openOf(entry)))]
      : [begin];
  }

  /** An event that was read at `readAt`. `watermark`: the last one, a lower bound of its time. */
  visit(bytes: Buffer, start: number, end: number, readAt: number, watermark: number): void {
    const event = parseIncoming(bytes, start, end, this.#addresses, this.#parts.texts);
    if (typeof event === 'string') return;
    const target = this.#targets.get(event.src)!;
    if (target.state === 'failed' || (target.state === 'translated' && event.ip === event.vip)) return;
    const out: Observation[] = [];
    if (event.type === 'new') {
      const t = Math.min(Math.max(event.eventMs ?? readAt, watermark), readAt);
      if (!this.#flows.opened(event, t, out)) {
        this.#refuse(event.src, target);
        return;
      }
      if (event.ip !== event.vip) this.#translates(target);
    } else if (event.type === 'destroy' || isOver(event)) {
      this.#flows.ended(event);
      this.#flows.release(0, this.#flows.endings, readAt, out);
    }
    for (const observation of out) this.#parts.reader.push(toClient(observation));
  }

  #translates(target: Target): void {
    if (target.translated) return;
    const begins: string[] = [];
    for (const address of target.group) {
      const other = this.#targets.get(address);
      if (!other || other.translated) continue;
      other.translated = true;
      if (other.state === 'translated') begins.push(address);
    }
    if (begins.length > 0) void this.#relist(begins);
  }

  /** Conntrack events were lost: what is known of open connections is void. */
  lost(): void {
    this.#losses++;
    const known = [...this.#targets]
      .filter(([, { state }]) => state !== 'listing')
      .map(([address]) => address);
    if (known.length > 0) void this.#relist(known);
  }

  /** The clock was set to `wall`: the connections that are open, as records of that time. */
  onClockStep(wall: number): ClientObservation[] {
    const records: ClientObservation[] = [];
    for (const [address, target] of this.#targets) {
      if (target.state !== 'listing') target.since = wall;
      for (const entry of this.#flows.ofSource(address)) {
        entry.t = wall;
        entry.preexisting = true;
      }
      records.push(...this.snapshot(address));
    }
    return records;
  }

  /** To be called about once a second. `now`: monotonic ms. */
  check(now: number): void {
    if (!this.active || now < this.#checkDue) return;
    this.#checkDue = now + CHECK_MS;
    const nodes = this.#parts.otherNodes();
    if (nodes.join() !== this.#nodes.join()) {
      this.#nodes = nodes;
      const t = this.#parts.libc.wallClock();
      for (const dst of this.#targets.keys()) this.#parts.reader.push({ kind: 'clients', t, dst, nodes });
    }
    const failed = [...this.#targets]
      .filter(([, { state }]) => state === 'failed')
      .map(([address]) => address);
    if (failed.length > 0) void this.#relist(failed);
    const { sources } = this.#flows.unsure();
    if (sources.length > 0) void this.#inTurn(() => this.#resync(sources).catch(() => {}));
  }

  /** Lists these addresses anew. Until that is done they are not complete. */
  #relist(addresses: readonly string[]): Promise<void> {
    for (const address of addresses) {
      const target = this.#targets.get(address);
      if (!target) continue;
      if (target.state === 'complete') this.#push(address, false);
      target.state = 'listing';
      target.fresh = true;
      target.since = Infinity;
    }
    this.#parts.onChange();
    return this.#list(addresses, true);
  }

  /** `announce`: there are readers. */
  #list(addresses: readonly string[], announce = false): Promise<void> {
    return this.#inTurn(async () => {
      for (let attempt = 1; !this.#closed; attempt++) {
        const losses = this.#losses;
        for (const address of addresses) this.#forget(address);
        let why = 'conntrack events were lost';
        try {
          await this.#resync(addresses);
          if (losses === this.#losses) break;
        } catch (error) {
          why = (error as Error).message;
        }
        if (attempt >= TRIES) {
          this.#parts.log('warn', `${why}; the real clients stay unknown for half a minute`);
          for (const address of addresses) this.#fail(address);
          return;
        }
        await delay(RETRY_MS, undefined, { ref: false });
      }
      for (const address of addresses) {
        const target = this.#targets.get(address);
        if (target && this.#flows.ofSource(address).some(({ vip, ip }) => vip !== ip))
          this.#translates(target);
      }
      for (const address of addresses) this.#listed(address, announce);
      this.#parts.onChange();
    });
  }

  #listed(address: string, announce: boolean): void {
    const target = this.#targets.get(address);
    if (target?.state !== 'listing') return;
    target.state = target.translated ? 'complete' : 'translated';
    target.since = this.#parts.libc.wallClock();
    target.fresh = false;
    if (!target.translated) this.#forget(address);
    if (announce) for (const record of this.snapshot(address)) this.#parts.reader.push(record);
  }

  #refuse(address: string, target: Target): void {
    this.#parts.log(
      'error',
      `more than ${this.#parts.limit} connections of clients at a time: the real clients of ${address} stay unknown`,
    );
    if (target.state === 'complete') this.#push(address, false);
    this.#fail(address);
  }

  #fail(address: string): void {
    const target = this.#targets.get(address);
    if (!target) return;
    target.state = 'failed';
    target.since = Infinity;
    this.#forget(address);
    this.#parts.onChange();
  }

  #forget(address: string): void {
    if (!this.#targets.has(address)) return;
    this.#flows.removeSource(address);
    this.#flows.addSource(address);
  }

  #push(dst: string, complete: boolean): void {
    const t = this.#parts.libc.wallClock();
    this.#parts.reader.push({ kind: 'clients', t, dst, complete, nodes: this.#nodes });
  }

  async #resync(addresses: readonly string[]): Promise<void> {
    const targets = new Map<string, Target>();
    for (const address of addresses) {
      const target = this.#targets.get(address);
      if (target) targets.set(address, target);
    }
    if (targets.size === 0) return;
    const { libc, reader } = this.#parts;
    const isCurrent = (address: string, target: Target) => this.#targets.get(address) === target;
    const { refused } = this.#flows;
    const list = this.#parts.resync ?? resync;
    await list(libc, this.#flows, reader, targets, isCurrent, INCOMING);
    if (this.#flows.refused === refused) return;
    for (const [address, target] of targets) this.#refuse(address, target);
  }

  /** A table of flows has one dump at a time. */
  #inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#work.then(work);
    this.#work = done.catch(() => {});
    return done;
  }
}

/** The record of a client's connection from that of a `FlowTable` (see `parseIncoming`). */
function toClient(observation: Observation): ClientObservation {
  if (observation.kind !== 'open' && observation.kind !== 'close')
    throw new TypeError(`no record of a connection: ${observation.kind}`);
  const { t, src, sport, vip = '', vport = 0, ip, port } = observation;
  const record = {
    kind: 'client',
    t,
    dst: src,
    dport: vport,
    peer: vip,
    peerPort: sport,
    client: ip,
    clientPort: port,
    via: 'conntrack',
  } as const;
  if (observation.kind === 'close') return { ...record, end: observation.end === 'fin' ? 'fin' : 'gone' };
  if (observation.preexisting) return { ...record, preexisting: true };
  return observation.kernelTime ? { ...record, kernelTime: true } : record;
}
