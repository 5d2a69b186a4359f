/**
 * The frames that nginx sends on an HTTP/2 connection to a backend (RFC 9113), followed from the preface on by TCP's sequence
 * numbers: where a frame ends the next one begins, so what a client writes into a body is not taken for a frame.
 *
 * nginx begins a request with a HEADERS frame on the next odd stream, 1, 3, 5 and so on, when it has read the answer to the
 * one before, and goes on with DATA. Frames up to 16 KiB, no padding, no priorities: with anything else the connection is no
 * longer followed.
 *
 * Where a frame begins beyond the copied bytes, behind the beginning of a body, or packets come out of order, the place of
 * the next one is not known any more. From then on a packet may begin with a HEADERS frame, or with what a client wrote: a request with that doubt. In any
 * other packet one may begin, unless the packet is from before the answer or within the body that was announced.
 */
import { type HeaderBlock, type HeaderReading, readHeaderBlock } from './header-block.ts';

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');

const FRAME_HEADER = 9;
/** SETTINGS_MAX_FRAME_SIZE as it is without a setting (RFC 9113, section 6.5.2): nginx sends no longer frames. */
const MAX_FRAME = 16_384;
const DATA = 0;
const HEADERS = 1;
const SETTINGS = 4;
const PING = 6;
const WINDOW_UPDATE = 8;
const END_STREAM = 0x1;
const ACK = 0x1;
const END_HEADERS = 0x4;
/** Bytes of the frames with which nginx answers the backend's, by type. */
const CONTROL_SIZES: Readonly<Record<number, number>> = { [SETTINGS]: 0, [PING]: 8, [WINDOW_UPDATE]: 4 };
/** Bodies announced as longer than this (bytes) cannot be told by sequence numbers. */
const MAX_ANNOUNCED = 2 ** 30;

/** How far a connection was followed. Sequence and acknowledgement numbers are TCP's. */
export interface Followed {
  /** Its first byte. */
  readonly start: number;
  /** After the last byte of the connection that was seen to pass. */
  seenTo: number;
  /** Where the next frame begins; undefined where that is not known any more. */
  boundary: number | undefined;
  /** No request begins before it. */
  floor: number;
  /** The last stream that certainly was begun, -1 before the first, and what its packet acknowledged. */
  stream: number;
  ack: number;
  /** Its DATA is not over. */
  open: boolean;
  /** Bytes of its announced body that are still to come; undefined where none was announced. */
  left: number | undefined;
  /** The last stream that was perhaps begun. */
  perhaps: number;
}

/** What was copied of a packet with payload. */
export interface Copied {
  /** From the payload's first byte on. */
  bytes: Buffer;
  reading: HeaderReading;
}

/** Where it is in its connection: sequence numbers of its first byte, and after its last; undefined where not known. */
export interface Placed extends Copied {
  seq: number;
  ack: number;
  end: number | undefined;
}

/** A request. `doubtful`: a client may have written all of it into a body. */
export interface ShownRequest {
  block: HeaderBlock;
  doubtful: boolean;
}

/**
 * What a packet shows: a request that begins in it; `within`: one may begin in it; `nothing` new; or that the connection is
 * followed no further (`lost`).
 */
export type Shown = ShownRequest | 'within' | 'nothing' | 'lost';

interface Frame {
  size: number;
  type: number;
  flags: number;
  stream: number;
}

/** A connection's first packet with payload: undefined if it does not begin with the preface. */
export function beginFollowing({ bytes, seq, ack }: Placed): Followed | undefined {
  if (!hasPreface(bytes)) return undefined;
  const boundary = (seq + PREFACE.length) >>> 0;
  return {
    start: seq,
    seenTo: seq,
    boundary,
    floor: boundary,
    stream: -1,
    ack,
    open: false,
    left: 0,
    perhaps: -1,
  };
}

function hasPreface(bytes: Buffer): boolean {
  return bytes.length >= PREFACE.length && bytes.compare(PREFACE, 0, PREFACE.length, 0, PREFACE.length) === 0;
}

/** Follows a connection with its next packet. After `lost`, `followed` is of no use. */
export function follow(followed: Followed, packet: Placed): Shown {
  const { bytes, seq, ack, end } = packet;
  if (end === undefined) return 'lost';
  // Of another connection, perhaps, that has taken the port, with its event still unread.
  if (hasPreface(bytes) && seq !== followed.seenTo && seq !== followed.start) return 'within';
  // Sent before, all of it.
  if (after(end, followed.seenTo) <= 0) return 'nothing';
  // Bytes before it passed unseen, in a packet that is read later, or never.
  const unseen = after(seq, followed.seenTo) > 0;
  if (after(followed.seenTo, followed.floor) > 0) followed.floor = followed.seenTo;
  followed.seenTo = end;
  if (unseen) followed.boundary = undefined;
  const shown = eachFrame(followed, packet, end);
  if (shown !== undefined) return shown;
  // The next request acknowledges the answer to the one before.
  if (followed.boundary !== undefined || ack === followed.ack || after(end, followed.floor) <= 0)
    return 'nothing';
  return unseen || after(seq, followed.floor) < 0 ? 'within' : perhapsRequest(followed, packet);
}

