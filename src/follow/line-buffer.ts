/** Limits in bytes. `maxLine`: a longer line is returned in pieces. `read`: the size of one read at most. */
export interface LineLimits {
  maxLine: number;
  read: number;
}

/**
 * Cuts what is read into whole lines, at \n only. Reads go into a slab; blocks are views of it, so a small read
 * costs no allocation and a byte is copied only when an unfinished line moves to the next slab.
 */
export class LineBuffer {
  #slab: Buffer | undefined;
  /** The slab's bytes in [start, used) have not been taken; those before `scanned` contain no newline. */
  #start = 0;
  #used = 0;
  #scanned = 0;
  #insideOversized: boolean;
  /** The last block was a piece of a line whose rest has not been read. */
  #pieceOpen: boolean;
  readonly #limits: LineLimits;

  /**
   * `midLine`: the first bytes are the rest of a line that began before the read position. `pieceOpen`: its beginning was returned as a piece.
   */
  constructor(limits: LineLimits, midLine = false, pieceOpen = false) {
    this.#limits = limits;
    this.#insideOversized = midLine;
    this.#pieceOpen = pieceOpen;
  }

  /** Bytes of the last line while it has no newline. */
  get pending(): number {
    return this.#used - this.#start;
  }

  get pieceOpen(): boolean {
    return this.#pieceOpen;
  }

  /** Whether the last line lacks its newline. */
  get unfinished(): boolean {
    return this.pending > 0 || this.#pieceOpen;
  }

  /** The free end of the slab, for the next read. Call `filled` after it. */
  room(): Buffer {
    const { read } = this.#limits;
    // With less than an eighth free, reads would be small: a new slab costs less.
    if (this.#slab === undefined || this.#slab.length - this.#used < read / 8) {
      const pending = this.pending;
      const slab = Buffer.allocUnsafeSlow(Math.max(read, 2 * pending));
      if (this.#slab) this.#slab.copy(slab, 0, this.#start, this.#used);
      this.#slab = slab;
      this.#scanned -= this.#start;
      this.#start = 0;
      this.#used = pending;
    }
    return this.#slab.subarray(this.#used, Math.min(this.#slab.length, this.#used + read));
  }

  filled(bytes: number): void {
    this.#used += bytes;
  }

  /** The whole lines in the buffer, or a piece of a line longer than the limit; undefined if there is neither. */
  take(): { bytes: Buffer; oversized: boolean } | undefined {
    const slab = this.#slab;
    if (!slab || this.#scanned === this.#used) return undefined;
    const fresh = slab.subarray(this.#scanned, this.#used);
    if (this.#insideOversized) {
      const newline = fresh.indexOf(0x0a);
      this.#insideOversized = newline < 0;
      this.#pieceOpen = newline < 0;
      return { bytes: this.#cut(newline < 0 ? this.#used : this.#scanned + newline + 1), oversized: true };
    }
    const newline = fresh.lastIndexOf(0x0a);
    if (newline >= 0) return { bytes: this.#cut(this.#scanned + newline + 1), oversized: false };
    this.#scanned = this.#used;
    if (this.pending < this.#limits.maxLine) return undefined;
    this.#insideOversized = true;
    this.#pieceOpen = true;
    return { bytes: this.#cut(this.#used), oversized: true };
  }

  /** The unfinished line with a newline added, for a file that ends without one. */
  finish(): Buffer {
    const line = Buffer.concat([this.#slab?.subarray(this.#start, this.#used) ?? Buffer.alloc(0), NEWLINE]);
    this.drop();
    this.#pieceOpen = false;
    return line;
  }

  /** Drops the unfinished line. The result of `room` stays valid. */
  forget(): void {
    this.#start = this.#used;
    this.#scanned = this.#used;
  }

  /** Drops the unfinished line and the slab. */
  drop(): void {
    this.#slab = undefined;
    this.#start = 0;
    this.#used = 0;
    this.#scanned = 0;
  }

  #cut(end: number): Buffer {
    const bytes = this.#slab!.subarray(this.#start, end);
    this.#start = end;
    this.#scanned = end;
    return bytes;
  }
}

const NEWLINE = Buffer.from('\n');
