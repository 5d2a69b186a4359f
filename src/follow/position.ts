import { createHash } from 'node:crypto';

/** A file's first bytes that identify it, also after it was copied, renamed or compressed. */
export const HEAD_BYTES = 1024;

/** One log file, and how far it has been read. */
export interface FilePosition {
  /** Device and inode, decimal (they can exceed 2^53). */
  dev: string;
  ino: string;
  /** Bytes consumed; for a compressed file, bytes of its content. Always the end of a line, or of a piece of an oversized line. */
  offset: number;
  /** Hash of the first min(HEAD_BYTES, offset) bytes, hex; '' at offset 0. */
  fingerprint: string;
  /** When this content began, ms since the epoch: the inode's birth, or the time its truncation was seen. */
  since: number;
  /** `offset` is inside an oversized line: a piece of it was returned. */
  midLine?: true;
}

/** A file that was finished before the current one. `open`: late lines in it were still expected. */
export interface OlderPosition extends FilePosition {
  open?: true;
}

/** The position in the log. `older`: the last files finished before the current one, oldest first. */
export interface LogPosition extends FilePosition {
  older: readonly OlderPosition[];
}

/** File times come from a clock that steps once per timer tick: up to this much behind, ms (HZ=100). */
const FILE_CLOCK_STEP_MS = 10;

/** The position at a first start at `now` (ms): files that were finished before are not read. */
export function beginning(now: number): LogPosition {
  return { dev: '', ino: '', offset: 0, fingerprint: '', since: now - FILE_CLOCK_STEP_MS, older: [] };
}

/** The fingerprint of a file that begins with `head` and was read up to `offset`. */
export function fingerprint(head: Buffer, offset: number): string {
  const length = Math.min(HEAD_BYTES, offset);
  if (length === 0) return '';
  return createHash('sha256').update(head.subarray(0, length)).digest('hex').slice(0, 32);
}

/** Whether a file that begins with `head` (at most HEAD_BYTES) has the fingerprint of `position`. */
export function beginsAs(head: Buffer, position: FilePosition): boolean {
  const length = Math.min(HEAD_BYTES, position.offset);
  return length > 0 && head.length >= length && fingerprint(head, length) === position.fingerprint;
}

/** `value` as a LogPosition, or undefined if it is not one (a damaged or foreign state file). */
export function parseLogPosition(value: unknown): LogPosition | undefined {
  const file = parseFilePosition(value);
  if (!file) return undefined;
  const older = (value as { older?: unknown }).older;
  if (!Array.isArray(older)) return undefined;
  const files: OlderPosition[] = [];
  for (const entry of older) {
    const parsed = parseFilePosition(entry);
    if (!parsed) return undefined;
    files.push((entry as OlderPosition).open === true ? { ...parsed, open: true } : parsed);
  }
  return { ...file, older: files };
}

function parseFilePosition(value: unknown): FilePosition | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { dev, ino, offset, fingerprint, since, midLine } = value as Record<string, unknown>;
  if (typeof dev !== 'string' || typeof ino !== 'string' || typeof fingerprint !== 'string') return undefined;
  if (typeof offset !== 'number' || !Number.isSafeInteger(offset) || offset < 0) return undefined;
  if (typeof since !== 'number' || !Number.isFinite(since)) return undefined;
  return { dev, ino, offset, fingerprint, since, ...(midLine === true && { midLine }) };
}
