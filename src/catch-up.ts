export interface CatchUpParts {
  /** Looks at the log now. */
  lookNow(): void;
  /** Requests a watermark of this moment from the feed. */
  requestTick(): void;
  clock(): number;
}

/** Answers about this moment: they wait for what has been gathered and not been read. */
export class CatchUp {
  readonly #parts: CatchUpParts;
  /** Since when each waits, ms since the epoch. The HTTP server bounds their number. */
  readonly #waiting = new Map<() => void, number>();

  constructor(parts: CatchUpParts) {
    this.#parts = parts;
  }

  /** Resolves when all lines and records up to now were read and joined, or after `atMostMs`. */
  wait(atMostMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, atMostMs);
      this.#waiting.set(done, this.#parts.clock());
      this.#parts.lookNow();
      this.#parts.requestTick();
    });
  }

  /** The feed was read up to `watermark`, and no line waits that was read before `lineSince` (both ms since the epoch). */
  arrived(watermark: number, lineSince = Infinity): void {
    for (const [done, since] of this.#waiting) if (since <= watermark && since < lineSince) done();
  }
}
