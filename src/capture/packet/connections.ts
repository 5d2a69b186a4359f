/** The connections of the subscribed addresses, from the packets that open and end them, where conntrack tells nothing. */
import type { Observation } from '../../model/feed.ts';
import type { FlowEntry } from '../conntrack/flow-entry.ts';
import type { FlowTable } from '../conntrack/flow-table.ts';
import { TCP_CLOSE, TCP_TIME_WAIT } from '../conntrack/message.ts';
import { type End, eventOf, type Tracked } from './tracked.ts';

/** An opening that nobody answers for so long (ms) is over: Linux gives up after 127 s. */
const OPENING_MS = 130_000;
/**
 * How long a connection that was reset is kept (ms), as conntrack does: nginx may still log a request of it. And for how long
 * packets of one that has ended are known to be repetitions.
 */
const ENDED_KEPT_MS = 10_000;
/** A connection without a packet for so long (ms) is over: its ends may never have come this way. */
const IDLE_MS = 3_600_000;
const SWEEP_MS = 5_000;
/** How long answers are watched for the pod of a connection (ms) after its last request. */
const LEARNING_MS = 120_000;

export interface PacketConnectionsParts {
  flows: FlowTable;
  /** Connections at most, those included of which no pod is known. */
  limit: number;
  /** Whether the address is one of this node: what comes from there is received by no device. */
  isLocal(ip: string, now: number): boolean;
  /** Openings and ends, in the order of the packets. */
  emit(observation: Observation): void;
}

/**
 * What answers a SYN is the pod: its packets come in with the pod's own address, before a load balancer on the node puts
 * the Service's in its place. So the first SYN with ACK of the right number tells it, however the connection is balanced.
 */
export class PacketConnections {
  readonly #parts: PacketConnectionsParts;
  readonly #bySource = new Map<string, Map<number, Tracked>>();
  #size = 0;
  #sweepAt = 0;
  /** Until when (ms since the epoch) answers may tell the pod of a connection. */
  #learningUntil = 0;

  constructor(parts: PacketConnectionsParts) {
    this.#parts = parts;
  }

  get size(): number {
    return this.#size;
  }

  /** Whether answers have to be watched at `now`. */
  isLearning(now: number): boolean {
    return now < this.#learningUntil;
  }

  /** Packets of a new address are read from `now` on: of what is open already no opening was seen. */
  begin(now: number): void {
    this.#learningUntil = now + LEARNING_MS;
  }

