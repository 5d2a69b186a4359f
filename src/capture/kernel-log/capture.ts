/**
 * The source `kernel-log`: connections learned from iptables LOG records.
 *
 * A record carries nginx's port and an address: the pod's after DNAT, the Service's before it. The record does not say
 * which of the two (it has neither hook nor chain, and rules may be anywhere). So the source asks conntrack for a connection
 * whose reply tuple begins with this address: only a pod after DNAT has one, and the answer has the ClusterIP, too. An
 * address that is the destination of an original tuple only is no pod, and its record is dropped. Where conntrack knows no
 * connection (it is masqueraded, or its port is used by another by now), the record goes on without a ClusterIP: it
 * resolves no line, but can keep another line from a wrong pod.
 *
 * LOG records never report the end of a connection, and rules may log the connections of some pods only. A record
 * therefore identifies the backend only for requests shortly after `t`.
 */

import type { Flow, Observation } from '../../model/feed.ts';
import type {
  Capture,
  CaptureSink,
  CaptureStats,
  KernelLogStats,
  KnownFlow,
  Subscription,
  Wishes,
} from '../capture.ts';
import type { KernelMessage, KernelMessageSource, MessageReading } from './messages.ts';
import type { LogRecord } from './record.ts';
import { parseLogRecord } from './record.ts';

/** The kernel logs a packet before the connection is in conntrack's table: second look-up after this time (ms). */
const ASK_AGAIN_MS = 5;
/** Limit of connections looked up for one reading. Further records are dropped and counted as lost. */
const MOST_LOOKUPS = 2_000;
/** Wall and monotonic clock may drift apart this far between two readings before it counts as a step (ms). */
const KERNEL_LOG_CLOCK_STEP_MS = 500;
/** A subscription is complete, and answered, so long after its addresses are known: no record is missed in between (ms). */
const SUBSCRIBED_MS = 50;

/** The source's inputs. */
export interface KernelLog {
  source: KernelMessageSource;
  /** The connection whose reply tuple begins with the record's destination (conntrack/lookup.ts). */
  answeredBy(record: LogRecord): Promise<Required<Flow> | undefined>;
  /** Whether the record's destination is a ClusterIP: the destination of an original tuple. */
  isVip(record: LogRecord): Promise<boolean>;
}

export interface KernelLogOptions {
  /** Rejects with `CaptureError`. */
  open(): Promise<KernelLog>;
  /** `wait` resolves after so many ms. */
  clock: { wall(): number; monotonic(): number; wait(ms: number): Promise<void> };
  log(level: 'info' | 'warn' | 'error', message: string): void;
}

/** Adds the kernel log to another Capture. */
export class LoggedCapture implements Capture {
  readonly kernelLog: KernelLogStats = newStats();
  readonly #capture: Capture;
  readonly #options: KernelLogOptions;
  readonly #sink: CaptureSink;
  readonly #addresses = new Set<string>();
  /** Observations of the other sources since the last delivery, and their watermark. */
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

  async subscribe(addresses: readonly string[], wishes?: Wishes): Promise<Subscription> {
    for (const address of addresses) this.#addresses.add(address);
    const subscription = await this.#capture.subscribe(addresses, wishes);
    const { clock } = this.#options;
    await clock.wait(SUBSCRIBED_MS);
    subscription.completeSince['kernel-log'] = clock.wall();
    return subscription;
  }

  unsubscribe(addresses: readonly string[]): void {
    for (const address of addresses) this.#addresses.delete(address);
    this.#capture.unsubscribe(addresses);
  }

  readPromptly(prompt: boolean): void {
    this.#capture.readPromptly(prompt);
  }

  /** The times of the log's records are compared with those of the other sources. */
  gather(): void {}

  async flush(): Promise<void> {
    await this.#capture.flush();
    await this.#read();
  }

  lookup(src: string, sport: number): Promise<KnownFlow[]> {
    return this.#capture.lookup(src, sport);
  }

  addressesBeside(): Promise<{ addresses: string[]; answered: string[] }> {
    return this.#capture.addressesBeside();
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

  /** The connections of subscribers in the messages, each once. */
  #records(reading: MessageReading): [LogRecord, number][] {
    const { kernelLog: stats } = this;
    const seen = new Set<string>();
    const records: [LogRecord, number][] = [];
    stats.messages += reading.messages.length;
    stats.lost += reading.lost;
    stats.notKernel += reading.notKernel;
    stats.unknownLayout += reading.unknownLayout;
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
    notKernel: 0,
    unknownLayout: 0,
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
