/** How long a block waits before a watermark is requested, in batches: the feed brings one after each by itself. */
const PATIENCE = 1.5;
/** The same where the feed does not gather (ms): a request costs both sides more than a batch. */
const LEAST_PATIENCE_MS = 15;
/** The last lines of a process do not wait (ms). */
const ENDING_MS = 1;
/** Upper limit of the back-off between watermark requests (ms). */
const MAX_BACK_OFF_MS = 200;

export interface WatermarkPollerParts {
  /** Requests a watermark of this moment from the feed. */
  request(): void;
  /** Since when the oldest block waits for a watermark, ms since the epoch; undefined while none does. */
  waitingSince(): number | undefined;
  /** How long the feed may gather records (ms). */
  batchMs: number;
  clock(): number;
}

/** Requests a watermark where a line waits for one longer than the feed takes to bring it by itself. */
export class WatermarkPoller {
  readonly #parts: WatermarkPollerParts;
  readonly #patienceMs: number;
  #backOff: number;
  #timer: NodeJS.Timeout | undefined;
  #ending = false;

  constructor(parts: WatermarkPollerParts) {
    this.#parts = parts;
    this.#patienceMs = Math.max(LEAST_PATIENCE_MS, PATIENCE * parts.batchMs);
    this.#backOff = this.#patienceMs;
  }

  /** A block left: the back-off restarts for the next one. */
  resetBackOff(): void {
    this.#backOff = this.#patienceMs;
  }

  /** The follower has ended: request watermarks for the last lines at once. */
  end(): void {
    this.#ending = true;
  }

  /** Call this whenever a block may have begun or ceased to wait. */
  schedule(): void {
    const left = this.#left();
    if (left === undefined) {
      // Without a batch to wait for, it would wake the process for nothing.
      clearTimeout(this.#timer);
      this.#timer = undefined;
    } else if (this.#timer === undefined) this.#timer = setTimeout(this.#poll, Math.max(1, left));
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  readonly #poll = (): void => {
    this.#timer = undefined;
    // The block that started the timer may have left, and the current one may be new.
    const left = this.#left();
    if (left === undefined) return;
    if (left <= 0) {
      this.#parts.request();
      this.#backOff = Math.max(this.#backOff, Math.min(2 * this.#backOff, MAX_BACK_OFF_MS));
      this.#timer = setTimeout(this.#poll, this.#ending ? ENDING_MS : this.#backOff);
    } else this.schedule();
  };

  /** Until the oldest block has waited long enough (ms). */
  #left(): number | undefined {
    const since = this.#parts.waitingSince();
    if (since === undefined) return undefined;
    const patience = this.#ending ? ENDING_MS : this.#backOff;
    // Not longer after the clock was set back.
    return Math.min(patience, since + patience - this.#parts.clock());
  }
}
