/**
 * HalfSipHash-1-3 (J.-P. Aumasson, D. J. Bernstein) of a text, with 32 bits of result. Clients choose ids: without knowing
 * the key nobody can choose many with one hash.
 */
export class IdHash {
  readonly #key0: number;
  readonly #key1: number;

  /** `key`: two secret words of 32 bits. */
  constructor([key0, key1]: readonly [number, number]) {
    this.#key0 = key0 | 0;
    this.#key1 = key1 | 0;
  }

  /** A signed number of 32 bits. */
  of(text: string): number {
    const { length } = text;
    let a = this.#key0;
    let b = this.#key1;
    let c = a ^ 0x6c796765;
    let d = b ^ 0x74656462;
    // The last word has the length, so that no text begins another.
    for (let at = 0, last = false; !last; at += 4) {
      last = at >= length;
      let word = length;
      if (!last) {
        const c0 = text.charCodeAt(at);
        const c1 = at + 1 < length ? text.charCodeAt(at + 1) : 0;
        const c2 = at + 2 < length ? text.charCodeAt(at + 2) : 0;
        const c3 = at + 3 < length ? text.charCodeAt(at + 3) : 0;
        if ((c0 | c1 | c2 | c3) > 0xff) return this.#ofBytes(text);
        word = c0 | (c1 << 8) | (c2 << 16) | (c3 << 24);
      }
      d ^= word;
      a = (a + b) | 0;
      b = ((b << 5) | (b >>> 27)) ^ a;
      a = (a << 16) | (a >>> 16);
      c = (c + d) | 0;
      d = ((d << 8) | (d >>> 24)) ^ c;
      a = (a + d) | 0;
      d = ((d << 7) | (d >>> 25)) ^ a;
      c = (c + b) | 0;
      b = ((b << 13) | (b >>> 19)) ^ c;
      c = (c << 16) | (c >>> 16);
      a ^= word;
    }
    c ^= 0xff;
    for (let round = 0; round < 3; round++) {
      a = (a + b) | 0;
      b = ((b << 5) | (b >>> 27)) ^ a;
      a = (a << 16) | (a >>> 16);
      c = (c + d) | 0;
      d = ((d << 8) | (d >>> 24)) ^ c;
      a = (a + d) | 0;
      d = ((d << 7) | (d >>> 25)) ^ a;
      c = (c + b) | 0;
      b = ((b << 13) | (b >>> 19)) ^ c;
      c = (c << 16) | (c >>> 16);
    }
    return b ^ d;
  }

  /** Of a text with characters of more than a byte, by the bytes of its code units. */
  #ofBytes(text: string): number {
    return this.of(Buffer.from(text, 'utf16le').toString('latin1'));
  }
}
