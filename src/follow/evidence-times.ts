/** How long before the moment up to which the next evidence is complete the log is read (ms): timers are late on a busy machine. */
const MARGIN_MS = 8;
/** The same in short batches, as a share of one. */
const MARGIN_SHARE = 0.2;

/**
 * When to look at the log where lines and evidence come in batches: shortly before the moment up to which the next evidence
 * will be complete. Lines that are read after it wait for the evidence after that. All times are monotonic, in ms.
 */
export class EvidenceTimes {
  readonly #batchMs: number;
  readonly #marginMs: number;
  /** Up to when the last evidence is complete. */
  #last = Number.NEGATIVE_INFINITY;
  #nextLook = Number.NEGATIVE_INFINITY;

  /** `batchMs`: the time from one batch to the next, at most. */
  constructor(batchMs: number) {
    this.#batchMs = batchMs;
    this.#marginMs = Math.min(MARGIN_MS, MARGIN_SHARE * batchMs);
  }

  /** Evidence came that is complete up to `lagMs` ago. */
  came(now: number, lagMs: number): void {
    const upTo = now - Math.min(this.#batchMs, Math.max(0, lagMs));
    // Readings can come more often than batches are long.
    const interval = upTo > this.#last ? Math.min(this.#batchMs, upTo - this.#last) : this.#batchMs;
    this.#nextLook = upTo + interval - this.#marginMs;
    this.#last = upTo;
  }

  /** When to look again after a look at `lastLook`: for the next evidence, or, where none is expected, a batch later. May be in the past. */
  nextLook(lastLook: number): number {
    return lastLook < this.#nextLook ? this.#nextLook : lastLook + this.#batchMs;
  }
}
