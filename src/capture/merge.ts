/** Turns what the sockets hold into observations in order, with a watermark and with gaps. */

import type { Observation, Source } from '../model/feed.ts';
import type { CaptureSink, CaptureStats } from './capture.ts';
import { Completeness } from './completeness.ts';
import type { Accounting } from './conntrack/counters.ts';
import { type FlowTable, snapshotOf } from './conntrack/flow-table.ts';
import { type ConntrackEvent, parseConntrack, TCP_CLOSE, TCP_TIME_WAIT } from './conntrack/message.ts';
import type { AddressSet, AddressTexts } from './ip-bytes.ts';
import type { Drained, MessageVisitor } from './netlink/socket.ts';
import { takeSegment } from './tap/request-order.ts';
import type { PendingRequest, PendingSegment, TapReading } from './tap/request-tap.ts';

/** Rest between two readings, and after a reading that followed `QUIET_MS` without one. */
const REST_MS = 5;
const FIRST_REST_MS = 1;
const QUIET_MS = 20;
/**
 * The same after a reading of so many requests. Each reading costs every reader of the feed far more than a request does, and
 * at such a rate 3 ms more tell no two requests apart that could not be told apart before.
 */
const BUSY_REST_MS = 8;
const BUSY_REQUESTS = 12;
/** Messages read from a socket before the event loop gets its turn. More than the default receive buffer holds. */
const READ_LIMIT = 65_536;
/** Wall and monotonic clock may drift apart this far between two readings before it counts as a step. */
const CLOCK_STEP_MS = 100;
/** Two readings of the clocks that took longer than this (ms) were interrupted, and are made again. */
const INTERRUPTED_MS = 5;

/** What `NetlinkSocket` is to the reader. */
export interface NetlinkSource {
  drain(limit: number, visit: MessageVisitor, arrived?: () => void): Drained;
  watch(readable: () => void): void;
  unwatch(): void;
}

export interface Clock {
  /** Ms since the epoch. */
  wall(): number;
  /** Ms since any fixed moment, never set. */
  monotonic(): number;
}

export interface SourceMergeOptions {
  conntrack: NetlinkSource | undefined;
  tap: NetlinkSource | undefined;
  /** What the tap's packets are to be read as. */
  packets: TapReading;
  addresses: AddressSet;
  texts: AddressTexts;
  flows: FlowTable;
  /** Where connections that have ended are asked about, for those who want good times. */
  accounting?: Accounting | undefined;
  clock: Clock;
  sink: CaptureSink;
  stats: CaptureStats;
  /** Conntrack events were lost, or connections could not be kept: the table of flows has to be compared with a dump. */
  onConntrackLoss(): void;
  log(level: 'info' | 'warn' | 'error', message: string): void;
}

