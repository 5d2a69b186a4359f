import type { FeedRecord } from '../model/feed.ts';

/** The latest time of the records minus `now` (ms); negative if none is later. */
export function aheadOf(records: readonly FeedRecord[], now: number): number {
  let latest = -Infinity;
  for (const { t } of records) if (t > latest) latest = t;
  return latest - now;
}

/** The cursor after these records. Records outside the sequence have `seq` 0. */
export function youngest(records: readonly FeedRecord[], before: number | undefined): number | undefined {
  let cursor = before ?? 0;
  for (const { seq } of records) if (seq > cursor) cursor = seq;
  return cursor === 0 ? undefined : cursor;
}

/** The last watermark among the records, ms since the epoch. */
export function lastWatermark(records: readonly FeedRecord[]): number | undefined {
  return records.findLast(({ kind }) => kind === 'tick')?.t;
}
