/**
 * The short form of the records that are nearly all of a feed, a quarter of their text: so the ring keeps them, and so
 * readers of the compact feed get them (docs/feed.md). What it has no place for stays a line of NDJSON.
 */
import { AddressTexts, addressBytes, addressText } from '../capture/ip-bytes.ts';
import type { ContentHashes } from '../model/content.ts';
import type { FeedRecord, Flow, Observation, RequestRecord, Source } from '../model/feed.ts';
import { TextCache } from './text-cache.ts';

type Packable = Extract<Observation, { kind: 'request' | 'open' | 'close' | 'response' }>;
type PackedRequest = Extract<Observation, { kind: 'request' }>;

/** The first byte of a packed record. No text begins with it. */
export const PACKED = 0x01;

const KINDS = ['request', 'open', 'close', 'response'] as const;
const SOURCES: readonly Source[] = ['tap', 'conntrack', 'kernel-log'];

/** The fields that have a place in a packed record, */
type PackedField =
  | (keyof Flow | 'kind' | 't' | 'via')
  | ('id' | 'idBeforeHost' | 'afterChunks' | 'cut' | 'bytes' | 'content' | 'method' | 'path')
  | ('singleSegment' | 'preexisting' | 'kernelTime' | 'end');
/** and those that have none: a record with one of them stays text. */
type TextField =
  | 'midStream'
  | 'sent'
  | 'received'
  | 'reset'
  | 'update'
  | 'openedAfter'
  | 'endedBefore'
  | 'protocol'
  | 'idsRead'
  | 'counts';
type FieldsOf<R> = R extends R ? keyof R : never;
/** A field that is in neither list would be lost: with one this is `never`, and the flags do not compile. */
type Flags = [Exclude<FieldsOf<Packable>, PackedField | TextField>] extends [never]
  ? readonly number[]
  : never;

/** Flags: two bits for the kind, two for the source, and what is there. */
const VIA_BITS = 2;
const VIP = 1 << 4;
const PREEXISTING = 1 << 5;
const KERNEL_TIME = 1 << 6;
const FIN = 1 << 7;
const ID = 1 << 5;
const ID_BEFORE_HOST = 1 << 6;
const AFTER_CHUNKS = 1 << 7;
const CUT = 1 << 8;
const BYTES = 1 << 9;
const SINGLE_SEGMENT = 1 << 10;
const METHOD = 1 << 11;
const PATH = 1 << 12;
const TARGET_HASH = 1 << 13;
const HASHES = 1 << 14;
/** All addresses of the record have 16 bytes, else 4. */
const IPV6 = 1 << 15;
/** What records of each kind may have besides kind, source and addresses. */
const ALLOWED: Flags = [
  ID | ID_BEFORE_HOST | AFTER_CHUNKS | CUT | BYTES | SINGLE_SEGMENT | METHOD | PATH | TARGET_HASH | HASHES,
  PREEXISTING | KERNEL_TIME,
  FIN,
  KERNEL_TIME,
];
const COMMON = 15 | VIP | IPV6;

const LENGTH_AT = 1;
const FLAGS_AT = 3;
const T_AT = 5;
const SEQ_AT = 13;
const SPORT_AT = 21;
const PORT_AT = 23;
const ADDRESSES_AT = 25;
const ID_BYTES = 16;
/** Longer targets stay text: the length of a record has 16 bits. */
const LONGEST_PATH = 32_768;
const LONGEST_METHOD = 255;
/** Of a record without its target. */
const MOST_BYTES = 384;

/** Of an ASCII character: its value as a lower-case hexadecimal digit, or 255. */
const DIGITS = new Uint8Array(128).fill(255);
for (let i = 0; i < 16; i++) DIGITS['0123456789abcdef'.charCodeAt(i)] = i;

/** Texts of addresses; emptied at this number. */
const MOST_ADDRESSES = 65_536;
/** The bytes of a canonical text; `undefined` for any other text, which the bytes would not give back. */
const addresses = new Map<string, Buffer | undefined>();

function bytesOf(text: string): Buffer | undefined {
  let bytes = addresses.get(text);
  if (bytes !== undefined || addresses.has(text)) return bytes;
  bytes = addressBytes(text);
  if (bytes && addressText(bytes, 0, bytes.length as 4 | 16) !== text) bytes = undefined;
  if (addresses.size >= MOST_ADDRESSES) addresses.clear();
  addresses.set(text, bytes);
  return bytes;
}

/** The most bytes that `pack` writes for the record. */
export function mostPackedBytes(record: Observation): number {
  const { path = '' } = record as PackedRequest;
  return MOST_BYTES + Math.min(path.length, LONGEST_PATH);
}

