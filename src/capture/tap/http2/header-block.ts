/**
 * The header block of an HTTP/2 request (RFC 7541), as nginx writes it. nginx keeps no table of headers: the pseudo-headers are
 * entries of the static table, or literals under a name of it, every other header is a literal with its name, and nothing refers
 * to what was sent before. So a block can be read by itself. A block with any other representation is not nginx's.
 */
import { headerId, ID_LIMIT } from '../request-head.ts';
import { huffmanText } from './huffman.ts';

/** How requests are read. */
export interface HeaderReading {
  /** From `headerName`. */
  idHeader: Buffer;
  /** The same as text. */
  idName: string;
  /** Whether targets are read. */
  paths: boolean;
}

export interface HeaderBlock {
  method: string | undefined;
  path: string | undefined;
  /** Value of the id header, if the copy has it exactly once and completely. None where `Content-Length` stands before it: a client sent it. */
  id: string | undefined;
  /**
   * A header that no client can send through nginx stands behind the id. nginx writes the headers that it sets before the
   * client's, and sets these itself or drops them: `Host`, `Content-Length`, `TE`. The last two come with some requests of a
   * location only, so that an id without them would seem another location's: they count where each request has one, in gRPC.
   */
  idIsNginxs: boolean;
  /** The copy ends within the block, or the id is doubtful, so an absent one proves nothing. */
  cut: boolean;
  /** Value of Content-Length; undefined where the copy has none that is a number. */
  contentLength: number | undefined;
}

/** Entries of the static table (RFC 7541, appendix A) that nginx uses. */
const AUTHORITY = 1;
const METHOD = 2;
const PATH = 4;
const INDEXED: ReadonlyMap<number, 'GET' | 'POST' | '/' | ''> = new Map([
  [2, 'GET'],
  [3, 'POST'],
  [4, '/'],
  [6, ''],
  [7, ''],
]);
const HOST = 'host';
const CONTENT_LENGTH = 'content-length';
const TE = 'te';
const CONTENT_TYPE = 'content-type';
const GRPC = 'application/grpc';

/** Longest name that is decoded (bytes). */
const NAME_LIMIT = 256;
/** Longest target that is decoded (bytes): more than a copy holds. */
const PATH_LIMIT = 65_536;

/** Reads what was copied of a block: `start`..`end`. `whole`: that is all of it. `foreign`: nginx does not write such. */
export function readHeaderBlock(
  bytes: Buffer,
  start: number,
  end: number,
  whole: boolean,
  { idHeader, idName, paths }: HeaderReading,
): HeaderBlock | 'foreign' {
  const block: HeaderBlock = {
    method: undefined,
    path: undefined,
    id: undefined,
    idIsNginxs: false,
    cut: !whole,
    contentLength: undefined,
  };
  const strings = new Strings(bytes, end);
  let ids = 0;
  let isGrpc = false;
  let somethingBehind = false;
  let lengthBefore = false;
  let at = start;
  while (at < end) {
    const first = bytes[at]!;
    if (first >= 0x80) {
      const value = INDEXED.get(first & 0x7f);
      if (value === undefined) return 'foreign';
      if (value === '/') block.path = paths ? value : undefined;
      else if (value !== '') block.method = value;
      at++;
      continue;
    }
    if (first >= 0x40) {
      const name = first & 0x3f;
      if (name !== AUTHORITY && name !== METHOD && name !== PATH) return 'foreign';
      const next = strings.next(at + 1);
      if (next === 'foreign') return next;
      if (next === 'cut') break;
      if (name === METHOD) block.method = strings.text(NAME_LIMIT);
      else if (name === PATH && paths) block.path = strings.text(PATH_LIMIT);
      at = next;
      continue;
    }
    if (first !== 0) return 'foreign';
    const valueAt = strings.next(at + 1);
    if (valueAt === 'foreign') return valueAt;
    if (valueAt === 'cut') break;
    const name = strings.text(NAME_LIMIT);
    const next = strings.next(valueAt);
    if (next === 'foreign') return next;
    if (next === 'cut') break;
    if (name === idName) {
      const value = strings.text(ID_LIMIT)?.trim();
      if (++ids > 1 || value === undefined || value.length > ID_LIMIT) block.cut = true;
      else if (value !== '' && !lengthBefore) block.id = headerId(idHeader, value);
    } else if (name === HOST) {
      if (ids === 1) block.idIsNginxs = true;
    } else if (name === CONTENT_LENGTH || name === TE) {
      if (ids === 1) somethingBehind = true;
      if (name === CONTENT_LENGTH) {
        lengthBefore = true;
        block.contentLength = numberIn(strings.text(15));
      }
    } else if (name === CONTENT_TYPE) {
      isGrpc = strings.text(NAME_LIMIT)?.startsWith(GRPC) === true;
    }
    at = next;
  }
  if (at < end && whole) return 'foreign';
  if (ids > 1) block.id = undefined;
  if (isGrpc && somethingBehind) block.idIsNginxs = true;
  return block;
}

function numberIn(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

/** The strings of a block, one after another. */
class Strings {
  readonly #bytes: Buffer;
  readonly #end: number;
  #start = 0;
  #stop = 0;
  #huffman = false;

  constructor(bytes: Buffer, end: number) {
    this.#bytes = bytes;
    this.#end = end;
  }

  /** Goes to the string at `at`, and returns where it ends. `cut`: the copy ends before. `foreign`: its length is too long. */
  next(at: number): number | 'cut' | 'foreign' {
    const bytes = this.#bytes;
    if (at >= this.#end) return 'cut';
    const first = bytes[at]!;
    this.#huffman = first >= 0x80;
    let length = first & 0x7f;
    let start = at + 1;
    if (length === 0x7f) {
      // RFC 7541, section 5.1. Three further bytes hold more than a frame can.
      for (let shift = 0; ; shift += 7, start++) {
        if (shift > 14) return 'foreign';
        if (start >= this.#end) return 'cut';
        const byte = bytes[start]!;
        length += (byte & 0x7f) << shift;
        if (byte < 0x80) break;
      }
      start++;
    }
    this.#start = start;
    this.#stop = start + length;
    return this.#stop > this.#end ? 'cut' : this.#stop;
  }

  /** The current string; undefined if it is longer than `limit` bytes, or not printable ASCII. */
  text(limit: number): string | undefined {
    if (this.#stop - this.#start > limit) return undefined;
    if (this.#huffman) return huffmanText(this.#bytes, this.#start, this.#stop);
    for (let at = this.#start; at < this.#stop; at++) {
      const byte = this.#bytes[at]!;
      if (byte < 0x20 || byte > 0x7e) return undefined;
    }
    return this.#bytes.toString('latin1', this.#start, this.#stop);
  }
}
