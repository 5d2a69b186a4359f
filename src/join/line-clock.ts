/** Lines from which the spread is learned; the spread is that of one to two times as many. */
const LINES = 100;
/** How long a clock that was seen to run ahead is not trusted (ms). */
const AHEAD_MS = 60_000;
/**
 * Where nobody says when a line was read (a finished log): how long after its logged time it may have been written (ms).
 * Covers `timer_resolution` up to a second.
 */
export const OFFLINE_LATE_MS = 1_000;

/**
 * How nginx's logged times relate to the real ones, learned from when lines are read. `$msec` comes from a clock that nginx
 * reads once an event-loop iteration, or every `timer_resolution`: it is never later than the real time, and a line is read
 * after it was written. So the real end of a request lies between its `$msec` and the reading. How far the two are apart says
 * how coarse the clock can be; a line that was read before its `$msec` says that nginx's clock runs ahead.
 */
export class LineClock {
  #lines = 0;
  #current = 0;
  #previous = Infinity;
  #mistrustedUntil = -Infinity;

  /** A line that nginx dates `endMs` was read at `readAt`, ms since the epoch both. */
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

  /** nginx's clock ran ahead of the node's within the last minute, so no logged time bounds anything. */
  runsAhead(readAt: number): boolean {
    return readAt < this.#mistrustedUntil;
  }

  /** Upper limit of what nginx's clock may lag behind (ms); Infinity until enough lines were read. */
  get coarsenessMs(): number {
    return Math.max(this.#previous, this.#current);
  }
}
