import type { FeedRecord } from '../model/feed.ts';
import type { ResumePoint } from '../model/resume-point.ts';

/**
 * Age of the point that `oldest` returns (ms), if the feed has been read for so long. After a restart a line can be
 * resolved only if its request began after the point's `since`, so this covers requests of this length.
 */
const AGE_MS = 10_000;
const POINT_EVERY_MS = 1_000;

/** Places in the feed of one helper at which a later process may begin to read. */
export class ResumePoints {
  /** Oldest first: at most AGE_MS / POINT_EVERY_MS and two. */
  #points: { after: number; since: number; at: number }[] = [];
  #instance: string | undefined;
  /** The latest time of all records, ms since the epoch. */
  #latest = -Infinity;

  /** A feed of the helper `instance` begins or resumes. Undefined: its response has no id. */
  connected(instance: string | undefined): void {
    if (instance !== this.#instance) this.#points = [];
    this.#instance = instance;
  }

  /** Records arrived. `cursor`: the greatest `seq` so far; `now`: ms since the epoch. */
  read(records: readonly FeedRecord[], cursor: number, now: number): void {
    // No event is after its record's time, so every event later than all these times is in a later record.
    for (const { kind, t } of records)
      if (kind !== 'name' && kind !== 'endpoint' && t > this.#latest) this.#latest = t;
    if (this.#instance === undefined || cursor <= 0 || this.#latest === -Infinity) return;
    const last = this.#points.at(-1);
    if (last && Math.abs(now - last.at) < POINT_EVERY_MS) return;
    // Times on the wire are rounded to microseconds.
    this.#points.push({ after: cursor, since: this.#latest + 0.001, at: now });
    while (this.#points.length > 1 && Math.abs(now - this.#points[1]!.at) >= AGE_MS) this.#points.shift();
  }

  get oldest(): ResumePoint | undefined {
    const point = this.#points[0];
    if (!point || this.#instance === undefined) return undefined;
    return { instance: this.#instance, after: point.after, since: point.since };
  }
}
