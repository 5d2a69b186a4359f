/** The response header of a feed with the id of the helper's process. */
export const INSTANCE_HEADER = 'realpod-instance';

/**
 * A place in a helper's feed from which a reader with an empty index can begin: the records after `after` contain every
 * event after `since` (ms since the epoch) that the helper `instance` saw.
 */
export interface ResumePoint {
  /** The helper process that the cursor is of. */
  instance: string;
  /** The cursor: `seq` of a record. */
  after: number;
  since: number;
}

/** `value` as a ResumePoint, or undefined if it is not one (a damaged or older state file). */
export function parseResumePoint(value: unknown): ResumePoint | undefined {
  const { instance, after, since } = Object(value) as Record<string, unknown>;
  if (typeof instance !== 'string' || !/^[\w-]{1,64}$/.test(instance)) return undefined;
  if (typeof after !== 'number' || !Number.isSafeInteger(after) || after <= 0) return undefined;
  if (typeof since !== 'number' || !Number.isFinite(since)) return undefined;
  return { instance, after, since };
}
