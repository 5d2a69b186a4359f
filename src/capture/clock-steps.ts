export interface Clock {
  /** Ms since the epoch. */
  wall(): number;
  /** Ms since any fixed moment, never set. */
  monotonic(): number;
}

/** A larger difference between wall and monotonic clock between two checks is a step (ms). */
const STEP_AT_LEAST_MS = 100;
/** If reading both clocks takes longer than this (ms), it was interrupted and is repeated. */
const INTERRUPTED_MS = 5;
const MAX_TRIES = 3;

/** Detects steps of the wall clock. Times before and after a step cannot be compared. */
export class ClockSteps {
  readonly #clock: Clock;
  /** Wall clock minus monotonic clock at the last check (ms). */
  #offset: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#offset = clock.wall() - clock.monotonic();
  }

  /** The step of the clock since the last check (ms), and its present time; undefined without a step. */
  check(): { stepMs: number; wall: number } | undefined {
    const { wall, offset } = this.#compare();
    const stepMs = offset - this.#offset;
    this.#offset = offset;
    return Math.abs(stepMs) > STEP_AT_LEAST_MS ? { stepMs, wall } : undefined;
  }

  /** Corrections of the machine's frequency apply to both clocks, so their difference changes only if one of them is set. */
  #compare(): { wall: number; offset: number } {
    const { wall, monotonic } = this.#clock;
    for (let tries = 1; ; tries++) {
      const before = monotonic();
      const now = wall();
      if (monotonic() - before < INTERRUPTED_MS || tries === MAX_TRIES)
        return { wall: now, offset: now - before };
    }
  }
}
