/**
 * The source `kernel-log`: connections learned from iptables LOG records.
 *
 * A record carries nginx's port and an address that is the pod's after DNAT, and the Service's before; which of the two
 * it is, the record does not say (neither hook nor chain is in it, and rules may be anywhere). So conntrack is asked for
 * the connection that this address answers: only a pod after DNAT answers one, and with it comes the address that was
 * dialled. An address that was dialled, and answers nothing, is no pod: such a record is not told. What conntrack does
 * not know, as the connection is masqueraded or its port has gone on to another, is told without the dialled address:
 * no line can be resolved by it, but another can be kept from being resolved wrongly.
 *
 * Nothing tells a connection's end, and rules may log some pods' connections only. So what comes from here says of a
 * time shortly after `t` who answered, and nothing of later.
 */

import type { Flow, Observation } from '../../model/feed.ts';
import type {
  Capture,
  CaptureSink,
  CaptureStats,
  KernelLogStats,
  KnownFlow,
  Subscription,
} from '../capture.ts';
import type { KernelMessage, KernelMessageSource, MessageReading } from './messages.ts';
import type { LogRecord } from './record.ts';
import { parseLogRecord } from './record.ts';

/** A packet is logged before its connection is entered in conntrack's table: ask once more after this time (ms). */
const ASK_AGAIN_MS = 5;
/** Connections looked up for one reading. Beyond, records are dropped and counted as lost. */
const MOST_LOOKUPS = 2_000;
/** Wall and monotonic clock may drift apart this far between two readings before it counts as a step (ms). */
const KERNEL_LOG_CLOCK_STEP_MS = 500;
/** A subscription counts from this long after its answer, so that no record falls between the two (ms). */
const SUBSCRIBED_MS = 50;

/** What the source reads and asks. */
export interface KernelLog {
  source: KernelMessageSource;
  /** The connection that the record's destination answers (dialled.ts). */
  answeredBy(record: LogRecord): Promise<Required<Flow> | undefined>;
  /** Its destination is what was dialled. */
  isVip(record: LogRecord): Promise<boolean>;
}

export interface KernelLogOptions {
  /** Rejects with `CaptureError`. */
  open(): Promise<KernelLog>;
  /** `wait` resolves after so many ms. */
  clock: { wall(): number; monotonic(): number; wait(ms: number): Promise<void> };
  log(level: 'info' | 'warn' | 'error', message: string): void;
}

/** Another Capture, and the kernel log beside it. */
export class LoggedCapture implements Capture {
  readonly kernelLog: KernelLogStats = newStats();
  readonly #capture: Capture;
  readonly #options: KernelLogOptions;
  readonly #sink: CaptureSink;
  readonly #addresses = new Set<string>();
  /** What the other sources have brought since the last delivery, and their watermark. */
  #pending: Observation[] = [];
  #innerWatermark = Number.NEGATIVE_INFINITY;
  #completeUntil: number;
  #clockOffset: number;
  #kernel: KernelLog | undefined;
  #cycle: Promise<void> | undefined;
  #again = false;
  #failed = false;
  #closed = false;

  /** `capture` makes the Capture of the other sources. */
  constructor(capture: (sink: CaptureSink) => Capture, options: KernelLogOptions, sink: CaptureSink) {
    this.#options = options;
    this.#sink = sink;
    this.#completeUntil = options.clock.wall();
    this.#clockOffset = this.#completeUntil - options.clock.monotonic();
    this.#capture = capture({ batch: (observations, watermark) => this.#take(observations, watermark) });
  }

  get stats(): CaptureStats {
    return this.#capture.stats;
  }

  async start(): Promise<void> {
    this.#kernel = await this.#options.open();
    try {
      await this.#capture.start();
    } catch (error) {
      this.#kernel.source.close();
      throw error;
    }
    this.#completeUntil = this.#options.clock.wall();
    this.#watch();
  }

  async subscribe(addresses: readonly string[]): Promise<Subscription> {
    for (const address of addresses) this.#addresses.add(address);
    const subscription = await this.#capture.subscribe(addresses);
    subscription.completeSince['kernel-log'] = this.#options.clock.wall() + SUBSCRIBED_MS;
    return subscription;
  }

  unsubscribe(addresses: readonly string[]): void {
    for (const address of addresses) this.#addresses.delete(address);
    this.#capture.unsubscribe(addresses);
  }

  readPromptly(prompt: boolean): void {
    this.#capture.readPromptly(prompt);
  }

  async flush(): Promise<void> {
    await this.#capture.flush();
    await this.#read();
  }

  lookup(src: string, sport: number): Promise<KnownFlow[]> {
    return this.#capture.lookup(src, sport);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#kernel?.source.close();
    await this.#capture.close();
    await this.#cycle;
  }

