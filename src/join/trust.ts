/** A line is settled after more than so many in a row, itself among them, that agree with the record. */
const LINES_TO_TRUST = 20;
/** How long a disagreement counts at least (ms). */
const DISTRUST_MS = 10_000;

/**
 * Whether what is seen of one Service can be evidence, learned from its lines. A line without its like on the wire shows
 * that something is not seen, and what is not seen can be taken for something else: then nothing is claimed until a row of
 * lines has found its like.
 */
export class Trust {
  #agreed: number;
  #distrustedUntil = Number.NEGATIVE_INFINITY;

  /** `initially`: trusted before the first line. */
  constructor(initially: boolean) {
    this.#agreed = initially ? Number.POSITIVE_INFINITY : 0;
  }

  /** A line that ended at `t` (ms since the epoch) has its like in the record, or has none. */
  seen(agrees: boolean, t: number): void {
    if (agrees) {
      this.#agreed++;
      return;
    }
    this.#agreed = 0;
    this.#distrustedUntil = Math.max(this.#distrustedUntil, t + DISTRUST_MS);
  }

  /** Whether a line whose request began at `begin` can be settled. */
  trusts(begin: number): boolean {
    return this.#agreed > LINES_TO_TRUST && begin > this.#distrustedUntil;
  }

  /** The clock was set back to `t`: a disagreement counts from then. */
  onClockRollback(t: number): void {
    if (this.#distrustedUntil > t) this.#distrustedUntil = t + DISTRUST_MS;
  }
}
