/** The header of a feed that says which process of the helper it comes from. */
export const INSTANCE_HEADER = 'realpod-instance';

/**
 * Where a reader that remembers nothing can begin again in a helper's feed: every event after `since` (ms since the
 * epoch) has a record after `after`, as far as the helper `instance` saw it.
 */
export interface ResumePoint {
  /** The helper process that gave out the cursor. */
  instance: string;
  /** The cursor: `seq` of a record. */
  after: number;
  since: number;
}

/** `value` as a ResumePoint, or undefined if it is none (a damaged or older state file). */
export function parseResumePoint(value: unknown): ResumePoint | undefined {
  const { instance, after, since } = Object(value) as Record<string, unknown>;
  if (typeof instance !== 'string' || !/^[\w-]{1,64}$/.test(instance)) return undefined;
  if (typeof after !== 'number' || !Number.isSafeInteger(after) || after <= 0) return undefined;
  if (typeof since !== 'number' || !Number.isFinite(since)) return undefined;
  return { instance, after, since };
}
