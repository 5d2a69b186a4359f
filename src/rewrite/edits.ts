const SHORT = 64;

/** Replacements of byte spans in one block, from left to right. Reused from block to block. */
export class Edits {
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];
  readonly #texts: string[] = [];
  #count = 0;
  /** By how many bytes texts are longer than their spans, without those that are shorter. */
  #longer = 0;

  get count(): number {
    return this.#count;
  }

  /** Replaces `[start, end)`, behind all spans added before, by `text` (one character a byte). */
  add(start: number, end: number, text: string): void {
    const at = this.#count++;
    this.#starts[at] = start;
    this.#ends[at] = end;
    this.#texts[at] = text;
    this.#longer += Math.max(0, text.length - (end - start));
  }

  /** As `add`, but the span may be before others; it overlaps none. */
  insert(start: number, end: number, text: string): void {
    this.add(start, end, text);
    for (let at = this.#count - 1; at > 0 && this.#starts[at - 1]! > start; at--) {
      this.#starts[at] = this.#starts[at - 1]!;
      this.#ends[at] = this.#ends[at - 1]!;
      this.#texts[at] = this.#texts[at - 1]!;
      this.#starts[at - 1] = start;
      this.#ends[at - 1] = end;
      this.#texts[at - 1] = text;
    }
  }

  clear(): void {
    this.#count = 0;
    this.#longer = 0;
  }

  /** The bytes `[from, to)` of `block` with the edits; a view of `block` if there are none. */
  apply(block: Buffer, from: number, to: number): Buffer {
    if (this.#count === 0) return block.subarray(from, to);
    // A copy from another buffer makes an object for each piece. So there is one, behind the room that the longer texts need:
    // what then moves to its place overwrites nothing that is still to be moved.
    const out = Buffer.allocUnsafe(this.#longer + to - from);
    block.copy(out, this.#longer, from, to);
    const shift = this.#longer - from;
    let read = from;
    let written = 0;
    for (let k = 0; k < this.#count; k++) {
      const start = this.#starts[k]!;
      const text = this.#texts[k]!;
      out.copyWithin(written, read + shift, start + shift);
      written += start - read;
      // For texts as short as an address, a loop is faster than a native call.
      if (text.length > SHORT) written += out.write(text, written, 'latin1');
      else for (let c = 0; c < text.length; c++) out[written++] = text.charCodeAt(c);
      read = this.#ends[k]!;
    }
    out.copyWithin(written, read + shift, to + shift);
    return out.subarray(0, written + to - read);
  }
}
