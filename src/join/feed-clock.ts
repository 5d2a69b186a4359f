/** Watermarks from which the difference is learned; the bound is that of one to two times as many. */
const WATERMARKS = 100;

/**
 * How the clock of the helper relates to this process's, which nginx shares. A watermark is read after the helper dated it,
 * so (time of reading − watermark) is never less than how far the helper's clock is behind. The least of late is the bound:
 * a fraction of a millisecond on a common clock, and as much more as a guest kernel's clock is apart.
 */
export class FeedClock {
  #count = 0;
  #current = Infinity;
  #previous = Infinity;
  #watermark = -Infinity;

  /** The feed's watermark is `watermark` at `now`, ms since the epoch both. */
  observe(watermark: number, now: number): void {
    if (watermark === this.#watermark || watermark === -Infinity) return;
    this.#watermark = watermark;
    this.#current = Math.min(this.#current, now - watermark);
    if (++this.#count < WATERMARKS) return;
    this.#previous = this.#current;
    this.#current = Infinity;
    this.#count = 0;
  }

  /** The clock was set: what was learned does not hold. */
  reset(): void {
    this.#count = 0;
    this.#current = Infinity;
    this.#previous = Infinity;
  }

  /** The helper's clock is at most this far behind (ms): what nginx dates `t` may bear a time so much earlier in the feed. */
  get behindMs(): number {
    const least = Math.min(this.#current, this.#previous);
    return least === Infinity ? 0 : Math.max(0, least);
  }

  /** The helper's clock is at least this far ahead (ms): what came before `t` may bear a time so much later in the feed. */
  get aheadMs(): number {
    return Math.max(0, -Math.min(this.#current, this.#previous));
  }
}
