import type { Escaping, FormatPiece } from './format-text.ts';
import { matchShape } from './match-shape.ts';
import { RegionCutter } from './split-region.ts';
import { compileSteps, ENCLOSED, FIXED, REGION, type Step } from './split-steps.ts';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/**
 * Cuts lines of one format into the values of its variables.
 *
 * **Certain or nothing.** A client chooses parts of the line, and must not be able to shift text of its own into another
 * variable. So a value's span is given only if all cuts of the line that fit the format agree on it:
 *
 * - With `escape=default` and `escape=json` no value holds a bare `"`, a tab or another byte that nginx escapes. So these
 *   bytes of the line are those of the format, one by one, and what stands between two of them can be looked at alone.
 * - A value of a shape other than `text` ends where its bytes do, if what follows it cannot be part of it.
 * - What is left is a region: the values up to the next such byte, or up to the end of the line. RegionCutter finds all
 *   cuts of it.
 *
 * With `escape=none` nothing is escaped, and everything from the first text value on is one region.
 */
export class Splitter {
  /** Names in order of appearance. */
  readonly variables: readonly string[];
  /**
   * Start and end of each variable's value in the bytes given to `split`, two numbers a variable; the start is -1 where
   * it is not certain. Overwritten by the next call.
   */
  readonly spans: Int32Array;
  readonly #steps: readonly Step[];
  readonly #escaping: Escaping;
  readonly #regions: RegionCutter;

  /** Throws LogFormatError, see compileSteps. */
  constructor(pieces: readonly FormatPiece[], escaping: Escaping, needed: (variable: string) => boolean) {
    const { steps, variables } = compileSteps(pieces, escaping, needed);
    this.#steps = steps;
    this.#escaping = escaping;
    this.#regions = new RegionCutter(Math.max(0, ...steps.map(({ parts }) => parts.length)));
    this.variables = variables;
    this.spans = new Int32Array(2 * variables.length);
  }

  /** Fills `spans` from the line `bytes[start, end)` (without its newline), or returns false if it does not fit the format. */
  split(bytes: Buffer, start: number, end: number): boolean {
    const { spans } = this;
    const steps = this.#steps;
    let at = start;
    for (let i = 0; i < steps.length; i++) {
      const step = steps[i]!;
      const fixed = step.bytes;
      const from = at + fixed.length;
      if (from > end) return false;
      for (let k = 0; k < fixed.length; k++) if (bytes[at + k] !== fixed[k]) return false;
      const { op } = step;
      if (op === FIXED) {
        at = from;
        continue;
      }
      if (op === REGION) {
        at = step.anchor < 0 ? end : this.#anchor(step.anchor, bytes, from, end);
        if (!this.#regions.cut(step.parts, bytes, from, at, spans)) return false;
        continue;
      }
      at =
        op === ENCLOSED
          ? this.#anchor(step.anchor, bytes, from, end)
          : matchShape(step.shape, bytes, from, end);
      if (at < 0) return false;
      spans[2 * step.variable] = from;
      spans[2 * step.variable + 1] = at;
    }
    return at === end;
  }

  /** Where the next anchor is, for a quote the next bare one; or `end`. */
  #anchor(anchor: number, bytes: Buffer, from: number, end: number): number {
    // Most values are short, and for those a native search costs more than it saves.
    const escapes = anchor === QUOTE && this.#escaping === 'json';
    const near = Math.min(end, from + 6);
    for (let at = from; at < near; at++) {
      const byte = bytes[at];
      if (byte === anchor) return at;
      if (byte === BACKSLASH && escapes) return jsonQuote(bytes, at, end);
    }
    const found = near === end ? -1 : bytes.indexOf(anchor, near);
    if (found < 0 || found >= end) return end;
    return escapes && bytes[found - 1] === BACKSLASH ? jsonQuote(bytes, from, end) : found;
  }
}

/** The next bare quote, or `end`. A backslash takes the byte after it with it. `from` is not behind a backslash. */
function jsonQuote(bytes: Uint8Array, from: number, end: number): number {
  for (let at = from; at < end; at++) {
    const byte = bytes[at];
    if (byte === QUOTE) return at;
    if (byte === BACKSLASH) at++;
  }
  return end;
}
