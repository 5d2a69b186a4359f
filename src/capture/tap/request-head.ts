/** The head of an HTTP/1.x request (RFC 9112), up to the end of the copy. */
import type { ContentHashes } from '../../model/content.ts';
import { headerHash, NO_VALUE, targetHash } from '../../parse/content.ts';

/** Longer ids, and ids with bytes other than printable ASCII, are dropped and match no log line. */
export const ID_LIMIT = 256;

export interface RequestHead {
  /** Absent if the copy ends within it. */
  method: string | undefined;
  /** Request target, one character a byte (latin1). With `cut` it may be only its beginning. */
  path: string | undefined;
  /** Value of the id header, if the copy has it exactly once and completely. */
  id: string | undefined;
  /**
   * The id is before `Host`. nginx writes the headers that it sets, `Host` included, before the client's, so this id does
   * not come from a client through a location that sets none.
   */
  idBeforeHost: boolean;
  /**
   * The id of the request is uncertain, so an absent one proves nothing: the copy ends before the blank line, or the header
   * occurs twice, or is folded, too long or not printable.
   */
  cut: boolean;
  /**
   * Length in bytes of the whole request, head and body, if the head is complete and defines it (RFC 9112, section 6): no
   * chunks, and no other protocol on the same connection. Undefined otherwise.
   */
  requestBytes: number | undefined;
  /** It requests another protocol on this connection: later bytes may look like requests without being any. */
  upgrade: boolean;
  /** Its body is chunked: no header has its length. */
  chunked: boolean;
}

/** Hashes of the request's content, without the headers where the copy ends within the head or one of them is doubtful. */
export function contentOf(
  bytes: Buffer,
  start: number,
  end: number,
  { path }: RequestHead,
): ContentHashes | undefined {
  const lineEnd = findLineFeed(bytes, start, end);
  const target = lineEnd < 0 || path === undefined ? undefined : targetHash(path);
  if (target === undefined) return undefined;
  let userAgent: number | undefined;
  let referer: number | undefined;
  for (let at = lineEnd + 1; at < end; ) {
    const feed = findLineFeed(bytes, at, end);
    if (feed < 0) break;
    const lineStop = contentEnd(bytes, at, feed);
    if (lineStop === at) return [target, userAgent ?? NO_VALUE, referer ?? NO_VALUE];
    // A folded line may belong to either.
    if (isFold(bytes[at]!)) break;
    if (isHeader(bytes, at, lineStop, USER_AGENT)) {
      if (userAgent !== undefined) break;
      userAgent = valueHash(bytes, at + USER_AGENT.length + 1, lineStop);
      if (userAgent === undefined) break;
    } else if (isHeader(bytes, at, lineStop, REFERER)) {
      if (referer !== undefined) break;
      referer = valueHash(bytes, at + REFERER.length + 1, lineStop);
      if (referer === undefined) break;
    }
    at = feed + 1;
  }
  return [target];
}

/** nginx writes one space after the colon; more of them belong to the value. */
function valueHash(bytes: Buffer, start: number, end: number): number | undefined {
  return headerHash(bytes.toString('latin1', bytes[start] === SPACE ? start + 1 : start, end));
}

const LF = 10;
const CR = 13;
const TAB = 9;
const SPACE = 32;
const COLON = 58;
const HTTP_1 = Buffer.from(' HTTP/1.');
const CONTENT_LENGTH = Buffer.from('content-length');
const TRANSFER_ENCODING = Buffer.from('transfer-encoding');
const UPGRADE = Buffer.from('upgrade');
const HOST = Buffer.from('host');
const USER_AGENT = Buffer.from('user-agent');
const REFERER = Buffer.from('referer');

/** W3C Trace Context: only the trace id of its value is compared with log lines. */
const TRACEPARENT = Buffer.from('traceparent');

/** The header's name for `parseRequestHead`. */
export function headerName(name: string): Buffer {
  const lower = name.toLowerCase();
  return lower === 'traceparent' ? TRACEPARENT : Buffer.from(lower, 'latin1');
}

/** `VERSION-TRACE-SPAN-FLAGS`, in lower-case hexadecimal digits (W3C Trace Context §3.2). */
const TRACE_ID = /^[\da-f]{2}-([\da-f]{32})-[\da-f]{16}-[\da-f]{2}(?:-|$)/;

/** The id in the header's value: the trace id of a `traceparent`, any other value unchanged. */
export function headerId(header: Buffer, value: string): string {
  return (header === TRACEPARENT ? TRACE_ID.exec(value)?.[1] : undefined) ?? value;
}

/**
 * Parses `start`..`end`; `idHeader` comes from `headerName`. Bytes that do not begin like a request of nginx (method of
 * letters, `-` and `_`; target; HTTP/1.x) are `not-http`. Each byte is read a bounded number of times.
 */
