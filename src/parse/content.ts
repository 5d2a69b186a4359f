/**
 * Comparable forms of what nginx passes on of a request, the same for a log line and for the wire. A text that the log or
 * nginx might write in another way than the wire has no form: it could otherwise pass for another request's.
 */

const FNV_OFFSET = 0x811c9dc5;
const FNV_PRIME = 0x01000193;
const SPACE = 0x20;
const HASH = 0x23;
const MINUS = 0x2d;
const SLASH = 0x2f;
const DELETE = 0x7f;

/** Of an absent header, an empty one and `-`. */
export const NO_VALUE = FNV_OFFSET;

/** A target in origin form without spaces, control characters and fragment; else undefined. `text`: latin1. */
export function targetHash(text: string): number | undefined {
  if (text.charCodeAt(0) !== SLASH) return undefined;
  let hash = FNV_OFFSET;
  for (let at = 0; at < text.length; at++) {
    const byte = text.charCodeAt(at);
    // nginx before 1.21.1 escapes a target with spaces anew.
    if (byte <= SPACE || byte === DELETE || byte === HASH) return undefined;
    hash = Math.imul(hash ^ byte, FNV_PRIME);
  }
  return hash >>> 0;
}

/** The value of a header, without control characters and surrounding spaces; else undefined. `text`: latin1. */
export function headerHash(text: string): number | undefined {
  const { length } = text;
  if (length === 0 || (length === 1 && text.charCodeAt(0) === MINUS)) return NO_VALUE;
  if (text.charCodeAt(0) === SPACE || text.charCodeAt(length - 1) === SPACE) return undefined;
  let hash = FNV_OFFSET;
  for (let at = 0; at < length; at++) {
    const byte = text.charCodeAt(at);
    if (byte < SPACE || byte === DELETE) return undefined;
    hash = Math.imul(hash ^ byte, FNV_PRIME);
  }
  return hash >>> 0;
}
