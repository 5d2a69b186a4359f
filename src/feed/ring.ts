import type { FeedRecord, Observation } from '../model/feed.ts';
import { decodeRecord, encodeRecord } from './codec.ts';
import { mostPackedBytes, PACKED, pack, Unpacker } from './packed.ts';

/** The ring has this many parts; the oldest is dropped as a whole. */
const PARTS = 16;
/** Usual length of a record (bytes); with shorter ones a part is full earlier. */
const USUAL_BYTES = 64;
/** Distinct subscribed addresses at a time, far more than a node has. At the limit the ring is emptied. */
const MAX_RING_ADDRESSES = 65_536;

const unpacker = new Unpacker();

/** A record in the ring: `bytes[begin, end)`, packed or a line. The bytes are not written a second time. */
export class KeptRecord {
  readonly seq: number;
  readonly bytes: Buffer;
  readonly begin: number;
  readonly end: number;
  #text: string | undefined;

  constructor(seq: number, bytes: Buffer, begin: number, end: number) {
    this.seq = seq;
    this.bytes = bytes;
    this.begin = begin;
    this.end = end;
  }

  get isPacked(): boolean {
    return this.bytes[this.begin] === PACKED;
  }

  /** Undefined for a line that is no record. */
  get record(): FeedRecord | undefined {
    const { bytes, begin, end } = this;
    if (this.isPacked) return unpacker.unpack(bytes, begin, end);
    const record = decodeRecord(bytes.toString('utf8', begin, end));
    return typeof record === 'string' ? undefined : record;
  }

  /** As a line of NDJSON. */
  get text(): string {
    const { seq, bytes, begin, end } = this;
    this.#text ??= this.isPacked
      ? encodeRecord(unpacker.unpack(bytes, begin, end)!, seq)
      : bytes.toString('utf8', begin, end);
    return this.#text;
  }
}

/** Records in one buffer: a garbage collection has no objects to copy or mark. */
class Part {
  readonly bytes: Buffer;
  readonly seqs: Float64Array;
  /** Numbers of source addresses. */
  readonly sources: Uint32Array;
  /** Where each record ends in `bytes`. */
  readonly ends: Uint32Array;
  count = 0;
  used = 0;

  constructor(size: number) {
    const most = Math.ceil(size / USUAL_BYTES);
    this.bytes = Buffer.allocUnsafeSlow(size);
    this.seqs = new Float64Array(most);
    this.sources = new Uint32Array(most);
    this.ends = new Uint32Array(most);
  }

  holds(bytes: number): boolean {
    return this.count < this.seqs.length && this.bytes.length - this.used >= bytes;
  }

  /** The record is in `bytes[used, end)`. */
  add(seq: number, source: number, end: number): KeptRecord {
    this.seqs[this.count] = seq;
    this.sources[this.count] = source;
    this.ends[this.count] = end;
    this.count++;
    const begin = this.used;
    this.used = end;
    return new KeptRecord(seq, this.bytes, begin, end);
  }

  at(i: number): KeptRecord {
    return new KeptRecord(this.seqs[i]!, this.bytes, i === 0 ? 0 : this.ends[i - 1]!, this.ends[i]!);
  }
}

/** The youngest records of the feed, for readers that reconnect. Bounded in bytes. */
export class Ring {
  readonly #limitBytes: number;
  /** Oldest first; `push` fills the last. */
  #parts: Part[] = [];
  #bytes = 0;
  /** The greatest `seq` that was dropped; a reader whose cursor is not before it can resume. */
  #droppedSeq: number;
  /** Numbers of the subscribed addresses that the ring holds records of. 0: none. */
  readonly #numbers = new Map([['', 0]]);

  constructor(limitBytes: number, startSeq: number) {
    this.#limitBytes = limitBytes;
    this.#droppedSeq = startSeq;
  }

  /** Adds a record. `src`: the subscribed address that it is of; empty for a record to every reader. */
  push(seq: number, src: string, record: Observation): KeptRecord {
    if (this.#numbers.size >= MAX_RING_ADDRESSES) this.#forgetAll();
    const source = this.#number(src);
    const kept = this.#pushPacked(seq, source, record) ?? this.#pushText(seq, source, record);
    this.#bytes += kept.end - kept.begin;
    while (this.#bytes > this.#limitBytes) {
      const dropped = this.#parts.shift()!;
      this.#bytes -= dropped.used;
      this.#droppedSeq = dropped.seqs[dropped.count - 1]!;
    }
    return kept;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Whether the ring has every record after `seq`. */
  holdsAfter(seq: number): boolean {
    return seq >= this.#droppedSeq;
  }

  /** All records after `seq` that concern one of the addresses. */
  *after(seq: number, addresses: ReadonlySet<string>): Generator<KeptRecord> {
    const wanted = new Set([0]);
    for (const address of addresses) wanted.add(this.#numbers.get(address) ?? 0);
    for (const part of this.#parts) {
      const { seqs, sources, count } = part;
      if (count === 0 || seqs[count - 1]! <= seq) continue;
      for (let i = 0; i < count; i++) if (seqs[i]! > seq && wanted.has(sources[i]!)) yield part.at(i);
    }
  }

  #pushPacked(seq: number, source: number, record: Observation): KeptRecord | undefined {
    const part = this.#partFor(mostPackedBytes(record));
    const end = pack(record, seq, part.bytes, part.used);
    return end > part.used ? part.add(seq, source, end) : undefined;
  }

  #pushText(seq: number, source: number, record: Observation): KeptRecord {
    const text = encodeRecord(record, seq);
    // At most three bytes of UTF-8 for each of JavaScript's characters.
    const part = this.#partFor(3 * text.length);
    return part.add(seq, source, part.used + part.bytes.write(text, part.used, 'utf8'));
  }

  /** A part with room for so many bytes. */
  #partFor(bytes: number): Part {
    const last = this.#parts[this.#parts.length - 1];
    if (last?.holds(bytes)) return last;
    const part = new Part(Math.max(Math.ceil(this.#limitBytes / PARTS), bytes));
    // One that was left empty, because its only record had no place in it, would have no last `seq`.
    if (last?.count === 0) this.#parts.pop();
    this.#parts.push(part);
    return part;
  }

  #number(address: string): number {
    let number = this.#numbers.get(address);
    if (number === undefined) {
      number = this.#numbers.size;
      this.#numbers.set(address, number);
    }
    return number;
  }

  /** Drops every record. */
  #forgetAll(): void {
    this.#numbers.clear();
    this.#numbers.set('', 0);
    const youngest = this.#parts.findLast(({ count }) => count > 0);
    if (youngest) this.#droppedSeq = youngest.seqs[youngest.count - 1]!;
    this.#parts = [];
    this.#bytes = 0;
  }
}
