import { randomUUID } from 'node:crypto';
import type { Capture, CaptureSink, Subscription } from '../capture/capture.ts';
import type { Observation } from '../model/feed.ts';
import type { ResumePoint } from '../model/resume-point.ts';
import { Beginning, type Place } from './beginning.ts';
import { encodeRecord } from './codec.ts';
import { Delivery } from './delivery.ts';
import { Handover } from './handover.ts';
import { FEED_LIMITS, type FeedLimits } from './limits.ts';
import {
  type AddressFact,
  areRecorded,
  encodeFacts,
  haveClients,
  type NameLookup,
  newReader,
  newWatched,
  type OpenReader,
  type Reader,
  type ReaderWishes,
  type Successor,
  type Watched,
  type Write,
} from './readers.ts';
import { Ring } from './ring.ts';

export { FEED_LIMITS, type FeedLimits } from './limits.ts';
export type { NameLookup, Reader, ReaderWishes, Successor, Write } from './readers.ts';

export type FeedCapture = Pick<Capture, 'subscribe' | 'unsubscribe' | 'flush' | 'readPromptly' | 'gather'>;

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
  readonly #clock: () => number;
  readonly #limits: FeedLimits;
  readonly #ring: Ring;
  readonly #beginning: Beginning;
  readonly #watched = new Map<string, Watched>();
  readonly #readers = new Set<OpenReader>();
  #capture: FeedCapture | undefined;
  #names: NameLookup | undefined;
  readonly #handover = new Handover();
  readonly #delivery: Delivery;
  #seq: number;
  #watermark = -Infinity;
  /** The latest time of the last batch: a reading goes on behind its watermark. */
  #readTo = -Infinity;

  constructor(clock: () => number, limits: FeedLimits = FEED_LIMITS) {
    this.#clock = clock;
    this.#limits = limits;
    this.#seq = Math.floor(clock() * 1000);
    this.#ring = new Ring(limits.ringBytes, this.#seq);
    this.#beginning = new Beginning(this.#ring, (reader, ip, t) => this.#introduce(reader, ip, t));
    this.#delivery = new Delivery({
      clock,
      quietTickMs: limits.quietTickMs,
      flush: () => void this.#capture?.flush(),
    });
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

  batch(observations: Observation[], watermark: number, followed = false): void {
    this.#readTo = watermark;
    for (const observation of observations) {
      this.#publish(observation);
      this.#readTo = Math.max(this.#readTo, observation.t);
    }
    this.#watermark = watermark;
    this.#handover.batch(observations, this.#seq, watermark);
    this.#delivery.read(this.#readers, this.#tick, followed);
  }

  /** What an address is called, or an endpoint of, has changed. The readers that have a record of the address get it. */
  name(record: AddressFact): void {
    let text = '';
    for (const reader of this.#readers) {
      if (!reader.named.has(record.ip)) continue;
      text ||= encodeRecord(record, this.#seq);
      reader.pending.lines(text);
    }
  }

  /**
   * Subscribes addresses whose readers are about to come from the helper before, for `lingerMs` from now on. Resolves when
   * their record has begun. `answered`: those of them whose readers want answers.
   */
  async expect(addresses: readonly string[], answered: readonly string[]): Promise<void> {
    const wanted = new Set(answered);
    const fresh = addresses.filter((address) => !this.#watched.has(address));
    for (const answers of [true, false]) {
      const some = fresh.filter((address) => wanted.has(address) === answers);
      if (some.length === 0) continue;
      const { completeSince } = await this.#capture!.subscribe(some, { answers });
      for (const address of some) {
        const answersSinceSeq = answers ? this.#seq : Infinity;
        if (!this.#watched.has(address))
          this.#watched.set(address, { ...newWatched(this.#seq), answersSinceSeq });
      }
      this.#handover.expect(Math.max(...Object.values(completeSince)));
    }
    for (const address of addresses) {
      const watched = this.#watched.get(address);
      if (watched?.readers.size === 0) this.#lapse(address, watched);
    }
  }

  /** Readers of the helper before are here by now, or begin anew. */
  expectNoMore(): void {
    this.#handover.end();
  }

  /**
   * Starts a reader of these addresses. If the ring still has every record after the cursor, the reader gets those; else a
   * `gap` for each source, the open connections, and then new records. A reader with a ResumePoint has an empty index:
   * it first gets a `gap` up to that point for each source, and the connections that were open there. So does a reader that
   * comes from the helper before, if its addresses were expected.
   */
  async open(
    addresses: readonly string[],
    from: number | ResumePoint | Successor | undefined,
    write: Write,
    wishes: ReaderWishes = {},
  ): Promise<Opened> {
    const { readers, readersPerAddress } = this.#limits;
    const crowded = addresses.some(
      (address) => (this.#watched.get(address)?.readers.size ?? 0) >= readersPerAddress,
    );
    if (this.#readers.size >= readers || crowded) return { refused: 'readers' };
    const reader = newReader(addresses, wishes, this.#limits.batchMs, write, (closed) => this.#close(closed));
    if (typeof from === 'number' && this.#holds(reader, from) && haveClients(reader, this.#watched, from)) {
      this.stats.resumed++;
      for (const address of reader.addresses) this.#join(address, reader);
      this.#beginning.replay(reader, from);
    } else {
      const places = typeof from === 'object' ? this.#placesFor(from, reader.prompt) : [];
      const point = places[0];
      // Before `#watched` is changed: the ring has no records of addresses that are subscribed only from now on.
      const held = point !== undefined && this.#holds(reader, point.after);
      // In `#watched` during the subscription, so that the end of another reader does not unsubscribe them.
      for (const address of reader.addresses) this.#join(address, reader);
      const subscription = await this.#subscribe(reader);
      // The ring may have dropped records meanwhile.
      if (held && this.#holds(reader, point.after)) {
        this.stats.resumed++;
        this.#beginning.at(places, reader, subscription, this.#toCome);
      } else {
        this.stats.freshStarts++;
        this.#beginning.anew(reader, subscription, this.#toCome);
      }
    }
    this.#readers.add(reader);
    this.#readersChanged();
    this.#delivery.send(reader, this.#tick);
    return { reader };
  }

  /** Where a reader of an earlier process, of this helper or of the one before, can begin, and what follows. */
  #placesFor(from: ResumePoint | Successor, prompt: boolean): readonly Place[] {
    if ('watermark' in from) return prompt ? [] : this.#handover.placesFrom(from.watermark);
    return from.instance === this.instance ? [from] : [];
  }

  /** Reads all events up to now; readers of these addresses get a watermark not before the time of this call. */
  async flush(addresses: readonly string[]): Promise<void> {
    for (const address of addresses) {
      for (const reader of this.#watched.get(address)?.readers ?? []) reader.wantsTick = true;
    }
    await this.#capture?.flush();
  }

  close(): void {
    this.#delivery.close();
    for (const reader of [...this.#readers]) reader.close();
    for (const watched of this.#watched.values()) clearTimeout(watched.lapse);
    this.#watched.clear();
  }

  #publish(observation: Observation): void {
    const seq = ++this.#seq;
    const { kind, t } = observation;
    const about = 'src' in observation ? observation.src : 'dst' in observation ? observation.dst : '';
    const kept = this.#ring.push(seq, about, observation);
    this.stats.records++;
    this.stats.bytes += kept.end - kept.begin;
    const byTrace = kind === 'line' || kind === 'untraced';
    if (kind === 'client' || kind === 'clients' || byTrace) {
      for (const reader of this.#watched.get(about)?.readers ?? [])
        if ((byTrace || reader.clients) && this.#readers.has(reader)) reader.pending.record(kept);
      return;
    }
    if ('src' in observation) {
      const { ip, vip } = observation;
      const watched = this.#watched.get(about);
      if (!watched) return;
      for (const reader of watched.readers) {
        if (!this.#readers.has(reader)) continue;
        this.#introduce(reader, ip, t);
        if (vip !== undefined) this.#introduce(reader, vip, t);
        reader.pending.record(kept);
      }
      return;
    }
    if (kind === 'gap') this.stats.gaps++;
    for (const reader of this.#readers) reader.pending.record(kept);
  }

  /** Sends what is and was known of `ip` in the cluster ahead of the first record about it, which is of time `t`. */
  #introduce(reader: OpenReader, ip: string, t: number): void {
    if (!this.#names || reader.named.has(ip)) return;
    if (reader.named.size >= this.#limits.namesPerReader) reader.named.clear();
    reader.named.add(ip);
    reader.pending.lines(encodeFacts(this.#names, ip, t));
  }

  /** Every event after this time is in a record that is still to come, ms since the epoch. */
  get #toCome(): number {
    // A batch in which the clock was set back has times from before. The clock has whole milliseconds.
    return Math.max(this.#watermark, Math.min(this.#readTo, this.#clock() + 1));
  }

  get #tick(): string {
    return this.#watermark === -Infinity ? '' : encodeRecord({ kind: 'tick', t: this.#watermark }, this.#seq);
  }

  #readersChanged(): void {
    this.stats.readers = this.#readers.size;
    let prompt = false;
    let batchMs = this.#readers.size > 0 ? Infinity : 0;
    for (const reader of this.#readers) {
      prompt ||= reader.prompt;
      batchMs = Math.min(batchMs, reader.batchMs);
    }
    this.#capture?.readPromptly(prompt);
    this.#capture?.gather(batchMs);
  }

  #holds(reader: OpenReader, after: number): boolean {
    return this.#ring.holdsAfter(after) && after <= this.#seq && areRecorded(reader, this.#watched, after);
  }

  #join(address: string, reader: OpenReader): void {
    let watched = this.#watched.get(address);
    if (!watched) {
      watched = newWatched(Infinity);
      this.#watched.set(address, watched);
    }
    clearTimeout(watched.lapse);
    watched.lapse = undefined;
    watched.readers.add(reader);
  }

  async #subscribe(reader: OpenReader): Promise<Subscription> {
    try {
      const subscription = await this.#capture!.subscribe([...reader.addresses], reader);
      for (const address of reader.addresses) {
        const watched = this.#watched.get(address);
        if (!watched) continue;
        // Past every cursor so far: a reader with one of those missed what no record tells of.
        if (watched.sinceSeq === Infinity) watched.sinceSeq = ++this.#seq;
        if (reader.answers) watched.answersSinceSeq = Math.min(watched.answersSinceSeq, this.#seq);
        if (reader.clients) watched.clientsSinceSeq = Math.min(watched.clientsSinceSeq, this.#seq);
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
      this.#lapse(address, watched);
    }
  }

  #lapse(address: string, watched: Watched): void {
    clearTimeout(watched.lapse);
    watched.lapse = setTimeout(() => {
      this.#watched.delete(address);
      this.#capture?.unsubscribe([address]);
    }, this.#limits.lingerMs);
    watched.lapse.unref();
  }
}
