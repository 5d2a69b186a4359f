/** The beginnings of nginx's event-loop turns, from logged times: at each, nginx checked its connections. */
import type { ParsedLine } from '../model/line.ts';

/** How far back turns are remembered (ms, one place each), and how far `before` looks. */
const REMEMBERED_TURNS = 1 << 17;
const LOOKED_MS = 1_000;

export class LoopIterations {
  readonly #seen = new Float64Array(REMEMBERED_TURNS);

  /** A request's beginning and its end are both times of turns, in whole milliseconds. */
  observe({ endMs, requestMs, endStepMs }: ParsedLine): void {
    if (endMs === undefined || endStepMs > 1) return;
    this.#add(endMs);
    if (requestMs !== undefined) this.#add(endMs - requestMs);
  }

  /** The last known turn that was certainly before one at `t` (ms since the epoch) or later; -Infinity if there is none. */
  before(t: number): number {
    const last = Math.floor(t) - 1;
    for (let ms = last; ms > last - LOOKED_MS; ms--) {
      if (this.#seen[ms % REMEMBERED_TURNS] === ms) return ms;
    }
    return -Infinity;
  }

  #add(t: number): void {
    const ms = Math.floor(t);
    if (ms > 0) this.#seen[ms % REMEMBERED_TURNS] = ms;
  }
}
