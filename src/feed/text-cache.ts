/** A power of two. */
const SLOTS = 4096;
/** Longer texts are not kept; addresses and methods are shorter. */
const MAX_LENGTH = 64;

/** Gives the same string for the same ASCII bytes: no new one to make, and its hash is known to the maps that are asked. */
export class TextCache {
  readonly #texts = new Array<string | undefined>(SLOTS).fill(undefined);

  text(bytes: Buffer, start: number, end: number): string {
    if (end - start > MAX_LENGTH) return bytes.toString('latin1', start, end);
    let hash = 0;
    for (let at = start; at < end; at++) hash = Math.imul(hash, 31) + bytes[at]!;
    const slot = (hash ^ (hash >>> 12)) & (SLOTS - 1);
    const known = this.#texts[slot];
    if (known !== undefined && same(known, bytes, start, end)) return known;
    const text = bytes.toString('latin1', start, end);
    this.#texts[slot] = text;
    return text;
  }
}

function same(text: string, bytes: Buffer, start: number, end: number): boolean {
  if (text.length !== end - start) return false;
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) !== bytes[start + i]) return false;
  return true;
}
