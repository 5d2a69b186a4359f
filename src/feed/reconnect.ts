const MIN_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 2_000;
/** A feed that has brought records for this long (ms) resets the back-off. */
const STEADY_MS = 2_000;
/** How long after its loss a feed is expected back (ms): the restart or replacement of a helper takes seconds. */
const RETURN_MS = 10_000;
/** Upper limit of the back-off while the feed is expected back (ms). */
const RETURN_BACKOFF_MS = 200;

/** When to connect to the helper again, and how long lines wait for it. Times are ms of the monotonic clock. */
export class Reconnect {
  #backoff = MIN_BACKOFF_MS;
  /** The current feed has brought records for STEADY_MS. */
  #steady = false;
  /** Until when the feed is expected back. */
  #returnsBy = -Infinity;
  #lostAt: number | undefined;

  /** The feed is expected back soon. */
  isExpected(now: number): boolean {
    return now < this.#returnsBy;
  }

  /** An earlier process read this helper's feed a moment ago. */
  expect(now: number): void {
    this.#returnsBy = now + RETURN_MS;
  }

  /** The helper runs and refuses, so lines do not wait for it. */
  expectNot(): void {
    this.#returnsBy = -Infinity;
  }

  /** The helper answers. Returns for how long there was no feed; undefined at the first connection. */
  connected(now: number): number | undefined {
    return this.#lostAt === undefined ? undefined : now - this.#lostAt;
  }

  /** Records came, this long (ms) after the feed began. */
  broughtRecords(forMs: number): void {
    if (forMs < STEADY_MS) return;
    this.#backoff = MIN_BACKOFF_MS;
    this.#steady = true;
  }

  /** The connection, or the attempt to get one, ended. `wasConnected`: the helper had answered. */
  ended(now: number, wasConnected: boolean): void {
    if (this.#steady) this.expect(now);
    this.#steady = false;
    if (wasConnected) this.#lostAt = now;
  }

  /** How long to wait before the next attempt (ms). `random`: from 0 to 1. */
  nextDelay(now: number, random: number): number {
    // Half fixed, half random: the sidecars of a node must not all reconnect at the same moment.
    const delay = this.#backoff * (0.5 + random / 2);
    this.#backoff = Math.min(this.#backoff * 2, this.isExpected(now) ? RETURN_BACKOFF_MS : MAX_BACKOFF_MS);
    return delay;
  }
}
