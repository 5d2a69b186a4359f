/** A power of two. */
const TEXT_SLOTS = 4096;
/** Longer texts are not cached; addresses and methods are shorter. */
const MAX_TEXT_LENGTH = 64;

/** The same string object for the same ASCII bytes, so it costs no allocation and maps need not hash it anew. */
export class TextCache {
  readonly #texts = new Array<string | undefined>(TEXT_SLOTS).fill(undefined);

  text(bytes: Buffer, start: number, end: number): string {
    if (end - start > MAX_TEXT_LENGTH) return bytes.toString('latin1', start, end);
    let hash = 0;
    for (let at = start; at < end; at++) hash = Math.imul(hash, 31) + bytes[at]!;
    const slot = (hash ^ (hash >>> 12)) & (TEXT_SLOTS - 1);
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
