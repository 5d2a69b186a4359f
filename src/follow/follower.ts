import type { FollowerOptions, FollowerStats, LogBlock } from './log-block.ts';
import { refuseNonFile } from './log-path.ts';
import { LogReader } from './reader.ts';
import { Wakeup } from './wakeup.ts';

export * from './log-block.ts';
export { type FilePosition, type LogPosition, parseLogPosition } from './position.ts';

export interface Follower {
  /** Resolves with the next block; with undefined once stopped and drained. One call at a time. Rejects with FollowError. */
  next(): Promise<LogBlock | undefined>;
  /**
   * Evidence for the lines in the file has arrived, complete up to `lagMs` ago: ends the wait of a next() that collects more of
   * them, or times the next one.
   */
  hasten(lagMs: number): void;
  /** Ends the wait of a next(), whatever it waits for. */
  lookNow(): void;
  /** Whether lines may be gathered for `batchMs`. Initially not. */
  gather(gathers: boolean): void;
  /** After this, next() returns what can be read without waiting, then undefined. */
  stop(): void;
  readonly stats: Readonly<FollowerStats>;
}

/** Ms until the next look after one that found something, and during a rotation. */
const SOON_MS = 20;

/** Follows the log at `path`, which need not exist yet. Throws FollowError for a directory, a pipe or another file that cannot be followed. */
export function openFollower(path: string, options: FollowerOptions = {}): Follower {
  refuseNonFile(path);
  const reader = new LogReader(path, options);
  const wakeup = new Wakeup(path, options.prompt, options.batchMs);
  let stopping = false;
  let found = false;
  let closed = false;
  return {
    stats: reader.stats,
    async next(): Promise<LogBlock | undefined> {
      while (!closed) {
        const soon = reader.rotating || (found && !wakeup.gathers);
        if (!stopping && !reader.hasMore) await wakeup.wait(soon ? SOON_MS : undefined);
        const last = stopping;
        const block = await reader.look(last);
        found = block !== undefined;
        wakeup.looked(found);
        if (block) return block;
        if (last) {
          reader.close();
          closed = true;
        }
      }
      return undefined;
    },
    hasten: (lagMs) => wakeup.hasten(lagMs),
    lookNow: () => wakeup.lookNow(),
    gather: (gathers) => wakeup.gather(gathers),
    stop(): void {
      stopping = true;
      wakeup.close();
    },
  };
}
