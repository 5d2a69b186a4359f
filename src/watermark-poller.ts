/** How long a block waits before a watermark is requested (ms). */
const FIRST_REQUEST_MS = 1;
/** The same while the feed brings watermarks by itself more often than this (ms): a request costs both sides more than a batch. */
const BUSY_FEED_MS = 15;
/** Upper limit of the back-off between watermark requests (ms). */
const MAX_BACK_OFF_MS = 200;

export interface WatermarkPollerParts {
  /** Requests a watermark of this moment from the feed. */
  request(): void;
  /** Since when the oldest block waits for a watermark, ms since the epoch; undefined while none does. */
  waitingSince(): number | undefined;
  clock(): number;
}

/** Decides when to request a watermark: rarely where the feed brings them by itself, soon where a line waits for one. */
export class WatermarkPoller {
  readonly #parts: WatermarkPollerParts;
  #timer: NodeJS.Timeout | undefined;
  #backOff = FIRST_REQUEST_MS;
  #watermark = -Infinity;
  /** When the last two watermarks arrived without a request, ms since the epoch. */
  #lastUnrequested = -Infinity;
  #secondLastUnrequested = -Infinity;
  #requested = false;
  #ending = false;

  constructor(parts: WatermarkPollerParts) {
    this.#parts = parts;
  }

  /** The feed's watermark is `watermark` (ms since the epoch). */
  arrived(watermark: number): void {
    if (watermark === this.#watermark) return;
    this.#watermark = watermark;
    if (!this.#requested) {
      this.#secondLastUnrequested = this.#lastUnrequested;
      this.#lastUnrequested = this.#parts.clock();
    }
    this.#requested = false;
  }

  /** A block left: the back-off restarts for the next one. */
  resetBackOff(): void {
    this.#backOff = FIRST_REQUEST_MS;
  }

  /** The follower has ended: request watermarks for the last lines at once. */
  end(): void {
    this.#ending = true;
  }

  /** Call this whenever a block may have begun to wait. */
  schedule(): void {
    if (this.#timer !== undefined || this.#parts.waitingSince() === undefined) return;
    this.#timer = setTimeout(this.#poll, this.#patience());
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  readonly #poll = (): void => {
    this.#timer = undefined;
    const { waitingSince, clock, request } = this.#parts;
    const since = waitingSince();
    if (since === undefined) return;
    // The block that started the timer may have left, and the current one may be new.
    if (clock() - since >= this.#patience()) {
      this.#requested = true;
      request();
      this.#backOff = Math.min(this.#backOff * 2, MAX_BACK_OFF_MS);
    }
    this.schedule();
  };

  /** How long a block waits before a watermark is requested (ms). */
  #patience(): number {
    if (this.#ending) return FIRST_REQUEST_MS;
    const age = this.#parts.clock() - this.#secondLastUnrequested;
    return age < 2 * BUSY_FEED_MS ? Math.max(BUSY_FEED_MS, this.#backOff) : this.#backOff;
  }
}
