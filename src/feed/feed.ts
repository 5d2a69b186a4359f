import { randomUUID } from 'node:crypto';
import type { Capture, CaptureSink, SnapshotObservation, Subscription } from '../capture/capture.ts';
import { type NameRecord, NO_CURSOR, type Observation, type Source } from '../model/feed.ts';
import type { PodName } from '../model/outcome.ts';
import type { ResumePoint } from '../model/resume-point.ts';
import { encodeRecord } from './codec.ts';
import { isLasting, openedBefore } from './replay.ts';
import { Ring } from './ring.ts';

export interface FeedLimits {
  /** Bytes of records kept for readers that reconnect. */
  ringBytes: number;
  /** How long addresses stay subscribed after their last reader disconnects, so that it can resume without a gap (ms). */
  lingerMs: number;
  /** Interval of watermarks for a reader without records (ms). */
  quietTickMs: number;
  readers: number;
  /** Readers of one address: a pod's sidecars, and those whose connections are about to end. */
  readersPerAddress: number;
  /** Addresses whose names one reader gets. */
  namesPerReader: number;
}

export const FEED_LIMITS: FeedLimits = {
  ringBytes: 32 * 1024 * 1024,
  lingerMs: 30_000,
  quietTickMs: 1_000,
  readers: 500,
  readersPerAddress: 16,
  namesPerReader: 20_000,
};

/** Receives a reader's text. The transport closes a reader that is too slow. */
export type Write = (text: string) => void;

export interface Reader {
  readonly addresses: ReadonlySet<string>;
  close(): void;
}

/** What a reader gets beside the records that every reader gets. */
export interface ReaderWishes {
  /** Exact times of openings and ends, for deductions from them. */
  prompt?: boolean | undefined;
  /** The beginnings of answers. */
  answers?: boolean | undefined;
}

interface OpenReader extends Reader {
  prompt: boolean;
  answers: boolean;
  write: Write;
  pending: string;
  named: Set<string>;
  lastTick: number;
  wantsTick: boolean;
}

interface Watched {
  readers: Set<OpenReader>;
  /** After this `seq` the records of the address are complete. */
  sinceSeq: number;
  /** The same for a reader that gets answers. */
  answersSinceSeq: number;
  lapse: NodeJS.Timeout | undefined;
}

export interface NameLookup {
  lookup(ip: string): PodName | undefined;
  /** The current name of `ip` and the past ones in memory, oldest first. */
  history(ip: string): Iterable<Omit<NameRecord, 'seq'>>;
}

export type FeedCapture = Pick<Capture, 'subscribe' | 'unsubscribe' | 'flush' | 'readPromptly'>;

/** The result of a request for the feed. */
export type Opened = { reader: Reader } | { refused: 'readers' };

/**
 * One ordered sequence of records from all sources; each reader gets those of its own addresses. `seq` begins with the
 * clock, so the cursor of an earlier process is too small, and leads to a fresh start.
 */
export class Feed implements CaptureSink {
  /** The id of this process: a cursor is valid for one process only. */
  readonly instance = randomUUID();
  readonly stats = { records: 0, bytes: 0, readers: 0, freshStarts: 0, resumed: 0, gaps: 0 };
  readonly #limits: FeedLimits;
  readonly #clock: () => number;
  readonly #ring: Ring;
  readonly #watched = new Map<string, Watched>();
  readonly #readers = new Set<OpenReader>();
  #capture: FeedCapture | undefined;
  #names: NameLookup | undefined;
  #seq: number;
  #watermark = -Infinity;

  constructor(clock: () => number, limits: FeedLimits = FEED_LIMITS) {
    this.#clock = clock;
    this.#limits = limits;
    this.#seq = Math.floor(clock() * 1000);
    this.#ring = new Ring(limits.ringBytes, this.#seq);
  }

  /** The source of the records. Until it is connected, readers wait. */
  connect(capture: FeedCapture, names?: NameLookup): void {
    this.#capture = capture;
    this.#names = names;
  }

  get watermark(): number {
    return this.#watermark;
  }

  get ringBytes(): number {
    return this.#ring.bytes;
  }