/** Writes the record at `at`, where there is room for it, and returns the end; `at` if it has to stay text. */
export function pack(record: Observation, seq: number, into: Buffer, at: number): number {
  const kind = KINDS.indexOf(record.kind as Packable['kind']);
  if (kind < 0) return at;
  const packable = record as Packable;
  const via = SOURCES.indexOf(packable.via);
  const { sport, port, vport = 0 } = packable;
  if (via < 0 || (sport | port | vport) >>> 16 !== 0) return at;
  // Plus zero: text knows no -0.
  const t = Math.round(packable.t * 1000) / 1000 + 0;
  if (!Number.isFinite(t)) return at;
  const src = bytesOf(packable.src);
  const ip = bytesOf(packable.ip);
  if (src === undefined || ip?.length !== src.length) return at;
  let flags = kind | (via << VIA_BITS) | (src.length === 4 ? 0 : IPV6);
  let end = putAll(into, putAll(into, at + ADDRESSES_AT, src), ip);
  if (packable.vip !== undefined) {
    const vip = bytesOf(packable.vip);
    if (vip?.length !== src.length || packable.vport === undefined) return at;
    end = put16(into, putAll(into, end, vip), vport);
    flags |= VIP;
  }
  if (packable.kind === 'request') {
    const { id, method, path, content, bytes } = packable;
    if (packable.midStream || packable.received !== undefined || packable.sent !== undefined) return at;
    if (packable.reset || packable.update) return at;
    if (id !== undefined) {
      const begun = end;
      end = putHex(into, end, id);
      if (end === begun) return at;
      flags |= ID;
      // Without an id they say nothing.
      if (packable.idBeforeHost) flags |= ID_BEFORE_HOST;
      if (packable.afterChunks) flags |= AFTER_CHUNKS;
    }
    if (packable.cut) flags |= CUT;
    if (packable.singleSegment) flags |= SINGLE_SEGMENT;
    if (bytes !== undefined) {
      if (bytes >>> 0 !== bytes) return at;
      end = put32(into, end, bytes);
      flags |= BYTES;
    }
    if (content !== undefined) {
      for (const hash of content) {
        if (hash >>> 0 !== hash) return at;
        end = put32(into, end, hash);
      }
      flags |= content.length === 3 ? HASHES : TARGET_HASH;
    }
    if (method !== undefined) {
      if (method.length > LONGEST_METHOD) return at;
      into[end] = method.length;
      end = putLatin(into, end + 1, method);
      if (end < 0) return at;
      flags |= METHOD;
    }
    if (path !== undefined) {
      if (path.length > LONGEST_PATH) return at;
      end = putLatin(into, end, path);
      if (end < 0) return at;
      flags |= PATH;
    }
  } else if (packable.kind === 'open') {
    if (packable.openedAfter !== undefined) return at;
    if (packable.preexisting) flags |= PREEXISTING;
    if (packable.kernelTime) flags |= KERNEL_TIME;
  } else if (packable.kind === 'response') {
    if (packable.kernelTime) flags |= KERNEL_TIME;
  } else {
    if (packable.update || packable.endedBefore !== undefined || packable.counts) return at;
    if (packable.protocol) return at;
    if (packable.end === 'refused') return at;
    if (packable.end !== undefined) flags |= FIN;
  }
  into[at] = PACKED;
  put16(into, at + LENGTH_AT, end - at);
  put16(into, at + FLAGS_AT, flags);
  put16(into, at + SPORT_AT, sport);
  put16(into, at + PORT_AT, port);
  into.writeDoubleLE(t, at + T_AT);
  into.writeDoubleLE(seq + 0, at + SEQ_AT);
  return end;
}

/** The end of the packed record at `at`, or -1 if it is not whole before `end`. */
export function packedEnd(from: Buffer, at: number, end: number): number {
  if (at + ADDRESSES_AT > end) return -1;
  const length = get16(from, at + LENGTH_AT);
  return length >= ADDRESSES_AT && length <= end - at ? at + length : -1;
}

/** Makes records of their packed form. Texts that recur are the same strings. */
export class Unpacker {
  readonly #addresses = new AddressTexts();
  readonly #texts = new TextCache();

