import { ADDRESS, CLASS, DIGITS, PEER, type Shape, WORD } from './log-variable.ts';

const SPACE = 0x20;
const COMMA = 0x2c;
const MINUS = 0x2d;
const COLON = 0x3a;
const OPEN = 0x5b;
const CLOSE = 0x5d;

/** Lengths of the two fixed shapes: `04/Dec/2025:07:27:17 +0000` and `2025-12-04T07:27:17+00:00`. */
export const TIME_LOCAL_LENGTH = 26;
export const TIME_ISO8601_LENGTH = 25;

/** Where the value of this shape that begins at `at` ends: as far as its bytes go. -1: a time that is none. */
export function matchShape(shape: Shape, bytes: Uint8Array, at: number, end: number): number {
  switch (shape) {
    case 'number':
    case 'count':
    case 'status':
    case 'decimal':
      return matchNumber(bytes, at, end);
    case 'protocol':
      return matchProtocol(bytes, at, end);
    case 'word':
      return matchClass(WORD, bytes, at, end);
    case 'address':
      return matchClass(ADDRESS, bytes, at, end);
    case 'number-list':
    case 'count-list':
      return matchList(false, bytes, at, end);
    case 'peer-list':
      return matchList(true, bytes, at, end);
    case 'time-local':
      return isTimeLocal(bytes, at, end) ? at + TIME_LOCAL_LENGTH : -1;
    case 'time-iso8601':
      return isTimeIso8601(bytes, at, end) ? at + TIME_ISO8601_LENGTH : -1;
    case 'text':
      return -1;
  }
}

function matchClass(mask: number, bytes: Uint8Array, from: number, end: number): number {
  let at = from;
  while (at < end && (CLASS[bytes[at]!]! & mask) !== 0) at++;
  return at;
}

function matchNumber(bytes: Uint8Array, from: number, end: number): number {
  if (from < end && bytes[from] === MINUS) return from + 1;
  return matchClass(DIGITS, bytes, from, end);
}

/** The shape's bytes, then blanks: a client may send `HTTP/1.1 `. */
function matchProtocol(bytes: Uint8Array, from: number, end: number): number {
  let at = matchClass(WORD, bytes, from, end);
  if (at - from > 1) while (at < end && bytes[at] === SPACE) at++;
  return at;
}

/**
 * Entries with `, ` or ` : ` between them, as nginx joins the attempts (ngx_http_upstream.c). An entry may be empty: so
 * nginx writes the peer of a group that was redirected to and never chose one.
 */
function matchList(peers: boolean, bytes: Uint8Array, from: number, end: number): number {
  let at = from;
  for (;;) {
    at = peers ? matchPeer(bytes, at, end) : matchNumber(bytes, at, end);
    const separator = separatorLength(bytes, at, end);
    if (separator === 0) return at;
    at += separator;
  }
}

/** 2 for `, `, 3 for ` : `, 0 where neither stands at `at`. */
export function separatorLength(bytes: Uint8Array, at: number, end: number): number {
  if (at + 1 >= end) return 0;
  if (bytes[at] === COMMA) return bytes[at + 1] === SPACE ? 2 : 0;
  return bytes[at] === SPACE && bytes[at + 1] === COLON && at + 2 < end && bytes[at + 2] === SPACE ? 3 : 0;
}

function matchPeer(bytes: Uint8Array, from: number, end: number): number {
  if (from >= end || bytes[from] !== OPEN) return matchClass(PEER, bytes, from, end);
  const close = matchClass(ADDRESS, bytes, from + 1, end);
  if (close + 1 >= end || bytes[close] !== CLOSE || bytes[close + 1] !== COLON) return from;
  return matchClass(DIGITS, bytes, close + 2, end);
}

export function isTimeLocal(bytes: Uint8Array, at: number, end: number): boolean {
  return (
    at + TIME_LOCAL_LENGTH <= end &&
    bytes[at + 2] === 0x2f &&
    bytes[at + 6] === 0x2f &&
    bytes[at + 11] === COLON &&
    bytes[at + 14] === COLON &&
    bytes[at + 17] === COLON &&
    bytes[at + 20] === SPACE &&
    (bytes[at + 21] === 0x2b || bytes[at + 21] === MINUS) &&
    digits(bytes, at, 2) &&
    letters(bytes, at + 3, 3) &&
    digits(bytes, at + 7, 4) &&
    digits(bytes, at + 12, 2) &&
    digits(bytes, at + 15, 2) &&
    digits(bytes, at + 18, 2) &&
    digits(bytes, at + 22, 4)
  );
}

export function isTimeIso8601(bytes: Uint8Array, at: number, end: number): boolean {
  return (
    at + TIME_ISO8601_LENGTH <= end &&
    bytes[at + 4] === MINUS &&
    bytes[at + 7] === MINUS &&
    bytes[at + 10] === 0x54 &&
    bytes[at + 13] === COLON &&
    bytes[at + 16] === COLON &&
    (bytes[at + 19] === 0x2b || bytes[at + 19] === MINUS) &&
    bytes[at + 22] === COLON &&
    digits(bytes, at, 4) &&
    digits(bytes, at + 5, 2) &&
    digits(bytes, at + 8, 2) &&
    digits(bytes, at + 11, 2) &&
    digits(bytes, at + 14, 2) &&
    digits(bytes, at + 17, 2) &&
    digits(bytes, at + 20, 2) &&
    digits(bytes, at + 23, 2)
  );
}

function digits(bytes: Uint8Array, at: number, count: number): boolean {
  for (let k = at; k < at + count; k++) if (bytes[k]! < 0x30 || bytes[k]! > 0x39) return false;
  return true;
}

function letters(bytes: Uint8Array, at: number, count: number): boolean {
  for (let k = at; k < at + count; k++) {
    const lower = bytes[k]! | 0x20;
    if (lower < 0x61 || lower > 0x7a) return false;
  }
  return true;
}
