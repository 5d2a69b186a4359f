/**
 * The short form of the records that are nearly all of a feed, a tenth of their text, in which the ring keeps them. It is
 * no protocol: readers get text, made again when they ask. What it has no place for is kept as text.
 */
import type { Observation, Source } from '../model/feed.ts';

type Packable = Extract<Observation, { kind: 'request' | 'open' | 'close' | 'response' }>;
type Request = Extract<Observation, { kind: 'request' }>;

/** The first byte of a packed record. No text begins with it. */
export const PACKED = 0x01;

const KINDS = ['request', 'open', 'close', 'response'] as const;
const SOURCES: readonly Source[] = ['tap', 'conntrack', 'kernel-log'];

/** Two bytes of flags behind the mark: two bits for the kind, two for the source, and what is there. */
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

const ID_LENGTH = 32;
/** kind, t, src, sport, ip, port, via. */
const ALWAYS = 7;

/** Of an ASCII character: its value as a lower-case hexadecimal digit, or 255. */
const DIGITS = new Uint8Array(128).fill(255);
for (let i = 0; i < 16; i++) DIGITS['0123456789abcdef'.charCodeAt(i)] = i;

/** What the ring knows of a record besides its bytes. `vip`: the address of a number. */
export interface Known {
  t: number;
  src: string;
  ip: string;
  vip(number: number): string;
}

/**
 * Writes the record at `at`, where there is room for its text, and returns the end; `at` if it has to be kept as text.
 * `vip`: the number of its address.
 */
export function pack(record: Observation, vip: number, into: Buffer, at: number): number {
  const kind = KINDS.indexOf(record.kind as Packable['kind']);
  if (kind < 0) return at;
  const packable = record as Packable;
  const via = SOURCES.indexOf(packable.via);
  if (via < 0) return at;
  const { sport, port, vport = 0 } = packable;
  if ((sport | port | vport) >>> 16 !== 0) return at;
  const dialed = packable.vip !== undefined;
  let flags = kind | (via << VIA_BITS) | (dialed ? VIP : 0);
  let fields = ALWAYS + (dialed ? 2 : 0);
  let end = put16(into, put16(into, at + 3, sport), port);
  if (dialed) end = put16(into, put32(into, end, vip), vport);
  if (packable.kind === 'request') {
    const begun = end;
    const { id, method, path, content, bytes } = packable;
    if (id !== undefined) {
      end = putHex(into, end, id);
      if (end === begun) return at;
      flags |= ID;
      fields++;
    }
    if (packable.idBeforeHost) flags |= ID_BEFORE_HOST;
    if (packable.afterChunks) flags |= AFTER_CHUNKS;
    if (packable.cut) flags |= CUT;
    if (packable.singleSegment) flags |= SINGLE_SEGMENT;
    fields +=
      Number(packable.idBeforeHost ?? 0) +
      Number(packable.afterChunks ?? 0) +
      Number(packable.cut ?? 0) +
      Number(packable.singleSegment ?? 0);
    if (bytes !== undefined) {
      if (bytes >>> 0 !== bytes) return at;
      end = put32(into, end, bytes);
      flags |= BYTES;
      fields++;
    }
    if (content !== undefined) {
      for (const hash of content) {
        if (hash >>> 0 !== hash) return at;
        end = put32(into, end, hash);
      }
      flags |= content.length === 3 ? HASHES : TARGET_HASH;
      fields++;
    }
    if (method !== undefined) {
      if (!isLatin(method) || method.length > 255) return at;
      into[end++] = method.length;
      end += into.write(method, end, 'latin1');
      flags |= METHOD;
      fields++;
    }
    if (path !== undefined) {
      if (!isLatin(path)) return at;
      end += into.write(path, end, 'latin1');
      flags |= PATH;
      fields++;
    }
  } else if (packable.kind === 'open') {
    if (packable.preexisting) flags |= PREEXISTING;
    if (packable.kernelTime) flags |= KERNEL_TIME;
    fields += Number(packable.preexisting ?? 0) + Number(packable.kernelTime ?? 0);
  } else if (packable.kind === 'response') {
    if (packable.kernelTime) flags |= KERNEL_TIME;
    fields += Number(packable.kernelTime ?? 0);
  } else if (packable.end !== undefined) {
    if (packable.end !== 'fin') return at;
    flags |= FIN;
    fields++;
  }
  // A field that has no place here, one of a later version too, is not lost.
  if (fields !== fieldsOf(record)) return at;
  into[at] = PACKED;
  put16(into, at + 1, flags);
  return end;
}

/** The record in `[at, end)`, which `pack` wrote. */
export function unpack(from: Buffer, at: number, end: number, { t, src, ip, vip }: Known): Observation {
  const flags = from.readUInt16LE(at + 1);
  const kind = KINDS[flags & 3]!;
  const via = SOURCES[(flags >>> VIA_BITS) & 3]!;
  const flow: Record<string, unknown> = { kind, t, src, sport: from.readUInt16LE(at + 3), ip, via };
  flow.port = from.readUInt16LE(at + 5);
  let next = at + 7;
  if (flags & VIP) {
    flow.vip = vip(from.readUInt32LE(next));
    flow.vport = from.readUInt16LE(next + 4);
    next += 6;
  }
  if (kind === 'request') return unpackRequest(from, next, end, flags, flow as unknown as Request);
  if (kind === 'close') {
    if (flags & FIN) flow.end = 'fin';
  } else {
    if (flags & PREEXISTING) flow.preexisting = true;
    if (flags & KERNEL_TIME) flow.kernelTime = true;
  }
  return flow as unknown as Observation;
}

function unpackRequest(from: Buffer, at: number, end: number, flags: number, request: Request): Request {
  let next = at;
  const whole = (): number => {
    next += 4;
    return from.readUInt32LE(next - 4);
  };
  if (flags & ID) {
    next += ID_LENGTH / 2;
    request.id = from.toString('hex', at, next);
  }
  if (flags & ID_BEFORE_HOST) request.idBeforeHost = true;
  if (flags & AFTER_CHUNKS) request.afterChunks = true;
  if (flags & CUT) request.cut = true;
  if (flags & SINGLE_SEGMENT) request.singleSegment = true;
  if (flags & BYTES) request.bytes = whole();
  if (flags & TARGET_HASH) request.content = [whole()];
  if (flags & HASHES) request.content = [whole(), whole(), whole()];
  if (flags & METHOD) {
    const begin = next + 1;
    next = begin + from[next]!;
    request.method = from.toString('latin1', begin, next);
  }
  if (flags & PATH) request.path = from.toString('latin1', next, end);
  return request;
}

function fieldsOf(record: Observation): number {
  let fields = 0;
  for (const name in record) if (record[name as keyof Observation] !== undefined) fields++;
  return fields;
}

/** Writes an id of 32 hexadecimal digits and returns the end; `at` if it is another one. */
function putHex(into: Buffer, at: number, id: string): number {
  if (id.length !== ID_LENGTH) return at;
  for (let i = 0; i < ID_LENGTH; i += 2) {
    const high = DIGITS[id.charCodeAt(i)] ?? 255;
    const low = DIGITS[id.charCodeAt(i + 1)] ?? 255;
    if ((high | low) > 15) return at;
    into[at + i / 2] = (high << 4) | low;
  }
  return at + ID_LENGTH / 2;
}

/** Whether each character is one byte. */
function isLatin(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0xff) return false;
  return true;
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
