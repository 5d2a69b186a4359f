import type { Observation } from '../model/feed.ts';
import { encodeRecord } from './codec.ts';
import { PACKED, pack, unpack } from './packed.ts';

/** One encoded record. `src` is empty for records to every reader; `ip`: the backend, empty where there is none. */
export interface Entry {
  seq: number;
  src: string;
  ip: string;
  /** Its time. */
  t: number;
  text: string;
}

/** `record`: what the text says. Absent: it is kept as text. */
export interface NewEntry extends Entry {
  record?: Observation;
}

/** The ring has this many parts; the oldest is dropped as a whole. */
const PARTS = 16;
/** Usual least length of a record (bytes); with shorter ones a part is full earlier. */
const LEAST_BYTES = 32;
/** Distinct addresses of pods and backends at a time, more than most clusters have. At the limit the ring is emptied. */
const MAX_RING_ADDRESSES = 65_536;

/** Encoded records in one buffer: a garbage collection has no objects to copy or mark. */
class Part {
  readonly bytes: Buffer;
  readonly seqs: Float64Array;
  readonly times: Float64Array;
  /** Numbers of source and backend addresses. */
  readonly sources: Uint32Array;
  readonly backends: Uint32Array;
  /** Where each record's text ends in `bytes`. */
  readonly ends: Uint32Array;
  count = 0;
  used = 0;

  constructor(size: number) {
    const most = Math.ceil(size / LEAST_BYTES);
    this.bytes = Buffer.allocUnsafeSlow(size);
    this.seqs = new Float64Array(most);
    this.times = new Float64Array(most);
    this.sources = new Uint32Array(most);
    this.backends = new Uint32Array(most);
    this.ends = new Uint32Array(most);
  }

  /** False if there is no room for it. */
  push({ seq, t, text, record }: NewEntry, source: number, backend: number, vip: number): boolean {
    // At most three bytes of UTF-8 for each of JavaScript's characters, and fewer in the short form.
    if (this.count === this.seqs.length || this.bytes.length - this.used < 3 * text.length) return false;
    const end = record === undefined ? this.used : pack(record, vip, this.bytes, this.used);
    this.used = end > this.used ? end : end + this.bytes.write(text, end, 'utf8');
    this.seqs[this.count] = seq;
    this.times[this.count] = t;
    this.sources[this.count] = source;
    this.backends[this.count] = backend;
    this.ends[this.count] = this.used;
    this.count++;
    return true;
  }
}

/** The youngest records of the feed, for readers that reconnect. Bounded in bytes. */
export class Ring {
  readonly #limitBytes: number;
  /** Oldest first; `add` fills the last. */
  #parts: Part[] = [];
  #bytes = 0;
  /** The greatest `seq` that was dropped; a reader whose cursor is not before it can resume. */
  #droppedSeq: number;
  /** Numbers of the addresses that the ring holds records of, and the addresses by number. 0: none. */
  readonly #numbers = new Map([['', 0]]);
  #addresses = [''];

  constructor(limitBytes: number, startSeq: number) {
    this.#limitBytes = limitBytes;
    this.#droppedSeq = startSeq;
  }

  push(entry: NewEntry): void {
    if (this.#numbers.size >= MAX_RING_ADDRESSES) this.#forgetAll();
    const source = this.#number(entry.src);
    const backend = this.#number(entry.ip);
    const { record } = entry;
    const vip = record !== undefined && 'vip' in record && record.vip ? this.#number(record.vip) : 0;
    const part = this.#parts[this.#parts.length - 1];
    const before = part ? part.used : 0;
    if (!part?.push(entry, source, backend, vip)) {
      const longest = 3 * entry.text.length;
      const next = new Part(Math.max(Math.ceil(this.#limitBytes / PARTS), longest, LEAST_BYTES));
      next.push(entry, source, backend, vip);
      this.#parts.push(next);
      this.#bytes += next.used;
    } else this.#bytes += part.used - before;
    while (this.#bytes > this.#limitBytes) {
      const dropped = this.#parts.shift()!;
      this.#bytes -= dropped.used;
      this.#droppedSeq = dropped.seqs[dropped.count - 1]!;
    }
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Whether the ring has every record after `seq`. */
  holdsAfter(seq: number): boolean {
    return seq >= this.#droppedSeq;
  }

  /** All records after `seq` that concern one of the addresses. */
  *after(seq: number, addresses: ReadonlySet<string>): Generator<Omit<Entry, 'src'>> {
    const wanted = new Set([0]);
    for (const address of addresses) wanted.add(this.#numbers.get(address) ?? 0);
    for (const part of this.#parts) {
      const { seqs, sources, count } = part;
      if (count === 0 || seqs[count - 1]! <= seq) continue;
      for (let i = 0; i < count; i++)
        if (seqs[i]! > seq && wanted.has(sources[i]!)) yield this.#entry(part, i);
    }
  }

  #entry({ seqs, times, sources, backends, ends, bytes }: Part, i: number): Omit<Entry, 'src'> {
    const addresses = this.#addresses;
    const [seq, t, begin, end] = [seqs[i]!, times[i]!, i === 0 ? 0 : ends[i - 1]!, ends[i]!];
    const ip = addresses[backends[i]!]!;
    if (bytes[begin] !== PACKED) return { seq, ip, t, text: bytes.toString('utf8', begin, end) };
    const known = { t, src: addresses[sources[i]!]!, ip, vip: (number: number) => addresses[number]! };
    return { seq, ip, t, text: encodeRecord(unpack(bytes, begin, end, known), seq) };
  }

  #number(address: string): number {
    let number = this.#numbers.get(address);
    if (number === undefined) {
      number = this.#addresses.push(address) - 1;
      this.#numbers.set(address, number);
    }
    return number;
  }

  /** Drops every record. */
  #forgetAll(): void {
    this.#numbers.clear();
    this.#numbers.set('', 0);
    this.#addresses = [''];
    const youngest = this.#parts[this.#parts.length - 1];
    if (youngest) this.#droppedSeq = youngest.seqs[youngest.count - 1]!;
    this.#parts = [];
    this.#bytes = 0;
  }
}
