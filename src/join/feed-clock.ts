/** The bound is the minimum over the last one to two times this many watermarks. */
const WATERMARKS = 100;

/**
 * The offset of the helper's clock against this process's, which nginx shares. A watermark is read after the helper dated
 * it, so (time of reading − watermark) is at least the helper's lag. The minimum over recent watermarks is the bound: a
 * fraction of a millisecond on a common clock, more where a guest kernel has a clock of its own.
 */
export class FeedClock {
  #count = 0;
  #current = Infinity;
  #previous = Infinity;
  #watermark = -Infinity;

  /** The feed's watermark is `watermark` at `now`, both ms since the epoch. */
  observe(watermark: number, now: number): void {
    if (watermark === this.#watermark || watermark === -Infinity) return;
    this.#watermark = watermark;
    this.#current = Math.min(this.#current, now - watermark);
    if (++this.#count < WATERMARKS) return;
    this.#previous = this.#current;
    this.#current = Infinity;
    this.#count = 0;
  }

  /** The clock was set: earlier differences do not count. */
  reset(): void {
    this.#count = 0;
    this.#current = Infinity;
    this.#previous = Infinity;
  }

  /** The helper's clock is at most this far behind (ms): an event that nginx dates `t` can be this much earlier in the feed. */
  get behindMs(): number {
    const least = Math.min(this.#current, this.#previous);
    return least === Infinity ? 0 : Math.max(0, least);
  }

  /** The helper's clock is at least this far ahead (ms): an event before `t` can be this much later in the feed. */
  get aheadMs(): number {
    return Math.max(0, -Math.min(this.#current, this.#previous));
  }
}
