/** Moments that are kept: those of the last seconds, as lines may come late. */
const KEPT = 128;
/** For how long after a line that could have used a quiet moment more of them are looked for (ms). */
const WANTED_MS = 2_000;

/**
 * All requests that began before `before` were over at `after` (ms since the epoch), their lines written: every client
 * connection that was open at `before` was closed at `after`.
 */
export interface QuietMoment {
  before: number;
  after: number;
}

/** When nginx was seen to have no request left of an earlier time; oldest first. */
export class QuietMoments {
  /** Moments before this are void, ms since the epoch: answers of later times went unseen, or to no known Service. */
  validFrom = -Infinity;
  readonly counters = { moments: 0 };
  #moments: QuietMoment[] = [];
  #wantedAt = -Infinity;

  add(moment: QuietMoment): void {
    this.counters.moments++;
    this.#moments.push(moment);
    if (this.#moments.length > KEPT) this.#moments.shift();
  }

  /** The youngest that was over when a line with this time was written; undefined where there is none. */
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

  /** An answer before `t` was not seen, or its Service is not known: what is known of all Services begins anew. */
  void(t: number): void {
    this.validFrom = Math.max(this.validFrom, t);
  }

  /** The clock was set back to `t`. */
  onClockRollback(t: number): void {
    this.#moments = [];
    this.validFrom = t;
  }
}