export function parseRequestHead(
  bytes: Buffer,
  start: number,
  end: number,
  idHeader: Buffer,
): RequestHead | 'not-http' {
  let at = start;
  while (at < end && isMethodByte(bytes[at]!)) at++;
  if (at === start) return 'not-http';
  const cutShort = {
    id: undefined,
    idBeforeHost: false,
    cut: true,
    requestBytes: undefined,
    upgrade: false,
    chunked: false,
  };
  if (at === end) return { method: undefined, path: undefined, ...cutShort };
  if (bytes[at] !== SPACE) return 'not-http';
  const method = bytes.toString('latin1', start, at);
  const pathStart = at + 1;

  const lineEnd = findLineFeed(bytes, pathStart, end);
  if (lineEnd < 0) {
    // Up to the first space only: the bytes after it may be the beginning of ` HTTP/1.1`.
    let pathEnd = pathStart;
    while (pathEnd < end && bytes[pathEnd] !== SPACE && bytes[pathEnd] !== CR) pathEnd++;
    const path = bytes.toString('latin1', pathStart, pathEnd);
    return { method, path, ...cutShort };
  }
  const pathEnd = contentEnd(bytes, pathStart, lineEnd) - HTTP_1.length - 1;
  if (pathEnd <= pathStart || !isHttp1(bytes, pathEnd)) return 'not-http';
  const path = bytes.toString('latin1', pathStart, pathEnd);

  let id: string | undefined;
  let idSeen = false;
  let idDoubtful = false;
  let inIdHeader = false;
  /** -1: unknown. */
  let bodyBytes = 0;
  let lengthSeen = false;
  let upgrade = false;
  let chunked = false;
  let hostSeen = false;
  let idBeforeHost = false;
  for (at = lineEnd + 1; at < end; ) {
    const feed = findLineFeed(bytes, at, end);
    if (feed < 0) {
      if (isFold(bytes[at]!) ? inIdHeader : isHeader(bytes, at, end, idHeader)) idDoubtful = true;
      break;
    }
    const lineStop = contentEnd(bytes, at, feed);
    if (lineStop === at) {
      const requestBytes = upgrade || bodyBytes < 0 ? undefined : feed + 1 - start + bodyBytes;
      return {
        method,
        path,
        id: idDoubtful ? undefined : id,
        idBeforeHost,
        cut: idDoubtful,
        requestBytes,
        upgrade,
        chunked,
      };
    }
    if (isFold(bytes[at]!)) {
      if (inIdHeader) idDoubtful = true;
    } else {
      if (isHeader(bytes, at, lineStop, CONTENT_LENGTH)) {
        bodyBytes = lengthSeen ? -1 : lengthIn(bytes, at + CONTENT_LENGTH.length + 1, lineStop);
        lengthSeen = true;
      } else if (isHeader(bytes, at, lineStop, TRANSFER_ENCODING)) {
        bodyBytes = -1;
        lengthSeen = true;
        chunked = true;
      } else {
        upgrade ||= isHeader(bytes, at, lineStop, UPGRADE);
        hostSeen ||= isHeader(bytes, at, lineStop, HOST);
      }
      inIdHeader = isHeader(bytes, at, lineStop, idHeader);
      if (inIdHeader) {
        if (idSeen) idDoubtful = true;
        idSeen = true;
        idBeforeHost = !hostSeen;
        const value = headerValue(bytes, at + idHeader.length + 1, lineStop);
        if (value === undefined) idDoubtful = true;
        else if (value !== '') id = headerId(idHeader, value);
      }
    }
    at = feed + 1;
  }
  // The last copied line may continue in one that was not copied (obs-fold).
  const certain = !idDoubtful && !(inIdHeader && at >= end);
  return {
    method,
    path,
    id: certain ? id : undefined,
    idBeforeHost,
    cut: true,
    requestBytes: undefined,
    upgrade,
    chunked,
  };
}

/** The value of a Content-Length in bytes; -1 if it is not a number of at most 15 digits. */
function lengthIn(bytes: Buffer, start: number, end: number): number {
  let at = start;
  while (at < end && isFold(bytes[at]!)) at++;
  let length = at < end && end - at <= 15 ? 0 : -1;
  for (; at < end && length >= 0; at++) {
    const digit = bytes[at]! - 48;
    length = digit >= 0 && digit <= 9 ? length * 10 + digit : -1;
  }
  return length;
}

/** nginx accepts methods of these bytes only (ngx_http_parse_request_line). */
function isMethodByte(byte: number): boolean {
  return (byte >= 65 && byte <= 90) || byte === 95 || byte === 45;
}

function findLineFeed(bytes: Buffer, from: number, end: number): number {
  for (let at = from; at < end; at++) if (bytes[at] === LF) return at;
  return -1;
}

/** A line that begins with one of these continues the value above (obs-fold). */
function isFold(byte: number): boolean {
  return byte === SPACE || byte === TAB;
}

/** End of the line's content: before its CR LF, or before a bare LF. */
function contentEnd(bytes: Buffer, start: number, feed: number): number {
  return feed > start && bytes[feed - 1] === CR ? feed - 1 : feed;
}

/** ` HTTP/1.` and one digit at `at`. */
function isHttp1(bytes: Buffer, at: number): boolean {
  for (let i = 0; i < HTTP_1.length; i++) if (bytes[at + i] !== HTTP_1[i]) return false;
  const minor = bytes[at + HTTP_1.length]!;
  return minor >= 48 && minor <= 57;
}

function isHeader(bytes: Buffer, at: number, end: number, name: Buffer): boolean {
  const colon = at + name.length;
  if (colon >= end || bytes[colon] !== COLON) return false;
  for (let i = 0; i < name.length; i++) {
    const byte = bytes[at + i]!;
    const lower = byte >= 65 && byte <= 90 ? byte + 32 : byte;
    if (lower !== name[i]) return false;
  }
  return true;
}

/** The value without white space around it; undefined if it cannot be an id. */
function headerValue(bytes: Buffer, start: number, end: number): string | undefined {
  let from = start;
  let to = end;
  while (from < to && (bytes[from] === SPACE || bytes[from] === TAB)) from++;
  while (to > from && (bytes[to - 1] === SPACE || bytes[to - 1] === TAB)) to--;
  if (to - from > ID_LIMIT) return undefined;
  for (let at = from; at < to; at++) {
    const byte = bytes[at]!;
    if (byte < SPACE || byte > 126) return undefined;
  }
  return bytes.toString('latin1', from, to);
}
