import type { Source } from '../model/feed.ts';

/** Gaps for each source. At the limit the oldest two become one that also covers the time between them. */
const MAX_GAPS = 256;

/** A record that begins anew up to this much before the watermark does not mean that the clock was set back (ms). */
const SET_BACK_MS = 50;
/**
 * Length of the gap after the clock was set back (ms): for requests that ran at that moment nginx logs a duration of 0.
 */
const SET_BACK_PAUSE_MS = 1_000;

interface Gap {
  from: number;
  to: number;
}

/** The times over which each source's record is complete. A source without a gap record is complete nowhere. */
export class Coverage {
  readonly #gaps = new Map<Source, Gap[]>();
  /** Sources that a later helper does not have, and until when (ms since the epoch) the earlier one's record goes. */
  readonly #ended = new Map<Source, number>();
  /** The packets that open connections are read: one that carries data and whose opening is not known is a gap of the tap. */
  tapTellsOpenings = false;
  /** Everything up to here has arrived (ms since the epoch). */
  watermark = -Infinity;
  /** Times up to here have occurred twice, as the clock was set back; -Infinity if it never was. */
  repeatedUntil = -Infinity;

  /** Whether the helper of now has the source. */
  has(source: Source): boolean {
    return this.#gaps.has(source) && !this.#ended.has(source);
  }

  /** The kernel log is the only source of connections. */
  get hasOnlyLogRecords(): boolean {
    return !this.has('conntrack') && this.has('kernel-log');
  }

  sources(): Source[] {
    return [...this.#gaps.keys()].filter((source) => !this.#ended.has(source));
  }

  /** The helper of now has these sources and no others: from the watermark on nothing is known of those before. */
  endAllBut(sources: ReadonlySet<Source>): void {
    this.tapTellsOpenings = false;
    for (const source of this.sources()) if (!sources.has(source)) this.#ended.set(source, this.watermark);
  }

  /**
   * `from` undefined: the record begins anew at `to`; if the source had a record before, the gap begins at the watermark.
   */
  addGap(source: Source, from: number | undefined, to: number): void {
    const gaps = this.#gaps.get(source);
    if (!gaps) {
      this.#gaps.set(source, [{ from: -Infinity, to }]);
      return;
    }
    const begin = from ?? Math.min(this.watermark, this.#ended.get(source) ?? Infinity);
    if (from === undefined) this.#ended.delete(source);
    if (begin >= to) return;
    const last = gaps[gaps.length - 1];
    if (last && begin <= last.to) {
      last.from = Math.min(last.from, begin);
      last.to = Math.max(last.to, to);
      return;
    }
    gaps.push({ from: begin, to });
    if (gaps.length > MAX_GAPS) {
      const [first, second] = gaps.splice(0, 2);
      gaps.unshift({ from: first!.from, to: second!.to });
    }
  }

  /** Whether a record that begins anew at `t` means that the clock was set back. */
  isClockRollback(t: number): boolean {
    return t < this.watermark - SET_BACK_MS;
  }

  /** The clock was set back to `t`: no earlier time counts as complete. */
  onClockRollback(t: number): void {
    this.repeatedUntil = Math.max(this.repeatedUntil, this.watermark);
    this.watermark = t;
    for (const source of this.#gaps.keys())
      this.#gaps.set(source, [{ from: -Infinity, to: t + SET_BACK_PAUSE_MS }]);
  }

  /** Whether the source missed nothing between the two times, and everything of them has arrived. */
  isComplete(source: Source, from: number, to: number): boolean {
    const gaps = this.#gaps.get(source);
    if (!gaps || to > this.watermark || to > (this.#ended.get(source) ?? Infinity)) return false;
    for (let i = gaps.length - 1; i >= 0; i--) {
      const gap = gaps[i]!;
      if (gap.to >= from && gap.from <= to) return false;
    }
    return true;
  }

  /** Up to when the source was last incomplete, ms since the epoch; Infinity for one that was never heard of. */
  lastGapEnd(source: Source): number {
    return this.#gaps.get(source)?.at(-1)?.to ?? Infinity;
  }

  gaps(source: Source): readonly { from: number; to: number }[] {
    return this.#gaps.get(source) ?? [];
  }
}
