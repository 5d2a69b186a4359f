/** The lag is the maximum over the last one to two times this many lines. */
const LINES = 100;
/** How long nginx's clock is not trusted after it ran ahead (ms). */
const AHEAD_MS = 60_000;
/**
 * In a finished log the time of reading is not known: how long after its logged time a line may have been written (ms).
 * Covers `timer_resolution` up to a second.
 */
export const OFFLINE_LATE_MS = 1_000;

/**
 * How nginx's logged times relate to real time, learned from the times at which lines are read. nginx reads the clock of
 * `$msec` once per event-loop turn, or every `timer_resolution`, so `$msec` is never later than the real time; and a line
 * is read after it was written. So the real end of a request is between its `$msec` and the reading, and their distance
 * bounds the clock's lag. A line that is read before its `$msec` shows that nginx's clock runs ahead.
 */
export class LineClock {
  #lines = 0;
  #current = 0;
  #previous = Infinity;
  #mistrustedUntil = -Infinity;

  /** A line with the time `endMs` was read at `readAt`, both ms since the epoch. */
  observe(endMs: number, readAt: number): void {
    const lag = readAt - endMs;
    // `readAt` is rounded up to the next millisecond.
    if (lag < 0) this.#mistrustedUntil = Math.max(this.#mistrustedUntil, endMs + AHEAD_MS);
    this.#current = Math.max(this.#current, lag);
    if (++this.#lines < LINES) return;
    this.#previous = this.#current;
    this.#current = 0;
    this.#lines = 0;
  }

  /** Whether nginx's clock ran ahead of the node's within the last minute: then no logged time is a bound. */
  runsAhead(readAt: number): boolean {
    return readAt < this.#mistrustedUntil;
  }

  /** Upper bound of the lag of nginx's clock (ms); Infinity until enough lines were read. */
  get coarsenessMs(): number {
    return Math.max(this.#previous, this.#current);
  }
}
