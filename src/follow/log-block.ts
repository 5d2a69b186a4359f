import type { LogPosition } from './position.ts';

/** `info`: worth knowing; `warn`: nothing lost; `error`: lines are, or may be, missing. `text` is one line for people. */
export type OnNotice = (level: 'info' | 'warn' | 'error', text: string) => void;

export interface LogBlock {
  /** Whole lines, each ending in \n. A view of a larger buffer that stays alive as long as any view of it. */
  bytes: Buffer;
  /** Ms since the epoch, taken right after the read that returned the bytes. */
  readAt: number;
  /** The position behind this block: a restart there reads the next line. */
  end: LogPosition;
  /** The file that the bytes are of, and where they begin there: where it is the log itself, and not a compressed or older file. */
  at?: { ino: string; offset: number };
  /** A piece of a line longer than the limit, possibly without its \n: pass it through unparsed. */
  oversized?: true;
}

/** Plain counters since the start, for the metrics. */
export interface FollowerStats {
  bytes: number;
  blocks: number;
  /** Bytes of the current file that were not read at the last look. */
  backlogBytes: number;
  rotations: number;
  truncations: number;
  /** Times that lines are or may be missing; each has an `error` notice. */
  losses: number;
  /** Bytes known to be missing (unread when a file was truncated). */
  lostBytes: number;
  /** Bytes read from an old file after the newer one was begun. */
  lateBytes: number;
  /** Last lines of finished files that had no newline; one was added. */
  newlinesAdded: number;
  oversizedLines: number;
  /** Compressed files, and copies of a truncated log, that were read. */
  recoveredFiles: number;
  /** Times the follower looked at the file. */
  looks: number;
}

export interface FollowerOptions {
  /** Where to begin. Default: the beginning of the live file. */
  resume?: LogPosition | undefined;
  /** Lines longer than this are returned in pieces. Bytes, default 16 MiB. */
  maxLine?: number;
  /** Size of one read at most. Bytes, default 256 KiB. */
  readBytes?: number;
  onNotice?: OnNotice;
  /** Read each line as soon as it is written, at some cost: when it was read is evidence. */
  prompt?: boolean;
  /** How long lines may be gathered while `gather` says so (ms), without `prompt`. Default 0. */
  batchMs?: number;
  /** Wall clock, ms since the epoch. */
  clock?: () => number;
}

/** The log cannot be followed at all; `message` is one line that says what to do. */
export class FollowError extends Error {}

export function newStats(): FollowerStats {
  return {
    bytes: 0,
    blocks: 0,
    backlogBytes: 0,
    rotations: 0,
    truncations: 0,
    losses: 0,
    lostBytes: 0,
    lateBytes: 0,
    newlinesAdded: 0,
    oversizedLines: 0,
    recoveredFiles: 0,
    looks: 0,
  };
}
