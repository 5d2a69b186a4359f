import type { LogPosition } from './position.ts';

/** `info`: worth knowing; `warn`: nothing lost; `error`: lines are, or may be, missing. `text` is one line for people. */
export type OnNotice = (level: 'info' | 'warn' | 'error', text: string) => void;

export interface LogBlock {
  /** Whole lines, each ending in \n. A view of a larger buffer that stays alive as long as any view of it. */
  bytes: Buffer;
  /** Ms since the epoch, taken right after the read that returned the bytes. */
  readAt: number;
  /** Where the source stands when everything up to the end of this block is consumed. */
  end: LogPosition;
  /** A piece of a line longer than the limit, possibly without its \n: pass it through unparsed. */
  oversized?: true;
}

/** Plain counters since the start, for the metrics. */
export interface FollowerStats {
  bytes: number;
  blocks: number;
  /** Bytes of the current file not yet read, as of the last look. */
  backlogBytes: number;
  rotations: number;
  truncations: number;
  /** Times that lines are or may be missing: each was also told as an `error` notice. */
  losses: number;
  /** Bytes known to be missing (unread when a file was truncated). */
  lostBytes: number;
  /** Bytes that came in an old file after the newer one had been begun. */
  lateBytes: number;
  /** Last lines of finished files that had no newline; one was added. */
  newlinesAdded: number;
  oversizedLines: number;
  /** Files read that were compressed, or were copies of a truncated log. */
  recoveredFiles: number;
  /** Times the follower looked at the file. */
  looks: number;
}

export interface FollowerOptions {
  /** The position to go on from. Without it: the beginning of the live file. */
  resume?: LogPosition | undefined;
  /** Lines longer than this are passed on in pieces. Bytes, default 16 MiB. */
  maxLine?: number;
  /** How much one read takes at most. Bytes, default 256 KiB. */
  readBytes?: number;
  onNotice?: OnNotice;
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