  #take(observations: readonly Observation[], watermark: number): void {
    for (const observation of observations) this.#pending.push(observation);
    this.#innerWatermark = watermark;
    void this.#read();
  }

  #watch(): void {
    this.#kernel!.source.watch(() => {
      void this.#read().then(() => {
        if (!this.#closed && !this.#failed) this.#watch();
      });
    });
  }

  /** Resolves when a reading that begins after this call has been delivered. */
  #read(): Promise<void> {
    if (this.#kernel === undefined) return Promise.resolve();
    this.#again = true;
    this.#cycle ??= this.#cycles().finally(() => {
      this.#cycle = undefined;
    });
    return this.#cycle;
  }

  async #cycles(): Promise<void> {
    while (this.#again && !this.#closed) {
      this.#again = false;
      await this.#deliver();
    }
  }

  async #deliver(): Promise<void> {
    const { clock, log } = this.#options;
    const { source } = this.#kernel!;
    const stepped = this.#clockStepped();
    if (stepped) source.clockSet();
    let reading: MessageReading | undefined;
    let opens: Observation[] = [];
    try {
      reading = this.#failed ? undefined : await source.read();
      if (reading) opens = await this.#opens(reading);
    } catch (error) {
      log('error', `${(error as Error).message}; connections in the kernel log go unseen from here on`);
      this.#failed = true;
      reading = undefined;
    }
    if (this.#closed) return;
    const out = this.#pending;
    this.#pending = [];
    const before = this.#completeUntil;
    this.#completeUntil = stepped
      ? (reading?.completeUntil ?? clock.wall())
      : Math.max(before, reading?.completeUntil ?? clock.wall());
    for (const open of opens) out.push(open);
    if (reading === undefined || reading.incomplete || stepped) {
      this.kernelLog.gaps++;
      const gap: Observation = { kind: 'gap', source: 'kernel-log', t: clock.wall() };
      if (!stepped) gap.from = before;
      if (reading && reading.lost > 0) gap.lost = reading.lost;
      out.push(gap);
    }
    this.#sink.batch(out, Math.min(this.#innerWatermark, this.#completeUntil));
  }

  #clockStepped(): boolean {
    const { clock } = this.#options;
    const offset = clock.wall() - clock.monotonic();
    const step = offset - this.#clockOffset;
    this.#clockOffset = offset;
    return Math.abs(step) > KERNEL_LOG_CLOCK_STEP_MS;
  }

  async #opens(reading: MessageReading): Promise<Observation[]> {
    const { kernelLog: stats } = this;
    const { clock } = this.#options;
    const { answeredBy, isVip } = this.#kernel!;
    const records = this.#records(reading);
    const opens: Observation[] = [];
    const early: [LogRecord, number][] = [];
    for (const [record, t] of records) {
      const flow = await answeredBy(record);
      if (flow) opens.push({ kind: 'open', t, ...flow, via: 'kernel-log' });
      else early.push([record, t]);
    }
    if (early.length > 0) await clock.wait(ASK_AGAIN_MS);
    for (const [record, t] of early) {
      if (this.#closed) break;
      const flow = await answeredBy(record);
      if (flow === undefined && (await isVip(record))) {
        stats.beforeDnat++;
        continue;
      }
      const { src, sport, dst, dport } = record;
      if (flow === undefined) stats.withoutVip++;
      const known = flow ?? { src, sport, ip: dst, port: dport };
      opens.push({ kind: 'open', t, ...known, via: 'kernel-log' });
    }
    stats.opened += opens.length;
    return opens;
  }

  /** The connections of subscribers that the messages tell of, each once. */
  #records(reading: MessageReading): [LogRecord, number][] {
    const { kernelLog: stats } = this;
    const seen = new Set<string>();
    const records: [LogRecord, number][] = [];
    stats.messages += reading.messages.length;
    stats.lost += reading.lost;
    for (const message of reading.messages) {
      const record = this.#record(message);
      if (record === undefined) continue;
      const key = `${record.src} ${record.sport} ${record.dst} ${record.dport}`;
      if (seen.has(key)) {
        stats.repeated++;
      } else if (records.length >= MOST_LOOKUPS) {
        stats.dropped++;
        reading.lost++;
        reading.incomplete = true;
      } else {
        seen.add(key);
        records.push([record, message.t]);
      }
    }
    return records;
  }

  #record({ text }: KernelMessage): LogRecord | undefined {
    const { kernelLog: stats } = this;
    const record = parseLogRecord(text);
    switch (record) {
      case 'not-a-record':
        stats.notRecords++;
        return undefined;
      case 'not-tcp':
        stats.notTcp++;
        return undefined;
      case 'not-opening':
        stats.notOpening++;
        return undefined;
      case 'cut':
        stats.cut++;
        return undefined;
      default:
        stats.records++;
        return this.#addresses.has(record.src) ? record : undefined;
    }
  }
}

function newStats(): KernelLogStats {
  return {
    messages: 0,
    notRecords: 0,
    notTcp: 0,
    notOpening: 0,
    cut: 0,
    records: 0,
    opened: 0,
    repeated: 0,
    beforeDnat: 0,
    withoutVip: 0,
    dropped: 0,
    lost: 0,
    gaps: 0,
  };
}