  get addresses(): string[] {
    return [...this.#watched.keys()];
  }

  batch(observations: Observation[], watermark: number): void {
    for (const observation of observations) this.#publish(observation);
    this.#watermark = watermark;
    const now = this.#clock();
    for (const reader of this.#readers) {
      if (reader.pending === '' && !reader.wantsTick && now - reader.lastTick < this.#limits.quietTickMs)
        continue;
      this.#send(reader, now);
    }
  }

  /** An address got, changed or lost its name. The readers that have a record of the address get it. */
  name(record: Omit<NameRecord, 'seq'>): void {
    let text = '';
    for (const reader of this.#readers) {
      if (!reader.named.has(record.ip)) continue;
      text ||= encodeRecord(record, this.#seq);
      reader.pending += text;
    }
  }

  /**
   * Starts a reader of these addresses. If the ring still has every record after the cursor, the reader gets those; else a
   * `gap` for each source, the open connections, and then new records. A reader with a ResumePoint has an empty index:
   * it first gets a `gap` up to that point for each source, and the connections that were open there.
   */
  async open(
    addresses: readonly string[],
    from: number | ResumePoint | undefined,
    write: Write,
    { prompt = false, answers = false }: ReaderWishes = {},
  ): Promise<Opened> {
    const { readers, readersPerAddress } = this.#limits;
    const crowded = addresses.some(
      (address) => (this.#watched.get(address)?.readers.size ?? 0) >= readersPerAddress,
    );
    if (this.#readers.size >= readers || crowded) return { refused: 'readers' };
    const reader: OpenReader = {
      addresses: new Set(addresses),
      write,
      prompt,
      answers,
      pending: '',
      named: new Set(),
      lastTick: 0,
      wantsTick: false,
      close: () => this.#close(reader),
    };
    if (typeof from === 'number' && this.#holds(reader, from)) {
      this.stats.resumed++;
      for (const address of reader.addresses) this.#join(address, reader);
      this.#replay(reader, from);
    } else {
      const point = typeof from === 'object' && from.instance === this.instance ? from : undefined;
      // Before `#watched` is changed: the ring has no records of addresses that are subscribed only from now on.
      const held = point !== undefined && this.#holds(reader, point.after);
      // In `#watched` during the subscription, so that the end of another reader does not unsubscribe them.
      for (const address of reader.addresses) this.#join(address, reader);
      const subscription = await this.#subscribe(reader);
      // The ring may have dropped records meanwhile.
      if (held && this.#holds(reader, point.after)) this.#resume(reader, point, subscription);
      else this.#begin(reader, subscription);
    }
    this.#readers.add(reader);
    this.#readersChanged();
    this.#send(reader, this.#clock());
    return { reader };
  }

  #begin(reader: OpenReader, { flows, completeSince }: Subscription): void {
    this.stats.freshStarts++;
    for (const [source, since] of Object.entries(completeSince) as [Source, number][]) {
      // The address was subscribed already: earlier records are not for this reader.
      const t = Math.max(since, this.#watermark);
      reader.pending += encodeRecord({ kind: 'gap', t, source }, NO_CURSOR);
    }
    for (const flow of flows) this.#introduceFlow(reader, flow);
  }

  #resume(reader: OpenReader, { after, since }: ResumePoint, { flows, completeSince }: Subscription): void {
    this.stats.resumed++;
    for (const source of Object.keys(completeSince) as Source[]) {
      reader.pending += encodeRecord({ kind: 'gap', t: since, source }, NO_CURSOR);
    }
    const texts: string[] = [];
    for (const { text } of this.#ring.after(after, reader.addresses)) texts.push(text);
    for (const flow of openedBefore(texts, flows, since)) this.#introduceFlow(reader, flow);
    // Earlier `unreadable` records of those connections are still valid.
    for (const { seq, text } of this.#ring.after(NO_CURSOR, reader.addresses))
      if (seq <= after && isLasting(text)) reader.pending += text;
    this.#replay(reader, after);
  }

  #introduceFlow(reader: OpenReader, flow: SnapshotObservation): void {
    this.#introduce(reader, flow.ip, flow.t);
    if (flow.vip !== undefined) this.#introduce(reader, flow.vip, flow.t);
    reader.pending += encodeRecord(flow, NO_CURSOR);
  }

  #replay(reader: OpenReader, after: number): void {
    for (const { ip, t, text } of this.#ring.after(after, reader.addresses)) {
      if (ip !== '') this.#introduce(reader, ip, t);
      reader.pending += text;
    }
  }

  /** Reads all events up to now; readers of these addresses get a watermark not before the time of this call. */
  async flush(addresses: readonly string[]): Promise<void> {
    for (const address of addresses) {
      for (const reader of this.#watched.get(address)?.readers ?? []) reader.wantsTick = true;
    }
    await this.#capture?.flush();
  }

  close(): void {
    for (const reader of [...this.#readers]) reader.close();
    for (const watched of this.#watched.values()) clearTimeout(watched.lapse);
    this.#watched.clear();
  }

  #publish(observation: Observation): void {
    const seq = ++this.#seq;
    const text = encodeRecord(observation, seq);
    this.stats.records++;
    this.stats.bytes += text.length;
    if ('src' in observation) {
      const { src, ip, vip, t } = observation;
      this.#ring.push({ seq, src, ip, t, text });
      const watched = this.#watched.get(src);
      if (!watched) return;
      for (const reader of watched.readers) {
        if (!this.#readers.has(reader)) continue;
        this.#introduce(reader, ip, t);
        if (vip !== undefined) this.#introduce(reader, vip, t);
        reader.pending += text;
      }
      return;
    }
    if (observation.kind === 'gap') this.stats.gaps++;
    this.#ring.push({ seq, src: '', ip: '', t: observation.t, text });
    for (const reader of this.#readers) reader.pending += text;
  }

  /** Sends the current and past names of `ip` ahead of the first record about it, which is of time `t`. */
  #introduce(reader: OpenReader, ip: string, t: number): void {
    if (!this.#names || reader.named.has(ip)) return;
    if (reader.named.size >= this.#limits.namesPerReader) reader.named.clear();
    reader.named.add(ip);
    let known = '';
    for (const record of this.#names.history(ip)) known += encodeRecord(record, NO_CURSOR);
    // The reader may have an outdated name from an earlier helper.
    const none = { pod: '', namespace: '', node: '', service: '' };
    reader.pending += known || encodeRecord({ kind: 'name', t, ip, ...none }, NO_CURSOR);
  }

  #send(reader: OpenReader, now: number): void {
    const tick =
      this.#watermark === -Infinity ? '' : encodeRecord({ kind: 'tick', t: this.#watermark }, this.#seq);
    const text = reader.pending + tick;
    reader.pending = '';
    reader.wantsTick = false;
    reader.lastTick = now;
    if (text !== '') reader.write(text);
  }

  #readersChanged(): void {
    this.stats.readers = this.#readers.size;
    let prompt = false;
    for (const reader of this.#readers) prompt ||= reader.prompt;
    this.#capture?.readPromptly(prompt);
  }

  #holds({ addresses, answers }: OpenReader, after: number): boolean {
    if (!this.#ring.holdsAfter(after) || after > this.#seq) return false;
    for (const address of addresses) {
      const watched = this.#watched.get(address);
      if (!watched || (answers ? watched.answersSinceSeq : watched.sinceSeq) > after) return false;
    }
    return true;
  }

  #join(address: string, reader: OpenReader): void {
    let watched = this.#watched.get(address);
    if (!watched) {
      watched = { readers: new Set(), sinceSeq: this.#seq, answersSinceSeq: Infinity, lapse: undefined };
      this.#watched.set(address, watched);
    }
    clearTimeout(watched.lapse);
    watched.lapse = undefined;
    watched.readers.add(reader);
  }

  async #subscribe(reader: OpenReader): Promise<Subscription> {
    try {
      const subscription = await this.#capture!.subscribe([...reader.addresses], reader.answers);
      if (reader.answers) {
        for (const address of reader.addresses) {
          const watched = this.#watched.get(address);
          if (watched) watched.answersSinceSeq = Math.min(watched.answersSinceSeq, this.#seq);
        }
      }
      return subscription;
    } catch (error) {
      this.#close(reader);
      throw error;
    }
  }

  #close(reader: OpenReader): void {
    this.#readers.delete(reader);
    this.#readersChanged();
    for (const address of reader.addresses) {
      const watched = this.#watched.get(address);
      if (!watched?.readers.delete(reader) || watched.readers.size > 0) continue;
      watched.lapse = setTimeout(() => {
        this.#watched.delete(address);
        this.#capture?.unsubscribe([address]);
      }, this.#limits.lingerMs);
      watched.lapse.unref();
    }
  }
}
