/** How coarse nginx's clock is, as far as the durations it logs tell. */
import type { ParsedLine } from '../model/line.ts';

/** Durations remembered, and how many of them may be shorter than the clock's step by chance. */
const REMEMBERED_TIMES = 256;
const BY_CHANCE = 8;
/** nginx 1.13.10 to 1.21.3 took upstream times from CLOCK_MONOTONIC_COARSE, which moves by a jiffy: 10 ms at most. */
const COARSE_MS = 10;
/** Without enough durations, and at most (ms): what `timer_resolution` is set to at the extreme. */
const UNKNOWN_MS = 250;

/**
 * nginx reads its clock at the beginning of an event-loop turn, or, with `timer_resolution`, only that often. A clock that
 * moves in steps of a size logs no durations shorter than its step, other than 0. So the shortest ones that were logged
 * bound the step.
 */
export class ClockGrain {
  /** Upstream times that a coarse clock cannot have logged. */
  #fine = 0;
  readonly #durations = new Float64Array(REMEMBERED_TIMES);
  #count = 0;
  #grain = UNKNOWN_MS;
  #stale = false;

  observe(line: ParsedLine): void {
    this.#add(line.requestMs);
    for (const { connectMs, headerMs, responseMs } of line.attempts) {
      for (const duration of [connectMs, headerMs, responseMs]) {
        if (typeof duration !== 'number' || duration <= 0) continue;
        if (isFine(duration)) this.#fine++;
        // A clock that moves by a jiffy, and is read only now and then, logs less than the time between two readings.
        this.#add(duration + this.coarseMs);
      }
    }
  }

  /** How far an upstream time may be off beyond its last digit (ms). */
  get coarseMs(): number {
    return this.#fine > BY_CHANCE ? 0 : COARSE_MS;
  }

  /** How far a logged time may lie before the real one (ms). */
  get ms(): number {
    if (this.#stale) {
      this.#stale = false;
      const known = this.#durations.slice(0, Math.min(this.#count, REMEMBERED_TIMES)).sort();
      this.#grain = Math.min(UNKNOWN_MS, known[BY_CHANCE - 1] ?? UNKNOWN_MS);
    }
    return this.#grain;
  }

  #add(duration: number | undefined): void {
    if (duration === undefined || duration <= 0) return;
    this.#durations[this.#count++ % REMEMBERED_TIMES] = duration;
    this.#stale = true;
  }
}

/**
 * Whether a clock that moves by a jiffy cannot have given the duration (ms): with 100, 250 and 300 of them a second, its
 * durations are multiples of 10 and of 4, and multiples of 10/3 cut to 0, 3, 4, 6 or 7 after tens.
 */
function isFine(duration: number): boolean {
  return duration % 4 !== 0 && ![0, 3, 4, 6, 7].includes(duration % 10);
}
