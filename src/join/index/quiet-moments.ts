/** Moments kept: those of the last seconds, as lines may come late. */
const KEPT = 128;
/** Quiet moments are searched for this long after a line that could have used one (ms). */
const WANTED_MS = 2_000;

/**
 * All requests that began before `before` had ended and were logged at `after` (ms since the epoch), because every client
 * connection that was open at `before` was closed at `after`.
 */
export interface QuietMoment {
  before: number;
  after: number;
}

/** The times at which no earlier request of nginx was in progress; oldest first. */
export class QuietMoments {
  /** Earlier moments do not count, ms since the epoch: an answer was not seen, or its Service is not known. */
  validFrom = -Infinity;
  readonly counters = { moments: 0, refuted: 0 };
  #moments: QuietMoment[] = [];
  #wantedAt = -Infinity;

  add(moment: QuietMoment): void {
    this.counters.moments++;
    this.#moments.push(moment);
    if (this.#moments.length > KEPT) this.#moments.shift();
  }

  /** The youngest moment that is before a line with this time; undefined if there is none. */
  before(endMs: number): QuietMoment | undefined {
    for (let i = this.#moments.length - 1; i >= 0; i--) {
      const moment = this.#moments[i]!;
      if (moment.after <= endMs) return moment.before >= this.validFrom ? moment : undefined;
    }
    return undefined;
  }

  /** A line that was read at `readAt` would have been named after a quiet moment. */
  want(readAt: number): void {
    this.#wantedAt = readAt;
  }

  isWanted(now: number): boolean {
    return now - this.#wantedAt < WANTED_MS;
  }

  /**
   * A request that began before `began` was answered after `answered` (ms since the epoch). At a quiet moment in between nginx
   * was not done with it, though its client had gone, as with `mirror`: its line may come later than those of the moment.
   */
  refuteBetween(began: number, answered: number): void {
    for (let i = this.#moments.length - 1; i >= 0; i--) {
      const { before, after } = this.#moments[i]!;
      if (before < began) return;
      if (after < answered) {
        this.counters.refuted++;
        this.void(answered);
        return;
      }
    }
  }

  /** An answer before `t` was not seen, or its Service is not known: no earlier moment counts, for any Service. */
  void(t: number): void {
    this.validFrom = Math.max(this.validFrom, t);
  }

  /** The clock was set back to `t`. */
  onClockRollback(t: number): void {
    this.#moments = [];
    this.validFrom = t;
  }
}