  /** The address listens on this port, so its connections there are those of clients. */
  serves(src: string, sport: number, t: number): void {
    for (const each of this.#on(src, sport)) this.#end(src, sport, each, t, 'unknown');
  }

  forget(src: string): void {
    for (const first of this.#bySource.get(src)?.values() ?? [])
      for (let each: Tracked | undefined = first; each; each = each.next) this.#size--;
    this.#bySource.delete(src);
  }

  /**
   * Packets were lost. Any connection may have ended meanwhile, and another one with its addresses may lead to another pod
   * where something translates.
   */
  lost(t: number): void {
    for (const [src, byPort] of this.#bySource) {
      for (const [sport, first] of byPort) {
        for (let each: Tracked | undefined = first; each; each = each.next) {
          // Another one may have its addresses by now.
          if (each.over) this.#end(src, sport, each, t, 'fin');
          if (!each.told) continue;
          const entry = this.#entryOf(src, sport, each);
          if (entry && entry.ip === each.dst && entry.port === each.dport) continue;
          this.#untell(src, sport, each, t);
        }
      }
    }
  }

  /** A SYN from `src`:`sport`. False where it cannot be kept. */
  opening(src: string, sport: number, to: End, isn: number, t: number): boolean {
    const known = this.#find(src, sport, to);
    if (known?.isn === isn) {
      known.seenAt = t;
      return true;
    }
    if (known) this.#end(src, sport, known, t, 'unknown');
    const tracked = this.#add(src, sport, to, isn, t);
    if (!tracked) return false;
    return this.#parts.isLocal(to.ip, t) ? this.#tell(src, sport, tracked, to, t, false) : true;
  }

  /** A SYN with ACK to `src`:`sport`. False where the connection cannot be kept. */
  answered(src: string, sport: number, from: End, ack: number, t: number): boolean {
    for (const each of this.#on(src, sport)) {
      if (each.over || each.isn === undefined || (each.isn + 1) >>> 0 !== ack) continue;
      each.seenAt = t;
      if (!each.told) return this.#tell(src, sport, each, from, t, false);
      const entry = this.#entryOf(src, sport, each);
      const same = entry?.ip === from.ip && entry.port === from.port;
      // The same packet once more, after the node has put the address in it that was dialed; else two pods answered.
      if (!same && (from.ip !== each.dst || from.port !== each.dport)) this.#untell(src, sport, each, t);
    }
    return true;
  }

  /**
   * Payload from `src`:`sport` that acknowledges everything before `ack`: the connection with the pod that gets it, undefined
   * where that is not known or cannot be kept. `over`: the connection has ended, so it is a repetition.
   */
  sent(src: string, sport: number, to: End, ack: number, t: number): FlowEntry | undefined | 'over' {
    let tracked = this.#find(src, sport, to);
    if (!tracked) {
      tracked = this.#add(src, sport, to, undefined, t);
      if (!tracked) return undefined;
      if (this.#parts.isLocal(to.ip, t)) this.#tell(src, sport, tracked, to, t, true);
    }
    if (tracked.over) return 'over';
    tracked.seenAt = t;
    if (tracked.told) return this.#entryOf(src, sport, tracked);
    tracked.answersAt = ack;
    this.#learningUntil = t + LEARNING_MS;
    return undefined;
  }

  /** Payload to `src`:`sport` that begins with the number `seq`. */
  received(src: string, sport: number, from: End, seq: number, t: number): boolean {
    for (const each of this.#on(src, sport)) {
      if (each.told || each.over || each.answersAt !== seq) continue;
      each.seenAt = t;
      return this.#tell(src, sport, each, from, t, true);
    }
    return true;
  }

  finSent(src: string, sport: number, to: End, t: number): void {
    const tracked = this.#find(src, sport, to);
    if (!tracked) return;
    tracked.finSent = true;
    // The other one's is seen nowhere.
    if (this.#parts.isLocal(to.ip, t)) tracked.endsAt = Math.min(tracked.endsAt, t + ENDED_KEPT_MS);
    this.#finished(src, sport, tracked, t);
  }

  finReceived(src: string, sport: number, from: End, t: number): void {
    const tracked = this.#from(src, sport, from);
    if (!tracked) return;
    tracked.finReceived = true;
    this.#finished(src, sport, tracked, t);
  }

  resetSent(src: string, sport: number, to: End, t: number): void {
    const tracked = this.#find(src, sport, to);
    // Before it is established nginx's kernel resets one of the pod's that had the port before, and goes on.
    if (tracked?.told) tracked.endsAt = Math.min(tracked.endsAt, t + ENDED_KEPT_MS);
  }

  /** `ack`: of the reset, if it has one. */
  resetReceived(src: string, sport: number, from: End, ack: number, t: number): boolean {
    for (const each of this.#on(src, sport)) {
      if (each.told || each.over || each.isn === undefined || (each.isn + 1) >>> 0 !== ack) continue;
      // Refused: who refused it is known, and nothing went over it.
      const kept = this.#tell(src, sport, each, from, t, false);
      this.#end(src, sport, each, t, 'refused');
      return kept;
    }
    const tracked = this.#from(src, sport, from);
    if (tracked) tracked.endsAt = Math.min(tracked.endsAt, t + ENDED_KEPT_MS);
    return true;
  }

  /** Ends what is over by `now` (ms since the epoch). */
  sweep(now: number): void {
    if (now < this.#sweepAt && this.#sweepAt - now <= SWEEP_MS) return;
    this.#sweepAt = now + SWEEP_MS;
    for (const [src, byPort] of this.#bySource) {
      for (const [sport, first] of byPort) {
        for (let each: Tracked | undefined = first; each; ) {
          const next: Tracked | undefined = each.next;
          const opening = !each.told && !each.over && each.isn !== undefined;
          const idle = now - each.seenAt > (opening ? OPENING_MS : IDLE_MS);
          if (idle || now >= each.endsAt) this.#end(src, sport, each, now, 'unknown');
          each = next;
        }
      }
    }
  }

  *#on(src: string, sport: number): Generator<Tracked> {
    for (let each = this.#bySource.get(src)?.get(sport); each; ) {
      const next: Tracked | undefined = each.next;
      yield each;
      each = next;
    }
  }

  #find(src: string, sport: number, { ip, port }: End): Tracked | undefined {
    let each = this.#bySource.get(src)?.get(sport);
    while (each && (each.dport !== port || each.dst !== ip)) each = each.next;
    return each;
  }

  /** The connection that this pod answers on. */
  #from(src: string, sport: number, { ip, port }: End): Tracked | undefined {
    for (const each of this.#on(src, sport)) {
      if (!each.told) continue;
      const entry = this.#entryOf(src, sport, each);
      if (entry?.ip === ip && entry.port === port) return each;
    }
    return undefined;
  }

  #entryOf(src: string, sport: number, { dst, dport }: Tracked): FlowEntry | undefined {
    return this.#parts.flows.dialed(src, sport, dst, dport);
  }

  #add(src: string, sport: number, to: End, isn: number | undefined, t: number): Tracked | undefined {
    if (this.#size >= this.#parts.limit) return undefined;
    let byPort = this.#bySource.get(src);
    if (!byPort) {
      byPort = new Map();
      this.#bySource.set(src, byPort);
    }
    const tracked: Tracked = {
      dst: to.ip,
      dport: to.port,
      isn,
      told: false,
      answersAt: undefined,
      over: false,
      finSent: false,
      finReceived: false,
      endsAt: Number.POSITIVE_INFINITY,
      seenAt: t,
      next: byPort.get(sport),
    };
    byPort.set(sport, tracked);
    this.#size++;
    return tracked;
  }

  /** `pod` answers the connection: it is in the table of flows from now on. False where that is full. */
  #tell(src: string, sport: number, tracked: Tracked, pod: End, t: number, preexisting: boolean): boolean {
    const { flows, emit } = this.#parts;
    const event = eventOf('new', src, sport, tracked, pod);
    if (preexisting) {
      const { opened } = flows.listed(event, false, t);
      if (opened) emit(opened);
      tracked.told = opened !== undefined;
      return tracked.told;
    }
    const out: Observation[] = [];
    tracked.told = flows.opened(event, t, out);
    for (const each of out) emit(each);
    return tracked.told;
  }