/** Reads frame by frame up to the packet's end, or to one that was not copied. */
function eachFrame(
  followed: Followed,
  { bytes, seq, ack, reading }: Placed,
  end: number,
): ShownRequest | 'lost' | undefined {
  let shown: ShownRequest | undefined;
  while (followed.boundary !== undefined && after(end, followed.boundary) > 0) {
    const at = after(followed.boundary, seq);
    const frame = frameAt(bytes, at);
    if (frame === undefined) {
      if (isEmptyEnd(followed, ack, after(end, followed.boundary))) {
        followed.boundary = end;
        followed.open = false;
        break;
      }
      if (after(followed.boundary, followed.floor) > 0) followed.floor = followed.boundary;
      followed.boundary = undefined;
      break;
    }
    const { type, stream, size } = frame;
    const endsStream = (frame.flags & END_STREAM) !== 0;
    if (!isNginxs(frame, followed)) return 'lost';
    followed.boundary = (followed.boundary + FRAME_HEADER + size) >>> 0;
    if (type === DATA) {
      followed.open = !endsStream;
      if (followed.left !== undefined) followed.left -= size;
    }
    if (type !== HEADERS) continue;
    const block = shown === undefined ? blockOf(bytes, at, size, reading) : 'foreign';
    if (block === 'foreign') return 'lost';
    shown = { block, doubtful: false };
    followed.stream = stream;
    followed.perhaps = stream;
    followed.ack = ack;
    followed.open = !endsStream;
    followed.left = block.contentLength;
    followed.floor = (followed.boundary + (endsStream ? 0 : leastOf(block.contentLength))) >>> 0;
  }
  return shown;
}

/**
 * Whether the rest of a packet, which was not copied, is the empty frame with which nginx ends DATA: the announced body is over,
 * and nothing of the backend's has come since the request began, which another frame could answer.
 */
function isEmptyEnd({ open, left, ack: began }: Followed, ack: number, rest: number): boolean {
  return open && left === 0 && ack === began && rest === FRAME_HEADER;
}

/** A packet that may begin a request: a HEADERS frame with a stream that can be the next one is taken for one. */
function perhapsRequest(followed: Followed, packet: Placed): Shown {
  const { bytes, reading } = packet;
  const frame = frameAt(bytes, 0);
  if (isControl(packet)) return 'nothing';
  if (frame === undefined || frame.type !== HEADERS || !isPlain(frame)) return 'within';
  const { stream, size } = frame;
  if (stream <= followed.stream || stream % 2 === 0) return 'within';
  const block = blockOf(bytes, 0, size, reading);
  if (block === 'foreign') return 'within';
  // A request was missed, or a client wrote this: that is not known.
  if (stream > followed.perhaps + 2) return 'lost';
  followed.perhaps = Math.max(followed.perhaps, stream);
  return { block, doubtful: true };
}

/** The header of the frame at `at`; undefined if it was not copied. */
function frameAt(bytes: Buffer, at: number): Frame | undefined {
  if (at < 0 || at + FRAME_HEADER > bytes.length) return undefined;
  return {
    size: bytes.readUIntBE(at, 3),
    type: bytes[at + 3]!,
    flags: bytes[at + 4]!,
    stream: bytes.readUInt32BE(at + 5),
  };
}

function blockOf(bytes: Buffer, at: number, size: number, reading: HeaderReading): HeaderBlock | 'foreign' {
  const from = at + FRAME_HEADER;
  const to = from + size;
  return readHeaderBlock(bytes, from, Math.min(to, bytes.length), to <= bytes.length, reading);
}

/** Whether nginx sends such a frame now. */
function isNginxs(frame: Frame, { stream: last, open, left = Infinity }: Followed): boolean {
  const { size, type, stream } = frame;
  switch (type) {
    case DATA:
      return open && stream === last && size <= left && isPlain(frame);
    case HEADERS:
      return !open && stream === last + 2 && isPlain(frame);
    case SETTINGS:
    case PING:
    case WINDOW_UPDATE:
      return size <= MAX_FRAME;
    default:
      return false;
  }
}

/**
 * Whether the packet is whole frames of the connection's own, as nginx answers with them, from its first byte to its last. No
 * HEADERS frame fits into these bytes, wherever it began. Of one that is cut off after some bytes the rest is in a later packet.
 */
function isControl({ bytes, seq, end }: Placed): boolean {
  if (end === undefined || after(end, seq) !== bytes.length) return false;
  let at = 0;
  for (let frame = frameAt(bytes, at); frame !== undefined; frame = frameAt(bytes, at)) {
    const { size, type, flags } = frame;
    const isAnswer = type === WINDOW_UPDATE ? flags === 0 : flags === ACK;
    if (!isAnswer || size !== CONTROL_SIZES[type]) return false;
    at += FRAME_HEADER + size;
  }
  return at === bytes.length;
}

/** DATA or HEADERS as nginx writes them. */
function isPlain({ size, type, flags }: Frame): boolean {
  return size <= MAX_FRAME && (flags & ~END_STREAM) === (type === HEADERS ? END_HEADERS : 0);
}

/** Bytes that the frames of a body of this length have at least. */
function leastOf(contentLength: number | undefined): number {
  if (contentLength === undefined || contentLength > MAX_ANNOUNCED) return 0;
  return contentLength + FRAME_HEADER * Math.ceil(contentLength / MAX_FRAME);
}

/** `a` minus `b` as sequence numbers (RFC 9293, section 3.4: modulo 2^32). */
function after(a: number, b: number): number {
  return (a - b) | 0;
}