export class SourceMerge {
  readonly completeness: Completeness;
  readonly #options: SourceMergeOptions;
  #out: Observation[] = [];
  /**
   * Events of source ports that were used again before the requests of the connection that had them were placed: they
   * come after that connection's end. `#laterPorts` holds `src sport`.
   */
  #later: ConntrackEvent[] = [];
  readonly #laterPorts = new Set<string>();
  #watermark: number;
  /** Watermark before the reading that brought the last packet; whether an overrun was told since. */
  #packetWatermark: number;
  #overrunTold = false;
  /** Offset of the wall clock over the monotonic one at the last reading. */
  #clockOffset: number;
  /** Monotonic time until which the table is known to log the requests of all addresses. */
  #tapGoodUntil = Number.POSITIVE_INFINITY;
  #lastRead = Number.NEGATIVE_INFINITY;
  /** Requests that the last reading brought. */
  #brought = 0;
  #arrivedAt = 0;
  /** When the last reading of all conntrack events began: those read since then happened after it. */
  #drainedAt: number;
  #drainingSince = 0;
  /** Somebody wants to know when connections were opened as exactly as can be. */
  #prompt = false;
  #timer: NodeJS.Timeout | undefined;
  #immediate: NodeJS.Immediate | undefined;
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
    this.#clockOffset = this.#watermark - clock.monotonic();
  }

  /** Reads whenever there is something to read. */
  start(): void {
    this.#arm();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearImmediate(this.#immediate);
    this.#unwatch();
  }

  /** Monotonic time of the last reading. */
  get lastRead(): number {
    return this.#lastRead;
  }

  /** Past this monotonic time the tap is impaired, until it is called again. */
  tapGoodUntil(monotonic: number): void {
    this.#tapGoodUntil = monotonic;
    this.completeness.mend('tap');
  }

  /**
   * Whether conntrack is read as soon as there is something to read, so that events have good times. What is read goes out
   * no sooner than otherwise: the cost is a system call or two for each event.
   */
  readPromptly(prompt: boolean): void {
    if (this.#prompt === prompt || this.#closed) return;
    this.#prompt = prompt;
    if (prompt) this.#options.conntrack?.watch(this.#conntrackReadable);
    else this.#options.accounting?.clear();
  }

  /** For what others learn: delivered with the next reading. */
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

  /** Reads everything that the sockets hold and delivers it. True if nothing was left. */
  read(): boolean {
    if (this.#closed) return true;
    const { clock, conntrack, tap, packets, flows, sink, stats } = this.#options;
    this.#checkClock();
    const begun = clock.wall();
    if (clock.monotonic() > this.#tapGoodUntil) this.completeness.impair('tap');
    stats.cycles++;
    const before = stats.tapRequests;
    this.#options.accounting?.read(begun, this.#out);
    const conntrackEmpty = conntrack === undefined || this.#drainConntrack(conntrack);
    // The end of a connection may be recorded once the tap has been emptied after it: then its requests came before.
    const endings = flows.endings;
    const tapEmpty = tap === undefined || this.#drainTap(tap);
    const complete = conntrackEmpty && tapEmpty;
    let requests = this.#placeRequests(packets.take(), conntrack);
    // What was read meanwhile has times of before and after.
    const stepped = this.#checkClock();
    const end = clock.wall();
    if (complete) {
      flows.release(endings, end, this.#out);
      if (this.#applyLater(end)) requests = this.#placeRequests(requests, undefined);
    }
    for (const each of requests) this.#emit(each);
    this.#brought = stats.tapRequests - before;
    stats.flows = flows.size;
    stats.flowsRefused = flows.refused;
    for (const gap of this.completeness.gaps(this.#watermark, end)) {
      stats.gaps++;
      this.#out.push(gap);
    }
    if (complete && !stepped) this.#watermark = begun;
    const out = this.#out;
    this.#out = [];
    this.#lastRead = clock.monotonic();
    sink.batch(out, this.#watermark);
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
    if (typeof event === 'string') {
      if (event === 'malformed') stats.conntrackMalformed++;
      return;
    }
    stats.conntrackRelevant++;
    this.#take(event, this.#arrivedAt, this.#prompt ? this.#drainedAt : undefined);
  };

  /** `since`: it happened after that, where that is wanted and known. */
  #take(event: ConntrackEvent, readAt: number, since?: number): void {
    const { flows } = this.#options;
    const isNew = event.type === 'new';
    const portIsLater = this.#laterPorts.size > 0 && this.#laterPorts.has(portOf(event));
    if (portIsLater || (isNew && flows.isEnding(event))) {
      this.#later.push(event);
      this.#laterPorts.add(portOf(event));
    } else if (isNew) {
      // The kernel's own time of the event lies before the reading, and after the last complete one.
      const t = Math.min(Math.max(event.eventMs ?? readAt, this.#watermark), readAt);
      const from = since === undefined ? undefined : Math.min(since, t);
      if (!flows.opened(event, t, this.#out, from)) this.#loseConntrack();
    } else if (event.type === 'destroy' || isOver(event)) {
      flows.ended(event, since === undefined ? undefined : Math.min(event.eventMs ?? readAt, readAt));
      const { accounting, stats } = this.#options;
      if (this.#prompt && stats.accounting && event.tcpState === TCP_TIME_WAIT)
        accounting?.ended(event, readAt);
    }
  }

  /** After ends were recorded. What meets yet another end waits for the next reading. */
  #applyLater(readAt: number): boolean {
    if (this.#later.length === 0) return false;
    const events = this.#later;
    this.#later = [];
    this.#laterPorts.clear();
    for (const event of events) this.#take(event, readAt);
    return true;
  }

  #drainTap(source: NetlinkSource): boolean {
    const { stats, packets } = this.#options;
    const before = stats.tapPackets;
    const add: MessageVisitor = (bytes, start, end) => packets.add(bytes, start, end, this.#arrivedAt);
    const drained = source.drain(READ_LIMIT, add, this.#arrived);
    if (drained.overrun) {
      stats.tapOverruns++;
      packets.overrun();
      this.#overrunTold = true;
      // How many is known with the next packet's number.
      this.completeness.lose('tap', 0);
    }
    const lost = packets.takeLost();
    if (lost > 0) {
      stats.tapLost += lost;
      // Without an overrun nothing said when they were lost: any time since the last packet.
      this.completeness.lose('tap', lost, this.#overrunTold ? undefined : this.#packetWatermark);
    }
    if (stats.tapPackets > before) {
      this.#packetWatermark = this.#watermark;
      if (!drained.overrun || lost > 0) this.#overrunTold = false;
    }
    return drained.empty;
  }

  /**
   * Ties requests to connections and tells them, in the order of the wire: the requests of one line that was tried
   * again are told apart by it. Returns those from the first of no known connection on. A request may have been read
   * before the event that tells of its connection, so `conntrack` is read once more for the first of these.
   */
  #placeRequests(
    pending: (PendingRequest | PendingSegment)[],
    conntrack: NetlinkSource | undefined,
  ): PendingRequest[] {
    const { flows, stats } = this.#options;
    const held: PendingRequest[] = [];
    let again = conntrack;
    for (const each of pending) {
      const { request } = each;
      let entry = each.placed ? undefined : flows.find(request.src, request.sport, request.ip, request.port);
      if (entry === undefined && !each.placed && again !== undefined) {
        this.#drainConntrack(again);
        again = undefined;
        entry = flows.find(request.src, request.sport, request.ip, request.port);
      }
      if (entry !== undefined) each.placed = true;
      // Without conntrack nothing tells plain body from what may hold a request.
      if (request.midStream && !this.#options.conntrack) {
        stats.tapNotHttp++;
        continue;
      }
      if (request.received !== undefined && entry === 'several') {
        // Counts of two connections that look like one would be neither's.
        if (request.update) continue;
        delete request.sent;
        delete request.received;
      }
      if (entry !== undefined && entry !== 'several') {
        const what = 'seq' in each ? takeSegment(entry, each) : 'request';
        if (what === 'repeated') {
          stats.tapRepeated++;
          continue;
        }
        request.vip = entry.vip;
        request.vport = entry.vport;
        each.unreadable = what === 'unreadable';
      } else if (entry === 'several' && request.midStream && 'seq' in each) {
        // Which connection it is, and so what came before, is not known.
        each.unreadable = true;
      }
      if (each.placed && held.length === 0) this.#emit(each);
      else held.push(each);
    }
    return held;
  }

  #emit(pending: PendingRequest | PendingSegment): void {
    const { request } = pending;
    const { stats } = this.#options;
    if ('protocol' in pending && pending.unreadable) {
      const { t, src, sport, vip, vport, ip, port, via } = request;
      const dialed = vip === undefined || vport === undefined ? {} : { vip, vport };
      stats.unreadable++;
      this.#out.push({
        kind: 'unreadable',
        ...{ t, src, sport, ...dialed, ip, port, via },
        protocol: pending.protocol,
      });
      return;
    }
    this.#out.push(request);
    if (request.midStream) {
      stats.tapWithin++;
      return;
    }
    if (request.update) return;
    stats.tapRequests++;
    if (request.id === undefined && request.received === undefined) stats.tapWithoutId++;
  }

  /**
   * Where the wall clock was set, times before and after cannot be compared: everything before is declared unknown,
   * and the connections that are open are told anew. True if it was set.
   */
  #checkClock(): boolean {
    const { clock, addresses, flows, stats, log } = this.#options;
    const { wall, offset } = compareClocks(clock);
    const step = offset - this.#clockOffset;
    this.#clockOffset = offset;
    if (Math.abs(step) <= CLOCK_STEP_MS) return false;
    stats.clockSteps++;
    log('error', `the clock was set by ${Math.round(step)} ms: what was seen before no longer counts`);
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
    return true;
  }

  readonly #arm = (): void => {
    this.#timer = undefined;
    this.#options.conntrack?.watch(this.#conntrackReadable);
    this.#options.tap?.watch(this.#wake);
  };

  #unwatch(): void {
    if (!this.#prompt || this.#closed) this.#options.conntrack?.unwatch();
    this.#options.tap?.unwatch();
  }

  readonly #conntrackReadable = (): void => {
    if (!this.#prompt || this.#closed) {
      this.#wake();
      return;
    }
    const { conntrack, clock } = this.#options;
    this.#drainConntrack(conntrack!);
    if (this.#timer !== undefined) return;
    const quiet = clock.monotonic() - this.#lastRead > QUIET_MS;
    this.#timer = setTimeout(this.#wake, this.#rest(quiet));
  };

  #rest(quiet: boolean): number {
    if (quiet) return FIRST_REST_MS;
    return this.#brought >= BUSY_REQUESTS && !this.#prompt ? BUSY_REST_MS : REST_MS;
  }

  /** A reading, then a rest in which messages collect, so that load does not mean a reading each. */
  readonly #wake = (): void => {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#unwatch();
    const quiet = this.#options.clock.monotonic() - this.#lastRead > QUIET_MS;
    const complete = this.read();
    if (!complete) {
      this.#immediate = setImmediate(this.#wake);
      return;
    }
    this.#timer = setTimeout(this.#rested, this.#rest(quiet));
  };

  readonly #rested = (): void => {
    // What was put off, or has been read and not delivered, does not wake anyone up.
    const left = this.#options.flows.endings > 0 || this.#later.length > 0 || this.#out.length > 0;
    if (left) this.#wake();
    else this.#arm();
  };
}

/** Both follow corrections of the machine's clock alike, so they drift apart only where one of them is set. */
function compareClocks({ wall, monotonic }: Clock): { wall: number; offset: number } {
  for (let tries = 1; ; tries++) {
    const before = monotonic();
    const now = wall();
    if (monotonic() - before < INTERRUPTED_MS || tries === 3) return { wall: now, offset: now - before };
  }
}

/** Both sides have closed it, or it was reset before it was established: no exchange can begin or go on. */
function isOver({ tcpState, assured }: ConntrackEvent): boolean {
  return tcpState === TCP_TIME_WAIT || (tcpState === TCP_CLOSE && assured === false);
}

function portOf({ src, sport }: ConntrackEvent): string {
  return `${src} ${sport}`;
}