  /** The pod is not known any more. */
  #untell(src: string, sport: number, tracked: Tracked, t: number): void {
    this.#close(src, sport, tracked, t, 'unknown');
    tracked.told = false;
    tracked.isn = undefined;
  }

  #finished(src: string, sport: number, tracked: Tracked, t: number): void {
    if (!tracked.finSent || !tracked.finReceived || !tracked.told) return;
    this.#close(src, sport, tracked, t, 'fin');
    tracked.told = false;
    tracked.over = true;
    tracked.endsAt = t + ENDED_KEPT_MS;
  }

  #end(src: string, sport: number, tracked: Tracked, t: number, how: 'fin' | 'refused' | 'unknown'): void {
    if (tracked.told) this.#close(src, sport, tracked, t, how);
    const byPort = this.#bySource.get(src)!;
    const first = byPort.get(sport)!;
    if (first === tracked) {
      if (tracked.next) byPort.set(sport, tracked.next);
      else byPort.delete(sport);
    } else {
      let before = first;
      while (before.next !== tracked) before = before.next!;
      before.next = tracked.next;
    }
    this.#size--;
  }

  #close(src: string, sport: number, tracked: Tracked, t: number, how: 'fin' | 'refused' | 'unknown'): void {
    const { flows, emit } = this.#parts;
    const entry = this.#entryOf(src, sport, tracked);
    if (!entry) return;
    const event = eventOf('update', src, sport, tracked, entry);
    if (how === 'fin') event.tcpState = TCP_TIME_WAIT;
    if (how === 'refused') {
      event.tcpState = TCP_CLOSE;
      event.assured = false;
    }
    flows.ended(event);
    const out: Observation[] = [];
    flows.release(0, flows.endings, t, out);
    for (const each of out) emit(each);
  }
}
