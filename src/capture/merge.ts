/** Merges the messages of the sockets into one ordered sequence of observations, with watermarks and gaps. */

import type { Observation, Source } from '../model/feed.ts';
import type { CaptureSink, CaptureStats } from './capture.ts';
import { type Clock, ClockSteps } from './clock-steps.ts';
import { Completeness } from './completeness.ts';
import type { Clients } from './conntrack/clients.ts';
import type { Accounting } from './conntrack/counters.ts';
import { snapshotOf } from './conntrack/flow-entry.ts';
import type { FlowTable } from './conntrack/flow-table.ts';
import { type ConntrackEvent, isOver, parseConntrack, TCP_TIME_WAIT } from './conntrack/message.ts';
import type { AddressSet, AddressTexts } from './ip-bytes.ts';
import { LastReading } from './last-reading.ts';
import type { MessageVisitor } from './netlink/socket.ts';
import type { NetlinkSource } from './netlink-source.ts';
import { RequestPlacement } from './tap/placement.ts';
import type { TapReading } from './tap/request-tap.ts';
import type { TakenPast } from './tap/taken-past.ts';
import { Wakeups } from './wakeups.ts';

/** Messages read from a socket before the event loop continues. More than the default receive buffer holds. */
const READ_LIMIT = 65_536;
export interface SourceMergeOptions {
  conntrack: NetlinkSource | undefined;
  tap: NetlinkSource | undefined;
  /** Reads the tap's packets. */
  packets: TapReading;
  /** Whether packets can have skipped the tap; undefined without a tap. */
  takenPast?: TakenPast | undefined;
  addresses: AddressSet;
  texts: AddressTexts;
  flows: FlowTable;
  /** The connections of clients; undefined without conntrack. Set before the first reading. */
  clients?: () => Pick<Clients, 'active' | 'captures' | 'connections' | 'visit' | 'onClockStep'> | undefined;
  /** Requests the byte counts of ended connections from the kernel, for readers that need them. */
  accounting?: Accounting | undefined;
  clock: Clock;
  sink: CaptureSink;
  stats: CaptureStats;
  /** Conntrack events were lost, or connections could not be kept: a resync of the flow table is due. */
  onConntrackLoss(): void;
  /** Packets of the tap were lost. */
  onTapLoss(): void;
  log(level: 'info' | 'warn' | 'error', message: string): void;
}

export class SourceMerge {
  readonly completeness: Completeness;
  readonly #options: SourceMergeOptions;
  #out: Observation[] = [];
  /**
   * Events of a source port that was used again before the requests of its previous connection were placed. They apply
   * after the end of that connection. `#laterPorts` holds `src sport`.
   */
  #later: ConntrackEvent[] = [];
  readonly #laterPorts = new Set<string>();
  #watermark: number;
  /** Watermark before the reading of the last packet; whether an overrun was reported since. */
  #packetWatermark: number;
  #overrunTold = false;
  readonly #placement: RequestPlacement;
  readonly #clockSteps: ClockSteps;
  readonly #wakeups: Wakeups;
  readonly #lastReading = new LastReading();
  /** Until this monotonic time the nftables table is known to log the requests of all addresses. */
  #tapGoodUntil = Number.POSITIVE_INFINITY;
  #arrivedAt = 0;
  /** When the last complete reading of conntrack began: events that are read later happened after it. */
  #drainedAt: number;
  #drainingSince = 0;
  #flushing: Promise<void> | undefined;
  #closed = false;

  constructor(options: SourceMergeOptions) {
    const { clock, conntrack, tap } = options;
    this.#options = options;
    const sources: Source[] = [];
    if (conntrack) sources.push('conntrack');
    if (tap) sources.push('tap');
    this.completeness = new Completeness(sources);
    this.#watermark = clock.wall();
    this.#drainedAt = this.#watermark;
    this.#packetWatermark = this.#watermark;
    const { flows, stats } = options;
    this.#placement = new RequestPlacement({ flows, conntrack: conntrack !== undefined, stats });
    this.#clockSteps = new ClockSteps(clock);
    const parts = {
      conntrack,
      tap,
      monotonic: () => clock.monotonic(),
      read: () => this.read(),
      readConntrack: () => void this.#drainConntrack(conntrack!),
      hasLeft: () => options.flows.endings > 0 || this.#later.length > 0 || this.#out.length > 0,
    };
    this.#wakeups = new Wakeups(parts, this.#lastReading);
  }

  /** Reads as soon as a socket is readable. */
  start(): void {
    this.#wakeups.start();
  }

  close(): void {
    this.#closed = true;
    this.#wakeups.close();
  }

