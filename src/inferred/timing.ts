/**
 * Which pod served a line, deduced from when connections were opened and closed: `--evidence inferred`.
 *
 * Where nginx opens a connection for every attempt, attempts and connections are pairs. An attempt's times leave some
 * connections possible, and a connection belongs to one attempt only. A backend is named where every assignment of
 * connections to all attempts gives it to the attempt.
 *
 * Where the kernel counts bytes, a connection that carried less than an attempt needs is not possible for it.
 *
 * It would be wrong if connections were not seen and requests were not logged at the same time, above all with a keepalive
 * pool. So a sign of either counts as a sign of both:
 *  - attempts that may have had a connection from before `#since` (gaps, forgotten connections) are left out;
 *  - after a surplus attempt or connection nothing is named for the Service around that time, and not before a hundred
 *    attempts without a sign (`decide`);
 *  - connections that are open for longer than the lines explain may have been kept and used again: they are candidates for
 *    every attempt that found its connection at once.
 */
import type { CloseRecord, FeedRecord, OpenRecord } from '../model/feed.ts';
import type { ParsedLine } from '../model/line.ts';
import { ClockGrain } from './clock-grain.ts';
import { decide, type RecordSoFar } from './decision.ts';
import { type TimedAttempt, timedAttempt } from './timed-attempt.ts';
import type { TimedFlow } from './timed-flow.ts';
import { TimedFlows } from './timed-flows.ts';
import { distrust, KEPT_MS, newService, type TimedService } from './timed-service.ts';
import { LoopIterations } from './turns.ts';

export interface TimingLimits {
  /** Connections remembered, all Services together. At the limit the oldest is forgotten; lines of its time stay unresolved. */
  flows: number;
  /** Attempts remembered, all Services together. At the limit the oldest are forgotten: their connections are surplus. */
  attempts: number;
  /** Possible connections of one attempt. An attempt with more stays unresolved. */
  candidates: number;
}

/** A decision over so many attempts takes some 0.35 s of a CPU, in which nothing else has its turn; over 20,000 it took 0.65. */
export const TIMING_LIMITS: TimingLimits = { flows: 40_000, attempts: 14_000, candidates: 256 };

export interface TimingPace {
  /** A line is decided when the record reaches this far past it (ms): the lines beside it have been read by then. */
  waitMs: number;
  /** Lines are decided together, up to this much early, so that a busy log does not mean a decision for each (ms). */
  togetherMs: number;
  /** Decided attempts are kept for this long (ms): their connections are not possible for others. */
  retainedMs: number;
}

/** For a log that nginx is writing. */
export const LIVE: TimingPace = { waitMs: 1_500, togetherMs: 150, retainedMs: 1_500 };
/** For a finished log: later lines help earlier ones, and a line may be written 15 seconds after its request. */
export const OFFLINE: TimingPace = { waitMs: 30_000, togetherMs: 15_000, retainedMs: 15_000 };
/** Counts arrive within this time after the end of their connection, or are not used (ms). */
const COUNTED_WITHIN_MS = 5_000;
/** A line that is read this long after its end (ms) shows that more are unread. Less than the wait of `LIVE`. */
const BEHIND_MS = 500;
/** Long-open connections whose lines may still be unread, for each Service. Beyond, the oldest count as kept. */
const MAX_LONG = 8_192;
/** Upstream addresses. At the limit everything is forgotten. */
const MAX_SERVICES = 5_000;

export class Timing {
  readonly counters = {
    decisions: 0,
    attempts: 0,
    named: 0,
    unmatched: 0,
    tooMany: 0,
    distrusted: 0,
    forgotten: 0,
  };
  readonly #limits: TimingLimits;
  #pace: TimingPace;
  #logEnd = Infinity;
  /** Lines that ended before this time have been read, unless the log is written faster than it is read. */
  #readUpTo = Infinity;
  readonly #grain = new ClockGrain();
  readonly #turns = new LoopIterations();
  readonly #services = new Map<string, TimedService>();
  readonly #open = new Map<string, { service: TimedService; flow: TimedFlow }>();
  /** Recently ended connections, whose counts may still arrive. */
  readonly #ended = new Map<string, TimedFlow>();
  /** Source ports with an end since the last watermark: the record of their next connection may precede that end. */
  readonly #endedPorts = new Set<string>();
  /** The Services of the remembered connections, in the order of their opening. */
  #order: TimedService[] = [];
  #orderHead = 0;
  readonly #byLine = new WeakMap<ParsedLine, (TimedAttempt | undefined)[]>();
  /** The record has the kinds of ends, so refused connections are known. */
  #hasKindsOfEnds = false;
  #attemptCount = 0;
  #watermark = -Infinity;
  /** Every connection opened after this is known. */
  #since = Infinity;

