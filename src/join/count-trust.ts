/** Lines in a row that must agree with the wire before counts are evidence, and how long a disagreement lasts (ms). */
const LINES_TO_TRUST = 20;
const DISTRUST_MS = 10_000;

/**
 * Whether one Service's lines have the counts of the wire. With TLS they have not, and where backends answer uploads early
 * they have not always. A request that is not among those seen could be taken for another of its size, so nothing is
 * named unless every line of late has found its like.
 */
export class CountTrust {
  #clean = 0;
  #distrustedUntil = Number.NEGATIVE_INFINITY;

  /** `t`: the end of the line, ms since the epoch. */
  seen(agreed: boolean, t: number): void {
    if (agreed) {
      this.#clean++;
    } else {
      this.#clean = 0;
      this.#distrustedUntil = Math.max(this.#distrustedUntil, t + DISTRUST_MS);
    }
  }

  trusts(begin: number): boolean {
    return this.#clean > LINES_TO_TRUST && begin > this.#distrustedUntil;
  }
}
