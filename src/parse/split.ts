import type { Escaping, FormatPiece } from './format-text.ts';
import { matchShape, separatorLength } from './match-shape.ts';
import { compileSteps, FIXED, LOOSE, type LoosePart, QUOTED, SHAPED, type Step } from './split-steps.ts';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** How many bytes may be tried in vain in a loose part: a multiple of its length and a constant. Keeps time linear. */
const TRIES_FACTOR = 8;
const TRIES_BYTES = 1024;

/**
 * Cuts lines of one format into the values of its variables.
 *
 * **Certain or nothing.** A client chooses parts of the line, and must not be able to shift text of its own into another
 * variable. So a value's span is given only if no other cut of the line fits the format:
 *
 * - With `escape=default` and `escape=json` no value holds a bare `"`, so the quotes of the line are those of the
 *   format, one by one, and what stands between two of them can be looked at alone.
 * - Values of a shape other than `text` end where their bytes do; that this agrees with what follows them is checked
 *   when the format is compiled.
 * - What is left is `text` that is not closed by a quote ("loose"). There, for what follows each such value, all
 *   places where it fits are looked for. One place: certain, as the true one is among them. More: not certain, and
 *   the spans that depend on it are withheld.
 *
 * With `escape=none` there are no sure quotes, and everything from the first text value on is such a loose part.
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
  /** Bytes that may still be tried in vain; below zero, the line is given up. */
  #tries = 0;

  /** Throws LogFormatError, see compileSteps. */
  constructor(pieces: readonly FormatPiece[], escaping: Escaping, needed: (variable: string) => boolean) {
    const { steps, variables } = compileSteps(pieces, escaping, needed);
    this.#steps = steps;
    this.#escaping = escaping;
    this.variables = variables;
    this.spans = new Int32Array(2 * variables.length);
  }

  /** Fills `spans` from the line `bytes[start, end)` (without its newline), or returns false if it does not fit the format. */
  split(bytes: Buffer, start: number, end: number): boolean {
    return this.#follow(this.#steps, bytes, start, end) === end;
  }

  /** Follows the steps from `start`; returns where they end, or -1 where they do not fit. */
  #follow(steps: readonly Step[], bytes: Buffer, start: number, end: number): number {
    const { spans } = this;
    let at = start;
    for (let i = 0; i < steps.length; i++) {
      const step = steps[i]!;
      const fixed = step.bytes;
      const from = at + fixed.length;
      if (from > end) return -1;
      for (let k = 0; k < fixed.length; k++) if (bytes[at + k] !== fixed[k]) return -1;
      const { op } = step;
      if (op === FIXED || op === LOOSE) {
        at = op === FIXED ? from : this.#loose(step.parts, bytes, from, end);
        if (at < 0) return -1;
        continue;
      }
      if (op === QUOTED) at = this.#quote(bytes, from, end);
      else {
        at = matchShape(step.shape, bytes, from, end);
        if (at < 0) return -1;
        this.#tries -= at - from;
        if (step.noColon && holdsColonSeparator(bytes, from, at)) {
          this.#tries = -1;
          return -1;
        }
      }
      spans[2 * step.variable] = from;
      spans[2 * step.variable + 1] = at;
    }
    return at;
  }

  /** Where the next bare double quote is, or `end`. */
  #quote(bytes: Buffer, from: number, end: number): number {
    // Most values are short, and for those a native search costs more than it saves.
    const near = Math.min(end, from + 6);
    for (let at = from; at < near; at++) {
      const byte = bytes[at];
      if (byte === QUOTE) return at;
      if (byte === BACKSLASH && this.#escaping === 'json') return jsonQuote(bytes, at, end);
    }
    const quote = near === end ? -1 : bytes.indexOf(QUOTE, near);
    if (quote < 0 || quote >= end) return end;
    return this.#escaping === 'json' && bytes[quote - 1] === BACKSLASH ? jsonQuote(bytes, from, end) : quote;
  }

  #loose(parts: readonly LoosePart[], bytes: Buffer, start: number, lineEnd: number): number {
    const { spans } = this;
    const end = this.#escaping === 'none' ? lineEnd : this.#quote(bytes, start, lineEnd);
    this.#tries = TRIES_FACTOR * (end - start) + TRIES_BYTES;
    const last = parts.length - 1;
    let at = start;
    let startCertain = true;
    for (let k = 0; k <= last; k++) {
      const part = parts[k]!;
      const must = k === last ? end : -1;
      const place = this.#place(part, bytes, at, end, must);
      if (place < 0) return -1;
      let certain = true;
      let after = must;
      if (must < 0 || !part.fixed) {
        certain = this.#place(part, bytes, place + 1, end, must) < 0;
        if (this.#tries < 0) return -1;
        // The search went on from the place that counts, and has overwritten its spans.
        after = this.#follow(part.after, bytes, place, end);
      }
      if (!certain) {
        for (const { op, variable } of part.after) if (op === SHAPED) spans[2 * variable] = -1;
      }
      spans[2 * part.variable] = startCertain && certain ? at : -1;
      spans[2 * part.variable + 1] = place;
      startCertain = certain;
      at = certain ? after : place + part.length;
    }
    return end;
  }

  /** The first place in `bytes[from, end)` where `part.after` fits and, where `must` is not -1, ends at `must`; or -1. */
  #place(part: LoosePart, bytes: Buffer, from: number, end: number, must: number): number {
    const until = end - part.length;
    let place = must >= 0 && part.fixed ? Math.max(from, until) : from;
    for (; place <= until; place++) {
      if (part.first >= 0 && bytes[place] !== part.first) continue;
      this.#tries--;
      const after = this.#follow(part.after, bytes, place, end);
      if (after >= 0 && (must < 0 || after === must)) return place;
      if (this.#tries < 0) return -1;
    }
    return -1;
  }
}

/** As `#quote`, where a backslash takes the byte after it with it. `from` is not behind a backslash. */
function jsonQuote(bytes: Uint8Array, from: number, end: number): number {
  for (let at = from; at < end; at++) {
    const byte = bytes[at];
    if (byte === QUOTE) return at;
    if (byte === BACKSLASH) at++;
  }
  return end;
}

function holdsColonSeparator(bytes: Uint8Array, from: number, to: number): boolean {
  for (let at = from; at < to; at++) if (separatorLength(bytes, at, to) === 3) return true;
  return false;
}
