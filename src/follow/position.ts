import { createHash } from 'node:crypto';

/** How many of a file's first bytes tell it from others, also after it was copied, renamed or compressed. */
export const HEAD_BYTES = 1024;

/** One log file, and how far it has been read. */
export interface FilePosition {
  /** Device and inode, decimal (they can exceed 2^53). */
  dev: string;
  ino: string;
  /** Bytes consumed; of a compressed file, bytes of its content. Always the end of a line, or of a piece of an oversized line. */
  offset: number;
  /** Hash of the first min(HEAD_BYTES, offset) bytes, hex; '' at offset 0. */
  fingerprint: string;
  /** When this content began, ms since the epoch: the inode's birth, or the time its truncation was seen. */
  since: number;
  /** `offset` lies inside an oversized line, of which a piece was handed out. */
  midLine?: true;
}

/** A file that was finished before the current one. `open`: it was still watched for late lines. */
export interface OlderPosition extends FilePosition {
  open?: true;
}

/** Where the source stands. `older`: the last files finished before this one, oldest first. */
export interface LogPosition extends FilePosition {
  older: readonly OlderPosition[];
}

/** File times come from a clock that steps once per timer tick: up to this much behind, ms (HZ=100). */
const FILE_CLOCK_STEP_MS = 10;

/** Nothing has been read yet, and `now` (ms) is the first start: files that were finished before are none of ours. */
export function beginning(now: number): LogPosition {
  return { dev: '', ino: '', offset: 0, fingerprint: '', since: now - FILE_CLOCK_STEP_MS, older: [] };
}

/** The fingerprint of a file of which `head` are the first bytes, read as far as `offset`. */
export function fingerprint(head: Buffer, offset: number): string {
  const length = Math.min(HEAD_BYTES, offset);
  if (length === 0) return '';
  return createHash('sha256').update(head.subarray(0, length)).digest('hex').slice(0, 32);
}

/** Whether `head` (a file's first bytes, up to HEAD_BYTES of them) begins as the file of `position` did. */
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
