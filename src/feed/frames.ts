/**
 * The compact feed: records in frames, for readers that ask for it (docs/feed.md). The body of a frame is a slice of the
 * ring: packed records, and lines of NDJSON for what has no packed form. Check values of head and body make damage known
 * before a record is made of it: a digit that changed in text would be another digit.
 */
import { crc32 } from 'node:zlib';
import type { FeedRecord } from '../model/feed.ts';
import { type Decoded, decodeRecord } from './codec.ts';
import { PACKED, packedEnd, Unpacker } from './packed.ts';

/** What `compact` of a subscription asks for, and the type of an answer that has it. */
export const COMPACT_FORM = 1;
export const COMPACT_TYPE = 'application/vnd.realpod.feed.v1';

/** Mark, kind, u32 length of the body, u32 CRC-32 of the body, u32 CRC-32 of what is before it; little-endian. */
export const FRAME_HEAD_BYTES = 14;
const MARK = 0x02;
const RECORDS = 0x01;
const KIND_AT = 1;
const LENGTH_AT = 2;
const BODY_CHECK_AT = 6;
const HEAD_CHECK_AT = 10;
/** Longer than any frame of a helper: a frame is closed at 64 KiB, and a line of the feed has at most 1 MiB. */
export const MAX_FRAME_BYTES = 2 * 1024 * 1024;

const NEWLINE = 0x0a;
const BRACE = 0x7b;

/** Writes the head of the frame of records whose body is `bytes[begin + FRAME_HEAD_BYTES, end)`. */
export function closeFrame(bytes: Buffer, begin: number, end: number): void {
  const body = begin + FRAME_HEAD_BYTES;
  bytes[begin] = MARK;
  bytes[begin + KIND_AT] = RECORDS;
  bytes.writeUInt32LE(end - body, begin + LENGTH_AT);
  bytes.writeUInt32LE(crc32(bytes.subarray(body, end)), begin + BODY_CHECK_AT);
  bytes.writeUInt32LE(crc32(bytes.subarray(begin, begin + HEAD_CHECK_AT)), begin + HEAD_CHECK_AT);
}

/** Decodes the bytes of a compact feed, in chunks of any size. */
export class FrameDecoder {
  readonly #unpacker = new Unpacker();
  #rest: Buffer[] = [];
  #restLength = 0;
  /** Bytes with which the frame at the beginning of the rest is whole, as far as is known. */
  #needed = FRAME_HEAD_BYTES;

  push(chunk: Buffer): Decoded {
    const records: FeedRecord[] = [];
    if (this.#restLength + chunk.length < this.#needed) {
      this.#keep(chunk);
      return { records, error: undefined };
    }
    const bytes = this.#restLength > 0 ? Buffer.concat([...this.#rest, chunk]) : chunk;
    this.#rest = [];
    this.#restLength = 0;
    this.#needed = FRAME_HEAD_BYTES;
    let at = 0;
    while (bytes.length - at >= FRAME_HEAD_BYTES) {
      if (bytes[at] !== MARK) return { records, error: `no frame begins with ${bytes[at]}` };
      if (crc32(bytes.subarray(at, at + HEAD_CHECK_AT)) !== bytes.readUInt32LE(at + HEAD_CHECK_AT))
        return { records, error: 'the check value of a frame’s head is wrong' };
      const length = bytes.readUInt32LE(at + LENGTH_AT);
      if (length > MAX_FRAME_BYTES) return { records, error: `a frame of ${length} bytes` };
      const body = at + FRAME_HEAD_BYTES;
      if (bytes.length - body < length) {
        this.#needed = FRAME_HEAD_BYTES + length;
        break;
      }
      const end = body + length;
      if (crc32(bytes.subarray(body, end)) !== bytes.readUInt32LE(at + BODY_CHECK_AT))
        return { records, error: 'the check value of a frame is wrong' };
      // As with records of a kind that this version does not know.
      const error = bytes[at + KIND_AT] === RECORDS ? this.#decode(bytes, body, end, records) : undefined;
      if (error !== undefined) return { records, error };
      at = end;
    }
    if (at < bytes.length) this.#keep(bytes.subarray(at));
    return { records, error: undefined };
  }

  #keep(bytes: Buffer): void {
    this.#rest.push(bytes);
    this.#restLength += bytes.length;
  }

  /** Adds the records of `[start, end)`. Returns what is wrong with the one behind the last, undefined if nothing is. */
  #decode(bytes: Buffer, start: number, end: number, records: FeedRecord[]): string | undefined {
    for (let at = start; at < end; ) {
      let record: FeedRecord | string | undefined;
      if (bytes[at] === PACKED) {
        const next = packedEnd(bytes, at, end);
        if (next < 0) return 'a packed record ends behind its frame';
        record = this.#unpacker.unpack(bytes, at, next) ?? 'a packed record is not of this form';
        at = next;
      } else {
        const next = bytes[at] === BRACE ? bytes.indexOf(NEWLINE, at) : -1;
        if (next < 0 || next >= end) return 'what is neither packed nor a line';
        record = decodeRecord(bytes.toString('utf8', at, next));
        at = next + 1;
      }
      if (typeof record === 'string') return record;
      if (record) records.push(record);
    }
    return undefined;
  }
}