  /** The record in `[at, end)`, by `packedEnd`; undefined if `pack` has not written it. */
  unpack(from: Buffer, at: number, end: number): FeedRecord | undefined {
    const flags = get16(from, at + FLAGS_AT);
    const kind = KINDS[flags & 3]!;
    const via = SOURCES[(flags >>> VIA_BITS) & 3];
    if (via === undefined || (flags & ~(COMMON | ALLOWED[flags & 3]!)) !== 0) return undefined;
    const t = from.readDoubleLE(at + T_AT);
    const seq = from.readDoubleLE(at + SEQ_AT);
    if (!Number.isFinite(t) || !Number.isSafeInteger(seq)) return undefined;
    const size = flags & IPV6 ? 16 : 4;
    let next = at + ADDRESSES_AT + 2 * size;
    if (next + (flags & VIP ? size + 2 : 0) > end) return undefined;
    const src = this.#addresses.text(from, at + ADDRESSES_AT, size);
    const ip = this.#addresses.text(from, at + ADDRESSES_AT + size, size);
    const sport = get16(from, at + SPORT_AT);
    const port = get16(from, at + PORT_AT);
    let record: Extract<FeedRecord, Packable | { kind: 'request' }>;
    if (flags & VIP) {
      const vip = this.#addresses.text(from, next, size);
      const vport = get16(from, next + size);
      next += size + 2;
      record = { kind, seq, t, src, sport, vip, vport, ip, port, via };
    } else record = { kind, seq, t, src, sport, ip, port, via };
    if (record.kind === 'request') return this.#request(from, next, end, flags, record);
    if (record.kind === 'close') {
      if (flags & FIN) record.end = 'fin';
    } else {
      if (flags & PREEXISTING && record.kind === 'open') record.preexisting = true;
      if (flags & KERNEL_TIME) record.kernelTime = true;
    }
    return next === end ? record : undefined;
  }

  #request(
    from: Buffer,
    at: number,
    end: number,
    flags: number,
    request: RequestRecord,
  ): RequestRecord | undefined {
    let next = at;
    if (flags & ID) {
      next += ID_BYTES;
      if (next > end) return undefined;
      request.id = from.toString('hex', at, next);
    }
    if (flags & ID_BEFORE_HOST) request.idBeforeHost = true;
    if (flags & AFTER_CHUNKS) request.afterChunks = true;
    if (flags & CUT) request.cut = true;
    if (flags & SINGLE_SEGMENT) request.singleSegment = true;
    if (flags & BYTES) {
      if (next + 4 > end) return undefined;
      request.bytes = get32(from, next);
      next += 4;
    }
    if (flags & (TARGET_HASH | HASHES)) {
      const hashes = flags & HASHES ? 3 : 1;
      if (next + 4 * hashes > end) return undefined;
      const target = get32(from, next);
      request.content =
        hashes === 1 ? [target] : ([target, get32(from, next + 4), get32(from, next + 8)] as ContentHashes);
      next += 4 * hashes;
    }
    if (flags & METHOD) {
      const begin = next + 1;
      if (begin > end || begin + from[next]! > end) return undefined;
      next = begin + from[next]!;
      request.method = this.#texts.text(from, begin, next);
    }
    if (flags & PATH) {
      request.path = from.toString('latin1', next, end);
      next = end;
    }
    return next === end ? request : undefined;
  }
}

/** Writes an id of 32 hexadecimal digits and returns the end; `at` if it is another one. */
function putHex(into: Buffer, at: number, id: string): number {
  if (id.length !== 2 * ID_BYTES) return at;
  for (let i = 0; i < 2 * ID_BYTES; i += 2) {
    const high = DIGITS[id.charCodeAt(i)] ?? 255;
    const low = DIGITS[id.charCodeAt(i + 1)] ?? 255;
    if ((high | low) > 15) return at;
    into[at + i / 2] = (high << 4) | low;
  }
  return at + ID_BYTES;
}

/** Writes a text and returns the end; -1 if a character is no single byte. */
function putLatin(into: Buffer, at: number, text: string): number {
  const { length } = text;
  for (let i = 0; i < length; i++) {
    const code = text.charCodeAt(i);
    if (code > 0xff) return -1;
    into[at + i] = code;
  }
  return at + length;
}

function putAll(into: Buffer, at: number, bytes: Buffer): number {
  for (let i = 0; i < bytes.length; i++) into[at + i] = bytes[i]!;
  return at + bytes.length;
}

function put16(into: Buffer, at: number, value: number): number {
  into[at] = value;
  into[at + 1] = value >>> 8;
  return at + 2;
}

function put32(into: Buffer, at: number, value: number): number {
  into[at] = value;
  into[at + 1] = value >>> 8;
  into[at + 2] = value >>> 16;
  into[at + 3] = value >>> 24;
  return at + 4;
}

function get16(from: Buffer, at: number): number {
  return from[at]! | (from[at + 1]! << 8);
}

function get32(from: Buffer, at: number): number {
  return (from[at]! | (from[at + 1]! << 8) | (from[at + 2]! << 16) | (from[at + 3]! << 24)) >>> 0;
}
