/** nginx's times as text → milliseconds. The spans have already been checked for their shape (match-shape.ts). */

const POINT = 0x2e;
const MINUS = 0x2d;

/** Seconds beyond which a text is no time of this world (year 5138), nor one that a Date can hold. */
const MAX_SECONDS = 1e11;

/**
 * Seconds with a fraction (`$msec`, `$request_time`: `1764837843.123`) as milliseconds, cut to whole ones; undefined for
 * `-`, nothing, or anything else.
 */
export function secondsToMs(bytes: Uint8Array, start: number, end: number): number | undefined {
  let whole = 0;
  let fraction = 0;
  let scale = 0;
  for (let at = start; at < end; at++) {
    const byte = bytes[at]!;
    if (byte === POINT) {
      if (scale !== 0 || at === start) return undefined;
      scale = 1000;
      continue;
    }
    const digit = byte - 0x30;
    if (digit < 0 || digit > 9) return undefined;
    if (scale === 0) whole = whole * 10 + digit;
    else {
      scale /= 10;
      if (scale >= 1) fraction += digit * scale;
    }
  }
  return start < end && whole < MAX_SECONDS ? whole * 1000 + fraction : undefined;
}

/** A whole number of at most 15 digits; undefined for `-`, nothing, or anything else. */
export function wholeNumber(bytes: Uint8Array, start: number, end: number): number | undefined {
  if (start >= end || end - start > 15) return undefined;
  let value = 0;
  for (let at = start; at < end; at++) {
    const digit = bytes[at]! - 0x30;
    if (digit < 0 || digit > 9) return undefined;
    value = value * 10 + digit;
  }
  return value;
}

/** Reads times with a date, and keeps the last day, as the lines of a log share it. */
export class DateReader {
  #year = -1;
  #month = -1;
  #day = -1;
  #midnight = 0;

  /** `04/Dec/2025:07:27:17 +0000` → ms since the epoch, or undefined if there is no such month. */
  timeLocal(bytes: Uint8Array, at: number): number | undefined {
    const month = MONTHS.indexOf(
      ((bytes[at + 3]! | 0x20) << 16) | ((bytes[at + 4]! | 0x20) << 8) | (bytes[at + 5]! | 0x20),
    );
    if (month < 0) return undefined;
    const midnight = this.#day0(pair(bytes, at + 7) * 100 + pair(bytes, at + 9), month, pair(bytes, at));
    const zone = pair(bytes, at + 22) * 60 + pair(bytes, at + 24);
    return instant(midnight, bytes, at + 12, bytes[at + 21] === MINUS ? -zone : zone);
  }

  /** `2025-12-04T07:27:17+00:00` → ms since the epoch. */
  iso8601(bytes: Uint8Array, at: number): number {
    const year = pair(bytes, at) * 100 + pair(bytes, at + 2);
    const midnight = this.#day0(year, pair(bytes, at + 5) - 1, pair(bytes, at + 8));
    const zone = pair(bytes, at + 20) * 60 + pair(bytes, at + 23);
    return instant(midnight, bytes, at + 11, bytes[at + 19] === MINUS ? -zone : zone);
  }

  #day0(year: number, month: number, day: number): number {
    if (day !== this.#day || month !== this.#month || year !== this.#year) {
      this.#year = year;
      this.#month = month;
      this.#day = day;
      this.#midnight = Date.UTC(year, month, day);
    }
    return this.#midnight;
  }
}

const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'].map(
  (name) => (name.charCodeAt(0) << 16) | (name.charCodeAt(1) << 8) | name.charCodeAt(2),
);

/** `hh:mm:ss` at `at`, in a zone this many minutes east of UTC. */
function instant(midnight: number, bytes: Uint8Array, at: number, zoneMinutes: number): number {
  const minutes = pair(bytes, at) * 60 + pair(bytes, at + 3) - zoneMinutes;
  return midnight + minutes * 60_000 + pair(bytes, at + 6) * 1000;
}

function pair(bytes: Uint8Array, at: number): number {
  return bytes[at]! * 10 + bytes[at + 1]! - 528;
}
