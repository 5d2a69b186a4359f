import type { Shape } from './log-variable.ts';
import { ShapeEnds } from './shape-ends.ts';

/** How many bytes may be looked at for each byte of a region, and besides. Beyond it the line is given up. */
const WORK_FACTOR = 32;
const WORK_BYTES = 4096;

/** A value, and the fixed text behind it. */
export interface RegionPart {
  readonly variable: number;
  readonly shape: Shape;
  /** May be empty for the last part only. */
  readonly fixed: Uint8Array;
}

/**
 * Cuts a stretch of a line in which values can hold what follows them.
 *
 * Forward: for each part, all positions where its value can begin. Backward: of these, the positions from which the rest
 * of the region fits, too. So what is left belongs to a cut of the whole region, and a value is certain where all cuts
 * agree on it. Work is bounded by the length of the region, not by the number of cuts.
 */
export class RegionCutter {
  /** Positions of all parts, those of part k at `[#offsets[k], #offsets[k + 1])`, ascending. */
  #positions = new Int32Array(256);
  readonly #offsets: Int32Array;
  /** How many positions of each part are left after the backward pass; they stand first. */
  readonly #kept: Int32Array;
  readonly #ends = new ShapeEnds();
  #work = 0;
  #count = 0;

  /** `parts`: of the longest region. */
  constructor(parts: number) {
    this.#offsets = new Int32Array(parts + 2);
    this.#kept = new Int32Array(parts + 2);
  }

  /**
   * Writes start and end of each value of `bytes[start, end)` into `spans`, the start -1 where the cuts differ. False: no
   * cut fits, or it would take too long to look.
   */
  cut(
    parts: readonly RegionPart[],
    bytes: Uint8Array,
    start: number,
    end: number,
    spans: Int32Array,
  ): boolean {
    this.#work = WORK_FACTOR * (end - start) + WORK_BYTES;
    if (!this.#forward(parts, bytes, start, end) || !this.#backward(parts, bytes, end)) return false;
    const positions = this.#positions;
    for (let k = 0; k < parts.length; k++) {
      const { variable, fixed } = parts[k]!;
      const certain = this.#kept[k] === 1 && this.#kept[k + 1] === 1;
      spans[2 * variable] = certain ? positions[this.#offsets[k]!]! : -1;
      spans[2 * variable + 1] = positions[this.#offsets[k + 1]!]! - fixed.length;
    }
    return true;
  }

  #forward(parts: readonly RegionPart[], bytes: Uint8Array, start: number, end: number): boolean {
    const offsets = this.#offsets;
    const last = parts.length - 1;
    this.#count = 0;
    this.#add(start, 0);
    offsets[0] = 0;
    for (let k = 0; k <= last; k++) {
      const part = parts[k]!;
      const from = offsets[k]!;
      const to = this.#count;
      offsets[k + 1] = to;
      if (part.shape === 'text') this.#text(part.fixed, bytes, this.#positions[from]!, end, k === last, to);
      else {
        for (let i = from; i < to; i++) {
          const ends = this.#ends.find(part.shape, part.fixed, bytes, this.#positions[i]!, end);
          this.#work -= this.#ends.looked;
          for (let e = 0; e < ends; e++) {
            const next = this.#ends.found[e]! + part.fixed.length;
            if (k < last || next === end) this.#add(next, to);
          }
          if (this.#work < 0) return false;
        }
      }
      if (this.#count === to || this.#work < 0) return false;
    }
    offsets[last + 2] = this.#count;
    return true;
  }

  /** Text can go on up to every place where what follows it stands. */
  #text(fixed: Uint8Array, bytes: Uint8Array, from: number, end: number, last: boolean, floor: number): void {
    const until = end - fixed.length;
    this.#work -= Math.max(0, until - from);
    const first = fixed[0];
    for (let at = last ? Math.max(from, until) : from; at <= until; at++) {
      if (first !== undefined && bytes[at] !== first) continue;
      if (isAt(fixed, bytes, at)) this.#add(at + fixed.length, floor);
    }
  }

  #backward(parts: readonly RegionPart[], bytes: Uint8Array, end: number): boolean {
    const offsets = this.#offsets;
    const kept = this.#kept;
    const positions = this.#positions;
    kept[parts.length] = 1;
    for (let k = parts.length - 1; k >= 0; k--) {
      const { shape, fixed } = parts[k]!;
      const from = offsets[k]!;
      const to = offsets[k + 1]!;
      const next = to;
      const nextKept = kept[k + 1]!;
      // All that was found came from the only one.
      if (to - from === 1) {
        kept[k] = 1;
        continue;
      }
      let count = 0;
      const latest = positions[next + nextKept - 1]! - fixed.length;
      for (let i = from; i < to; i++) {
        const at = positions[i]!;
        if (at > latest) break;
        if (shape === 'text' || this.#leads(parts[k]!, bytes, at, end, next, nextKept)) {
          positions[from + count++] = at;
        }
        if (this.#work < 0) return false;
      }
      kept[k] = count;
    }
    return true;
  }

  /** Whether a value that begins at `at` can end before one of the positions that are left of the next part. */
  #leads(
    { shape, fixed }: RegionPart,
    bytes: Uint8Array,
    at: number,
    end: number,
    next: number,
    nextKept: number,
  ): boolean {
    const ends = this.#ends.find(shape, fixed, bytes, at, end);
    this.#work -= this.#ends.looked;
    for (let e = 0; e < ends; e++) {
      const wanted = this.#ends.found[e]! + fixed.length;
      this.#work -= nextKept;
      for (let i = next; i < next + nextKept; i++) if (this.#positions[i] === wanted) return true;
    }
    return false;
  }

  /** Adds a position to those from `floor` on, which stay ascending and each once. */
  #add(position: number, floor: number): void {
    if (this.#count === this.#positions.length) {
      const wider = new Int32Array(2 * this.#count);
      wider.set(this.#positions);
      this.#positions = wider;
    }
    const positions = this.#positions;
    let at = this.#count;
    while (at > floor && positions[at - 1]! > position) at--;
    this.#work -= this.#count - at + 1;
    if (at > floor && positions[at - 1] === position) return;
    if (at < this.#count) positions.copyWithin(at + 1, at, this.#count);
    positions[at] = position;
    this.#count++;
  }
}

function isAt(fixed: Uint8Array, bytes: Uint8Array, at: number): boolean {
  for (let k = 1; k < fixed.length; k++) if (bytes[at + k] !== fixed[k]) return false;
  return true;
}
