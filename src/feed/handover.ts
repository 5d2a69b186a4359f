import type { Observation } from '../model/feed.ts';

/** Interval between two places that are kept (ms); a reader gets a gap of this length at most. */
const MARK_EVERY_MS = 20;
/** How long a place is kept (ms). Lines wait ten seconds for the feed. */
const MARK_KEPT_MS = 30_000;

/** A place in the feed: the records after `after` contain every event after `since` (ms since the epoch). */
export interface Mark {
  after: number;
  since: number;
  /** The watermark there; not later than `since`. */
  watermark: number;
}

/**
 * Places at which a reader can begin that comes from the helper before. It has that helper's record up to its last
 * watermark, so the best place is the first one that is not before it: nothing comes twice, and the gap is short.
 */
export class Handover {
  #marks: Mark[] = [];
  /** The latest time of all records since readers are expected. */
  #latest = -Infinity;
  /** Since when the record of every address that is expected is complete (ms since the epoch); Infinity: none is expected. */
  #completeSince = Infinity;

  /** More addresses are expected, whose record is complete since `completeSince`. */
  expect(completeSince: number): void {
    this.#marks = [];
    this.#completeSince = completeSince;
  }

  /** No reader is expected any more. */
  end(): void {
    this.expect(Infinity);
  }

  /** A batch of records, which ends with the record `seq` and `watermark`. */
  batch(observations: readonly Observation[], seq: number, watermark: number): void {
    if (this.#completeSince === Infinity) return;
    for (const each of observations) {
      this.#latest = Math.max(this.#latest, each.t);
      // The clock was set: a reader that begins behind this would not learn of it.
      if (each.kind === 'gap' && each.from === undefined) this.end();
    }
    if (watermark < this.#completeSince) return;
    const since = Math.max(watermark, this.#latest);
    const last = this.#marks.at(-1);
    if (last && since - last.since < MARK_EVERY_MS) return;
    this.#marks.push({ after: seq, since, watermark });
    while (since - this.#marks[0]!.since > MARK_KEPT_MS) this.#marks.shift();
  }

  /** The place for a reader whose last watermark is `watermark`, and those after it. Empty: there is none. */
  placesFrom(watermark: number): readonly Mark[] {
    const first = this.#marks.findIndex(({ since }) => since >= watermark);
    return first < 0 ? [] : this.#marks.slice(first);
  }
}