  constructor(limits: TimingLimits = TIMING_LIMITS, pace: TimingPace = LIVE) {
    this.#limits = limits;
    this.#pace = pace;
  }

  /** How far the record must reach past a line before `backend` has a result (ms). */
  get waitMs(): number {
    return this.#pace.waitMs + Math.max(0, this.#watermark - this.#readUpTo);
  }

  /** The log ends at `t`: no line will come for connections opened later, or for those that were in use then. */
  finish(t: number): void {
    this.#pace = LIVE;
    this.#logEnd = t;
  }

  /** Attempts that ended by this time may be decided. */
  get #until(): number {
    return (
      Math.min(this.#watermark, this.#logEnd, this.#readUpTo) - (this.#pace.waitMs - this.#pace.togetherMs)
    );
  }

  get sizes(): { flows: number; attempts: number } {
    return { flows: this.#order.length - this.#orderHead, attempts: this.#attemptCount };
  }

  /** Applies one record, in the order of the feed. */
  apply(record: FeedRecord): void {
    if (record.kind === 'tick') {
      this.#watermark = Math.max(this.#watermark, record.t);
      this.#endedPorts.clear();
      return;
    }
    if (record.kind === 'gap') {
      if (record.source !== 'conntrack') return;
      if (record.from === undefined) this.#beginAnew(record.t);
      else this.#since = Math.max(this.#since, record.t);
      return;
    }
    if ((record.kind !== 'open' && record.kind !== 'close') || record.via !== 'conntrack') return;
    if (record.kind === 'open') this.#opened(record);
    else if (record.update) this.#counted(record);
    else this.#closed(record);
  }

  /** Adds one line, in the order of the log, once it is read; `readAt`: the time of that, Infinity if not known. */
  observe(line: ParsedLine, readAt: number): void {
    const { endMs } = line;
    if (endMs !== undefined) {
      this.#readUpTo = readAt !== Infinity && readAt - endMs > BEHIND_MS ? endMs : Infinity;
    }
    this.#grain.observe(line);
    this.#turns.observe(line);
    const timed = line.attempts.map((_, k) => timedAttempt(line, k, this.#grain.coarseMs));
    this.#byLine.set(line, timed);
    timed.forEach((attempt, k) => {
      if (!attempt) return;
      const { ip, port } = line.attempts[k]!;
      this.#service(ip, port).attempts.push(attempt);
      this.#attemptCount++;
    });
    if (this.#attemptCount > this.#limits.attempts) this.#forgetAttempts();
  }

  /** Other evidence has named the backend of an attempt, so only connections to it are possible. */
  know(line: ParsedLine, k: number, ip: string, port: number): void {
    const attempt = this.#byLine.get(line)?.[k];
    if (attempt) attempt.backend = `${ip} ${port}`;
  }

  /** The backend of an attempt of an observed line, or undefined. Ask once the record is `waitMs` past the line. */
  backend(line: ParsedLine, k: number): { ip: string; port: number } | undefined {
    const attempt = this.#byLine.get(line)?.[k];
    if (!attempt) return undefined;
    if (!attempt.decided && attempt.end <= this.#until) {
      const { ip, port } = line.attempts[k]!;
      this.#decide(this.#service(ip, port));
    }
    if (attempt.outcome === undefined) return undefined;
    const [ip, port] = attempt.outcome.split(' ');
    return { ip: ip!, port: Number(port) };
  }

  #opened(record: OpenRecord): void {
    const { src, sport, vip, vport } = record;
    if (vip === undefined || vport === undefined || this.#open.size >= this.#limits.flows) {
      // It may belong to any Service, or be open from before the record.
      this.#beginAnew(Infinity);
      return;
    }
    const key = `${src} ${sport} ${vip} ${vport}`;
    const service = this.#service(vip, vport);
    this.#ended.delete(key);
    const known = this.#open.get(key);
    if (known) {
      if (record.preexisting && known.flow.backend === `${record.ip} ${record.port}`) return;
      this.#end(known.service, known.flow, record.t, undefined);
    }
    // The kernel's times are more exact than the order, and may differ from it where two CPUs open connections.
    const inOrder = !record.preexisting && !record.kernelTime && !this.#endedPorts.has(`${src} ${sport}`);
    this.#open.set(key, { service, flow: service.flows.opened(record, this.#watermark, inOrder) });
    this.#order.push(service);
    while (this.#order.length - this.#orderHead > this.#limits.flows) this.#forgetFlow();
  }

  #closed(record: CloseRecord): void {
    const key = `${record.src} ${record.sport} ${record.vip} ${record.vport}`;
    if (record.end !== undefined) this.#hasKindsOfEnds = true;
    this.#endedPorts.add(`${record.src} ${record.sport}`);
    const known = this.#open.get(key);
    if (!known) return;
    this.#open.delete(key);
    this.#end(known.service, known.flow, record.endedBefore ?? record.t, record.end);
    if (!known.flow.finished) return;
    for (const [endedKey, flow] of this.#ended) {
      if (flow.closeTo > record.t - COUNTED_WITHIN_MS && this.#ended.size < this.#limits.flows) break;
      this.#ended.delete(endedKey);
    }
    this.#ended.set(key, known.flow);
  }

  #counted({ src, sport, vip, vport, counts }: CloseRecord): void {
    const key = `${src} ${sport} ${vip} ${vport}`;
    const flow = this.#ended.get(key);
    if (!flow || !counts) return;
    this.#ended.delete(key);
    TimedFlows.counted(flow, counts);
  }

  #end(service: TimedService, flow: TimedFlow, t: number, how: CloseRecord['end']): void {
    const { flows } = service;
    flows.closed(flow, t, how);
    if (t > flow.openTo + KEPT_MS) flows.long.push(flow);
    if (flows.long.length > MAX_LONG) {
      service.keptUnknownUntil = Math.max(service.keptUnknownUntil, flows.long.shift()!.closeTo);
    }
  }

  #forgetFlow(): void {
    const service = this.#order[this.#orderHead++]!;
    this.#since = Math.max(this.#since, service.flows.forgetOldest());
    this.counters.forgotten++;
    if (this.#orderHead * 2 > this.#order.length) {
      this.#order = this.#order.slice(this.#orderHead);
      this.#orderHead = 0;
    }
  }

  /** Forgotten attempts count as decided: a decision for each of their lines would cost more than all others together. */
  #forgetAttempts(): void {
    for (const service of this.#services.values()) {
      const half = service.attempts.length >> 1;
      for (const attempt of service.attempts.splice(0, half)) attempt.decided = true;
      // The remaining lines may explain fewer connections than there are.
      if (half === 0) continue;
      distrust(service, this.#watermark, this.counters);
      service.crowdedUntil = Math.max(service.crowdedUntil, this.#watermark);
    }
    this.#countAttempts();
  }

  #countAttempts(): void {
    this.#attemptCount = 0;
    for (const service of this.#services.values()) this.#attemptCount += service.attempts.length;
  }

  /** Forgets every connection that was opened up to `t`. In a log that is read ahead, later attempts stay. */
  #beginAnew(t: number): void {
    const later = [...this.#services].map(
      ([key, { attempts }]) => [key, attempts.filter(({ lo }) => lo > t)] as const,
    );
    this.#services.clear();
    this.#open.clear();
    this.#ended.clear();
    this.#order = [];
    this.#orderHead = 0;
    this.#attemptCount = 0;
    this.#since = t;
    this.#watermark = Math.min(this.#watermark, t);
    for (const [key, attempts] of later) {
      if (attempts.length > 0) this.#services.set(key, { ...newService(), attempts });
    }
    this.#countAttempts();
  }

  #service(ip: string, port: number): TimedService {
    const key = `${ip} ${port}`;
    let service = this.#services.get(key);
    if (!service) {
      if (this.#services.size >= MAX_SERVICES) this.#beginAnew(Math.max(this.#since, this.#watermark));
      service = newService();
      this.#services.set(key, service);
    }
    return service;
  }

  /** Decides every attempt of the Service that the record is far enough past. */
  #decide(service: TimedService): void {
    const until = this.#until;
    // Whatever was learned of that time, the Service is void for longer.
    if (until <= service.crowdedUntil) {
      service.checkedUntil = Math.max(service.checkedUntil, until);
      this.#putAside(service, until);
      return;
    }
    const record: RecordSoFar = {
      since: this.#since,
      watermark: this.#watermark,
      hasKindsOfEnds: this.#hasKindsOfEnds,
      turns: this.#turns,
      grainMs: this.#grain.ms,
      candidates: this.#limits.candidates,
    };
    decide(service, until, record, this.counters);
    this.#putAside(service, until);
  }

  /** What ended by `until` has had its decision. */
  #putAside(service: TimedService, until: number): void {
    for (const attempt of service.attempts) {
      if (attempt.decided || attempt.end > until) continue;
      attempt.decided = true;
      this.counters.attempts++;
    }
    service.attempts = service.attempts.filter(({ end }) => end > until - this.#pace.retainedMs);
    this.#countAttempts();
  }
}
