import type { Capture, CaptureSink, Subscription } from '../capture/capture.ts';
import type { NameRecord, Observation, Source } from '../model/feed.ts';
import type { PodName } from '../model/outcome.ts';
import { encodeRecord } from './codec.ts';
import { Ring } from './ring.ts';

export interface FeedLimits {
  /** Bytes of records kept for readers that come back. */
  ringBytes: number;
  /** How long addresses stay watched after their last reader is gone, so that it can come back without a gap (ms). */
  lingerMs: number;
  /** A watermark is sent to a quiet reader this often (ms). */
  quietTickMs: number;
  readers: number;
  /** Readers of one address: a pod's sidecars, and those that are on their way out. */
  readersPerAddress: number;
  /** Addresses whose name one reader is told of. */
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

/** Where a reader's text goes. Not answering in time is the transport's to deal with: it closes the reader. */
export type Write = (text: string) => void;

export interface Reader {
  readonly addresses: ReadonlySet<string>;
  close(): void;
}

interface OpenReader extends Reader {
  prompt: boolean;
  write: Write;
  pending: string;
  named: Set<string>;
  lastTick: number;
  wantsTick: boolean;
}

interface Watched {
  readers: Set<OpenReader>;
  /** Records of this address are complete for a reader that has seen this `seq`. */
  sinceSeq: number;
  lapse: NodeJS.Timeout | undefined;
}

export interface NameLookup {
  lookup(ip: string): PodName | undefined;
  /** All names of `ip` that are remembered, oldest first. */
  history(ip: string): Iterable<Omit<NameRecord, 'seq'>>;
}

export type FeedCapture = Pick<Capture, 'subscribe' | 'unsubscribe' | 'flush' | 'readPromptly'>;

/** What a request for the feed can come to. */
export type Opened = { reader: Reader } | { refused: 'readers' };

/**
 * One ordered sequence of records from all sources, handed to each reader for its own addresses only. `seq` goes on
 * across restarts of the helper, as it begins with the clock, so a cursor of an earlier life is never held for valid.
 */
export class Feed implements CaptureSink {
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

  /** Where the records come from. Before it is connected, readers wait. */
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

  /** An address got, changed or lost its name. Goes to the readers that have met the address. */
  name(record: Omit<NameRecord, 'seq'>): void {
    let text = '';
    for (const reader of this.#readers) {
      if (!reader.named.has(record.ip)) continue;
      text ||= encodeRecord(record, this.#seq);
      reader.pending += text;
    }
  }

  /**
   * Begins to hand over the records of these addresses: those after the cursor if they are all still held, else a
   * `gap` for each source, the connections that are open, and what follows. `prompt`: it deduces from event times.
   */
  async open(
    addresses: readonly string[],
    after: number | undefined,
    write: Write,
    prompt = false,
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
      pending: '',
      named: new Set(),
      lastTick: 0,
      wantsTick: false,
      close: () => this.#close(reader),
    };
    if (after !== undefined && this.#holds(reader.addresses, after)) {
      this.stats.resumed++;
      for (const address of reader.addresses) this.#join(address, reader);
      for (const { ip, t, text } of this.#ring.after(after, reader.addresses)) {
        if (ip !== '') this.#introduce(reader, ip, t);
        reader.pending += text;
      }
    } else {
      this.stats.freshStarts++;
      // Kept in `#watched` while the kernel is asked, so that a second reader's leaving does not end the watch.
      for (const address of reader.addresses) this.#join(address, reader);
      const { flows, completeSince } = await this.#subscribe(reader);
      for (const [source, since] of Object.entries(completeSince) as [Source, number][]) {
        // An address that is watched already: what was told before goes to no new reader.
        const t = Math.max(since, this.#watermark);
        reader.pending += encodeRecord({ kind: 'gap', t, source }, this.#seq);
      }
      for (const flow of flows) {
        this.#introduce(reader, flow.ip, flow.t);
        if (flow.vip !== undefined) this.#introduce(reader, flow.vip, flow.t);
        reader.pending += encodeRecord(flow, this.#seq);
      }
    }
    this.#readers.add(reader);
    this.#readersChanged();
    this.#send(reader, this.#clock());
    return { reader };
  }

  /** Reads what the kernel holds now; readers of these addresses get a watermark not before the time of this call. */
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

  /** Says what `ip` is and was called, ahead of the first record that is about it, which is of time `t`. */
  #introduce(reader: OpenReader, ip: string, t: number): void {
    if (!this.#names || reader.named.has(ip)) return;
    if (reader.named.size >= this.#limits.namesPerReader) reader.named.clear();
    reader.named.add(ip);
    let known = '';
    for (const record of this.#names.history(ip)) known += encodeRecord(record, this.#seq);
    // A reader of an earlier life of this helper may know a name that holds no more.
    const none = { pod: '', namespace: '', node: '', service: '' };
    reader.pending += known || encodeRecord({ kind: 'name', t, ip, ...none }, this.#seq);
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

  #holds(addresses: ReadonlySet<string>, after: number): boolean {
    if (!this.#ring.holdsAfter(after) || after > this.#seq) return false;
    for (const address of addresses) {
      const watched = this.#watched.get(address);
      if (!watched || watched.sinceSeq > after) return false;
    }
    return true;
  }

  #join(address: string, reader: OpenReader): void {
    let watched = this.#watched.get(address);
    if (!watched) {
      watched = { readers: new Set(), sinceSeq: this.#seq, lapse: undefined };
      this.#watched.set(address, watched);
    }
    clearTimeout(watched.lapse);
    watched.lapse = undefined;
    watched.readers.add(reader);
  }

  async #subscribe(reader: OpenReader): Promise<Subscription> {
    try {
      return await this.#capture!.subscribe([...reader.addresses]);
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
