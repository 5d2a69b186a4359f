import type { FollowerOptions, FollowerStats, LogBlock } from './log-block.ts';
import { refuseNonFile } from './log-path.ts';
import { LogReader } from './reader.ts';
import { Wakeup } from './wakeup.ts';

export * from './log-block.ts';
export { type FilePosition, type LogPosition, parseLogPosition } from './position.ts';

export interface Follower {
  /** The next block, as soon as there is one; undefined once stopped and drained. One call at a time. Rejects with FollowError. */
  next(): Promise<LogBlock | undefined>;
  /** Evidence has come for the lines that are there: a next() that waits for more of them waits no longer. */
  hasten(): void;
  /** next() then returns what can be read right now, then undefined. */
  stop(): void;
  readonly stats: Readonly<FollowerStats>;
}

/** How soon to look again after something was found, or while a rotation is under way, ms. */
const SOON_MS = 20;

/** Follows the log at `path`, which may not exist yet. Throws FollowError when it is something that cannot be followed. */
export function openFollower(path: string, options: FollowerOptions = {}): Follower {
  refuseNonFile(path);
  const reader = new LogReader(path, options);
  const wakeup = new Wakeup(path);
  let stopping = false;
  let found = false;
  let closed = false;
  return {
    stats: reader.stats,
    async next(): Promise<LogBlock | undefined> {
      while (!closed) {
        if (!stopping && !reader.hasMore) await wakeup.wait(found || reader.rotating ? SOON_MS : undefined);
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
    hasten: () => wakeup.hasten(),
    stop(): void {
      stopping = true;
      wakeup.close();
    },
  };
}
