import type { Source } from '../record/feed.ts';

/** Gaps remembered for each source. At the limit the oldest two become one, which hides more, never less. */
const MAX_GAPS = 256;

interface Gap {
  from: number;
  to: number;
}

/** Over which times each source's record is whole. A source that was never heard of is whole nowhere. */
export class Coverage {
  readonly #gaps = new Map<Source, Gap[]>();
  /** Everything up to here has arrived (ms since the epoch). */
  watermark = -Infinity;

  has(source: Source): boolean {
    return this.#gaps.has(source);
  }

  sources(): Source[] {
    return [...this.#gaps.keys()];
  }

  /** `from` undefined: since ever, which for a source heard before means since the watermark. */
  addGap(source: Source, from: number | undefined, to: number): void {
    const gaps = this.#gaps.get(source);
    if (!gaps) {
      this.#gaps.set(source, [{ from: -Infinity, to }]);
      return;
    }
    const begin = from ?? this.watermark;
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

  /** Whether the source missed nothing between the two times, and everything of them has arrived. */
  whole(source: Source, from: number, to: number): boolean {
    const gaps = this.#gaps.get(source);
    if (!gaps || to > this.watermark) return false;
    for (let i = gaps.length - 1; i >= 0; i--) {
      const gap = gaps[i]!;
      if (gap.to >= from && gap.from <= to) return false;
    }
    return true;
  }

  gaps(source: Source): readonly { from: number; to: number }[] {
    return this.#gaps.get(source) ?? [];
  }
}
