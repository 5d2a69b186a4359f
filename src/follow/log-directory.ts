import type { LineLimits } from './line-buffer.ts';
import type { FollowerStats, OnNotice } from './log-block.ts';
import { LogFile, type Start } from './log-file.ts';
import { refuseNonFile } from './log-path.ts';
import type { LogPosition } from './position.ts';
import { findFile, holds, type Listed, listRotated, sameFile, statFile } from './rotation.ts';

const COMPLAIN_EVERY_MS = 60_000;
/** Unreadable files remembered, so that each is reported once. */
const MAX_SKIPPED = 1000;

/** Lists and opens the log and the rotated files beside it, and reports those that cannot be read. */
export class LogDirectory {
  readonly path: string;
  readonly #limits: LineLimits;
  readonly #stats: FollowerStats;
  readonly #clock: () => number;
  readonly #notice: OnNotice;
  /** Files that cannot be read, by inode. */
  readonly #skipped = new Set<string>();
  #complained = Number.NEGATIVE_INFINITY;

  constructor(path: string, limits: LineLimits, stats: FollowerStats, clock: () => number, notice: OnNotice) {
    this.path = path;
    this.#limits = limits;
    this.#stats = stats;
    this.#clock = clock;
    this.#notice = notice;
  }

  /** The file at the log's path. Throws FollowError if it is not a regular file. */
  live(current?: LogFile): Listed | undefined {
    const live = statFile(this.path);
    if (live && sameFile(live, current)) return live;
    refuseNonFile(this.path);
    return live;
  }

  /** The readable rotated files whose last write was at `since` (ms) or later, oldest first. */
  rotatedSince(since: number): Listed[] {
    const { files, unreadable } = listRotated(this.path);
    // After the listing: the live file of before may have been rotated meanwhile, with a younger one behind it.
    const live = statFile(this.path);
    for (const path of unreadable) {
      const file = statFile(path);
      if (!file || file.mtime < since || this.skips(file)) continue;
      this.#skip(
        file,
        `${path}: cannot be read (only plain and gzip files can); if it was not read before, its lines are missing`,
      );
    }
    return files.filter((file) => file.mtime >= since && !sameFile(file, live) && !this.skips(file));
  }

  /** Undefined if the file is gone or cannot be opened. A rotated file is then skipped; the live one is tried again later. */
  open(listed: Listed, from: Start, since: number): LogFile | undefined {
    try {
      return new LogFile(listed, from, since, this.#limits);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT' || code === 'ESTALE') return undefined;
      if (listed.path !== this.path && (code === 'EACCES' || code === 'EPERM')) {
        this.#skip(listed, `${listed.path}: cannot be opened (${message}); its lines are missing`);
      } else {
        this.#complain(
          `${listed.path}: cannot be opened (${message}); trying again. Is it readable for this user?`,
        );
      }
      return undefined;
    }
  }

  skips(listed: Listed): boolean {
    return this.#skipped.has(listed.ino);
  }

  /** Lines are, or may be, missing. */
  loss(text: string): void {
    this.#stats.losses++;
    this.#notice('error', text);
  }

  #skip(listed: Listed, text: string): void {
    if (this.#skipped.size >= MAX_SKIPPED) this.#skipped.clear();
    this.#skipped.add(listed.ino);
    this.loss(text);
  }

  #complain(text: string): void {
    const now = this.#clock();
    if (Math.abs(now - this.#complained) < COMPLAIN_EVERY_MS) return;
    this.#complained = now;
    this.#notice('warn', text);
  }
}

/** The file at the log's path if `position` is in it. */
export function resumedLive(live: Listed | undefined, position: LogPosition): Listed | undefined {
  if (!live) return undefined;
  return (position.offset > 0 ? holds(live, position) : sameFile(live, position)) ? live : undefined;
}

/** Whether the file of `position` still exists under any name. */
export function canResume(path: string, position: LogPosition): boolean {
  if (position.ino === '') return true;
  return (resumedLive(statFile(path), position) ?? findFile(path, position)) !== undefined;
}