  /** Monotonic time of the last reading. */
  get lastRead(): number {
    return this.#lastReading.at;
  }

  /** After this monotonic time the tap counts as impaired, until the next call. */
  tapGoodUntil(monotonic: number): void {
    this.#tapGoodUntil = monotonic;
    this.completeness.mend('tap');
  }

  /**
   * Reads conntrack as soon as an event arrives, for exact event times. Records are not delivered earlier; each event costs
   * one or two system calls.
   */
  readPromptly(prompt: boolean): void {
    if (this.#wakeups.readPromptly(prompt) && !prompt) this.#options.accounting?.clear();
  }

  /** Where requests have ids, records may be gathered for `ms`. */
  gather(ms: number): void {
    this.#wakeups.gather(ms);
  }

  /** Delivers an observation of another source with the next reading. */
  push(observation: Observation): void {
    this.#out.push(observation);
  }

  flush(): Promise<void> {
    this.#flushing ??= new Promise((resolve) => {
      setImmediate(() => {
        this.#flushing = undefined;
        this.read();
        resolve();
      });
    });
    return this.#flushing;
  }

  /** Reads everything that the sockets hold and delivers it. True if the sockets are empty. */
  read(): boolean {
    if (this.#closed) return true;
    const { clock, conntrack, tap, packets, flows, sink, stats } = this.#options;
    this.#checkClock();
    const begun = clock.wall();
    if (clock.monotonic() > this.#tapGoodUntil) this.completeness.impair('tap');
    stats.cycles++;
    this.#lastReading.begin(stats);
    this.#options.accounting?.read(begun, this.#out);
    const conntrackEmpty = conntrack === undefined || this.#drainConntrack(conntrack);
    // Record a connection's end only after reading the tap until it is empty: its requests came before.
    const endings = flows.endings;
    const later = this.#later.length;
    const tapEmpty = tap === undefined || this.#drainTap(tap);
    const complete = conntrackEmpty && tapEmpty;
    const readConntrack = conntrack && (() => void this.#drainConntrack(conntrack));
    let requests = this.#placement.place(packets.take(), readConntrack, this.#out);
    // With a step during the reading, its times are of before and after the step.
    const stepped = this.#checkClock();
    const end = clock.wall();
    if (complete) {
      const readBehind = flows.endings - endings;
      flows.release(0, endings, end, this.#out);
      // A port may be used again several times within one reading; each round applies one use of each port.
      for (let left = later; left > 0; ) {
        const blocked = this.#applyLater(left, end);
        requests = this.#placement.place(requests, undefined, this.#out);
        if (blocked === left) break;
        left = blocked;
        flows.release(readBehind, flows.endings - readBehind, end, this.#out);
      }
    }
    let unplaced = 0;
    for (const each of requests) if (!this.#placement.emit(each, this.#out)) unplaced++;
    if (unplaced > 0) {
      stats.tapLost += unplaced;
      this.completeness.lose('tap', unplaced);
    }
    if (complete && this.#later.length === 0) flows.unlisted.settle();
    if (this.#options.takenPast?.check() || flows.unlisted.hidesRequests) this.completeness.lose('tap', 0);
    stats.flows = flows.size;
    stats.clients = this.#options.clients?.()?.connections ?? 0;
    stats.flowsRefused = flows.refused;
    stats.unlisted = flows.unlisted.size;
    stats.unlistedRefused = flows.unlisted.refused;
    for (const gap of this.completeness.gaps(this.#watermark, end)) {
      stats.gaps++;
      this.#out.push(gap);
    }
    if (complete && !stepped) this.#watermark = begun;
    const out = this.#out;
    this.#out = [];
    this.#lastReading.end(stats, clock.monotonic());
    sink.batch(out, this.#watermark, this.#wakeups.isReadAgain);
    return complete;
  }

  readonly #arrived = (): void => {
    this.#arrivedAt = this.#options.clock.wall();
  };

  #drainConntrack(source: NetlinkSource): boolean {
    const { stats, clock } = this.#options;
    this.#drainingSince = clock.wall();
    const drained = source.drain(READ_LIMIT, this.#visitEvent, this.#arrived);
    stats.conntrackEvents += drained.messages;
    if (drained.overrun) {
      stats.conntrackOverruns++;
      this.#loseConntrack();
    }
    if (drained.empty) this.#drainedAt = this.#drainingSince;
    return drained.empty;
  }

  #loseConntrack(): void {
    this.completeness.impair('conntrack');
    this.#options.onConntrackLoss();
  }

  readonly #visitEvent: MessageVisitor = (bytes, start, end) => {
    const { addresses, texts, stats } = this.#options;
    const event = parseConntrack(bytes, start, end, addresses, texts);
    const clients = this.#options.clients?.();
    // Also one from an address to another one, of nginx before nginx.
    const isIncoming = typeof event === 'string' ? event === 'other-source' : clients?.captures(event.ip);
    if (clients?.active && isIncoming) clients.visit(bytes, start, end, this.#arrivedAt, this.#watermark);
    if (typeof event === 'string') {
      if (event === 'malformed') stats.conntrackMalformed++;
      return;
    }
    stats.conntrackRelevant++;
    this.#take(event, this.#arrivedAt, this.#wakeups.prompt ? this.#drainedAt : undefined);
  };

  /** `since`: lower bound of the event's time, if requested and known. */
  #take(event: ConntrackEvent, readAt: number, since?: number): void {
    const { flows } = this.#options;
    const isNew = event.type === 'new';
    const portIsLater = this.#laterPorts.size > 0 && this.#laterPorts.has(portOf(event));
    if (portIsLater || (isNew && flows.opensAgain(event))) {
      this.#later.push(event);
      this.#laterPorts.add(portOf(event));
    } else if (isNew) {
      // The event happened before this reading, and after the last complete one.
      const t = Math.min(Math.max(event.eventMs ?? readAt, this.#watermark), readAt);
      const from = since === undefined ? undefined : Math.min(since, t);
      if (!flows.opened(event, t, this.#out, from)) this.#loseConntrack();
    } else if (event.type === 'destroy' || isOver(event)) {
      flows.ended(event, since === undefined ? undefined : Math.min(event.eventMs ?? readAt, readAt));
      const { accounting, stats } = this.#options;
      if (this.#wakeups.prompt && stats.accounting && event.tcpState === TCP_TIME_WAIT)
        accounting?.ended(event, readAt);
    }
  }

  /**
   * Applies the first `count` delayed events after ends were recorded. Returns how many of them met another end: those
   * are the first again.
   */
  #applyLater(count: number, readAt: number): number {
    const events = this.#later;
    this.#later = [];
    this.#laterPorts.clear();
    for (let i = 0; i < count; i++) this.#take(events[i]!, readAt);
    const blocked = this.#later.length;
    for (let i = count; i < events.length; i++) {
      this.#later.push(events[i]!);
      this.#laterPorts.add(portOf(events[i]!));
    }
    return blocked;
  }

  #drainTap(source: NetlinkSource): boolean {
    const { stats, packets } = this.#options;
    const before = stats.tapPackets;
    const add: MessageVisitor = (bytes, start, end) => packets.add(bytes, start, end, this.#arrivedAt);
    const drained = source.drain(READ_LIMIT, add, this.#arrived);
    if (drained.overrun) {
      stats.tapOverruns++;
      packets.overrun(this.#options.clock.wall());
      this.#overrunTold = true;
      this.#options.onTapLoss();
      // The next packet's number gives the count.
      this.completeness.lose('tap', 0);
    }
    const lost = packets.takeLost() + (drained.lost ?? 0);
    if (lost > 0) {
      stats.tapLost += lost;
      this.#options.onTapLoss();
      // Without an overrun the time of the loss is unknown: any time since the last packet.
      this.completeness.lose('tap', lost, this.#overrunTold ? undefined : this.#packetWatermark);
    }
    if (stats.tapPackets > before) {
      this.#packetWatermark = this.#watermark;
      if (!drained.overrun || lost > 0) this.#overrunTold = false;
    }
    if (drained.empty) packets.settle?.(this.#options.clock.wall());
    return drained.empty;
  }

  /**
   * If the wall clock was set, times before and after cannot be compared: a gap covers everything before, and the open
   * connections are delivered again. True if it was set.
   */
  #checkClock(): boolean {
    const step = this.#clockSteps.check();
    if (!step) return false;
    const { addresses, flows, stats, log } = this.#options;
    const { wall, stepMs } = step;
    stats.clockSteps++;
    log('error', `the clock was set by ${Math.round(stepMs)} ms: records from before are no longer used`);
    for (const source of this.completeness.sources) {
      stats.gaps++;
      this.#out.push({ kind: 'gap', t: wall, source });
    }
    this.#options.accounting?.clear();
    this.#watermark = wall;
    this.#packetWatermark = wall;
    for (const src of addresses.texts()) {
      for (const entry of flows.ofSource(src)) {
        entry.t = wall;
        entry.preexisting = true;
        this.#out.push(...snapshotOf(entry));
      }
    }
    this.#out.push(...(this.#options.clients?.()?.onClockStep(wall) ?? []));
    return true;
  }
}

function portOf({ src, sport }: ConntrackEvent): string {
  return `${src} ${sport}`;
}
