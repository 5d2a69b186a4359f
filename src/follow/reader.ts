import { FollowError, type FollowerOptions, type LogBlock, newStats, type OnNotice } from './log-block.ts';
import { LogDirectory, resumedLive } from './log-directory.ts';
import { FROM_START, type LogFile } from './log-file.ts';
import { OlderFiles } from './older-files.ts';
import { beginning, type LogPosition } from './position.ts';
import {
  born,
  findFile,
  type Listed,
  listRotated,
  readHead,
  sameBeginning,
  sameFile,
  statFile,
} from './rotation.ts';

/** Once a new file exists, the old one must be quiet for this long before the new one is begun: nginx's workers reopen one by one. */
const QUIET_BEFORE_NEXT_MS = 100;
/** The same when the old file's last line has no newline yet. */
const QUIET_UNFINISHED_MS = 1000;
/** Longest wait for a worker that keeps writing to the old file; what it writes afterwards is read as late lines. */
const MAX_OVERLAP_MS = 2000;
/** Wait while the new file is empty: leaving the old one earlier has no use. */
const EMPTY_MS = 60_000;
const LATE_EVERY_MS = 100;

/**
 * Reads a log across rotation, truncation and deletion, each line once. `look` is one step: it examines the files and
 * returns what it found. Nothing here waits, sets timers or watches.
 */
export class LogReader {
  readonly stats = newStats();
  readonly #directory: LogDirectory;
  readonly #clock: () => number;
  readonly #notice: OnNotice;
  readonly #resume: LogPosition;
  #begun = false;
  #current: LogFile | undefined;
  readonly #older = new OlderFiles();
  /** The file to read after the current one, which is a copy of its earlier content. */
  #then: LogFile | undefined;
  /** Content that began before this time was read, or is older than the first start. */
  #since = 0;
  /** Since when a newer file exists while the current one is not finished. */
  #newerSeen: number | undefined;
  #quietSize = 0;
  #quietSince = 0;
  #lateLooked = Number.NEGATIVE_INFINITY;

  constructor(path: string, options: FollowerOptions) {
    this.#clock = options.clock ?? Date.now;
    this.#notice = options.onNotice ?? (() => {});
    this.#resume = options.resume ?? beginning(this.#clock());
    const limits = { maxLine: options.maxLine ?? 16 * 1024 * 1024, read: options.readBytes ?? 256 * 1024 };
    this.#directory = new LogDirectory(path, limits, this.stats, this.#clock, this.#notice);
  }

  /** Whether there is more to read than the last look returned. */
  get hasMore(): boolean {
    return this.#current !== undefined && this.#current.unread > 0;
  }

  /** Whether a rotation is in progress, so that the next look should follow soon. */
  get rotating(): boolean {
    return this.#newerSeen !== undefined;
  }

  /** The next block, or undefined if there is none now. `last`: this is the last look, so it does not wait for a quiet old file. */
  async look(last = false): Promise<LogBlock | undefined> {
    this.stats.looks++;
    for (;;) {
      if (!this.#current && !this.#begin()) return undefined;
      const found = (await this.#readLate(last)) ?? (await this.#readCurrent());
      if (found === 'again') continue;
      if (found) return found;
      const moved = this.#moveOn(last);
      if (typeof moved !== 'boolean') return moved;
      if (!moved) return undefined;
    }
  }

  close(): void {
    this.#current?.close();
    this.#then?.close();
    this.#current = undefined;
    this.#older.close();
  }

  /** Opens the first file, or the next one. False: it does not exist. */
  #begin(): boolean {
    if (this.#begun) return this.#openNext();
    const live = this.#directory.live();
    const resume = this.#resume;
    this.#since = resume.since;
    if (resume.ino === '') {
      // The file's time if there is a file: the wall clock may be set back later.
      if (live && live.size > 0) this.#since = Math.min(this.#since, live.mtime);
      this.#begun = this.#openNext();
      return this.#begun;
    }
    const found = resumedLive(live, resume) ?? findFile(this.#directory.path, resume);
    // No file at all: the volume may not be mounted yet.
    if (!found && !live && this.#directory.rotatedSince(resume.since).length === 0) return false;
    if (found) {
      this.#current = this.#directory.open(found, resume, resume.since);
      if (!this.#current) return false;
      if (found.compressed || found.ino !== resume.ino) this.stats.recoveredFiles++;
    }
    this.#begun = true;
    for (const position of resume.older) {
      const listed = position.open ? findFile(this.#directory.path, position) : undefined;
      const file =
        listed && !sameFile(listed, this.#current)
          ? this.#directory.open(listed, position, position.since)
          : undefined;
      this.#older.add(position, undefined, file, this.#clock());
    }
    if (found) return true;
    const { older, ...position } = resume;
    this.#older.add(position, undefined, undefined, this.#clock());
    // Nothing of it had been read, so as a compressed or plain copy it is among the files to read now.
    if (resume.offset > 0 || this.#younger().length === 0) {
      this.#directory.loss(
        `${this.#directory.path}: the file read last (inode ${resume.ino}, up to byte ${resume.offset}) is gone, also from among the rotated ones; what was written to it after that is missing. Keep at least one rotated file`,
      );
    }
    return this.#openNext();
  }

  /** 'again': nothing was read, but the current file or its content changed. */
  async #readCurrent(): Promise<LogBlock | 'again' | undefined> {
    const file = this.#current!;
    const ready = file.lines.take();
    if (ready) return this.#block(file, ready);
    if (!file.look()) return this.#truncated(file);
    if (file.untouched && file.mtime !== file.searchedAt && this.#openMissed(file)) return 'again';
    const taken = await this.#fill(file);
    this.stats.backlogBytes = file.compressed ? 0 : file.unread;
    return taken && this.#block(file, taken);
  }

  /** Reads until a block is complete or the file ends. */
  async #fill(file: LogFile): Promise<Taken | undefined> {
    try {
      while (file.unread > 0 && (await file.fill()) > 0) {
        const taken = file.lines.take();
        if (taken) return taken;
      }
    } catch (error) {
      if (error instanceof FollowError && file.path === this.#directory.path) throw error;
      this.#directory.loss(
        `${file.path}: cannot be read to its end (${(error as Error).message}); lines of it are missing`,
      );
    }
    return undefined;
  }

  /** Late lines: those that nginx writes to a finished file. */
  async #readLate(last: boolean): Promise<LogBlock | undefined> {
    const now = this.#clock();
    if (this.#current?.lines.pieceOpen) return undefined;
    if (!last && Math.abs(now - this.#lateLooked) < LATE_EVERY_MS) return undefined;
    for (const file of this.#older.open) {
      let taken: Taken | undefined = file.lines.take() ?? (file.look() ? await this.#fill(file) : undefined);
      const quiet = file.compressed || this.#older.quiet(file, now);
      // Two pieces of a line must follow one another, so a late line that is not complete is not waited for.
      if (!taken && (quiet ? file.lines.unfinished : file.lines.pieceOpen)) taken = this.#finish(file);
      if (!taken) {
        if (quiet && file.unlinked) this.#older.release(file);
        continue;
      }
      this.stats.lateBytes += taken.bytes.length;
      file.consume(taken);
      this.#older.moved(file, now);
      return this.#block(undefined, taken);
    }
    this.#lateLooked = now;
    return undefined;
  }

  #block(file: LogFile | undefined, taken: Taken): LogBlock {
    file?.consume(taken);
    this.stats.blocks++;
    this.stats.bytes += taken.bytes.length;
    if (taken.oversized && taken.bytes.at(-1) === 0x0a) this.stats.oversizedLines++;
    const older = this.#older.positions;
    const end: LogPosition = this.#current
      ? { ...this.#current.position(), older }
      : { dev: '', ino: '', offset: 0, fingerprint: '', since: this.#since, older };
    const block: LogBlock = { bytes: taken.bytes, readAt: this.#clock(), end };
    if (taken.oversized) return { ...block, oversized: true };
    if (file && !file.compressed && !taken.newlineAdded)
      block.at = { ino: end.ino, offset: end.offset - taken.bytes.length };
    return block;
  }

  /** The unfinished last line of a file, with a newline added. */
  #finish(file: LogFile): Taken {
    this.stats.newlinesAdded++;
    const oversized = file.lines.pieceOpen;
    return { bytes: file.lines.finish(), oversized, newlineAdded: true };
  }

  /** The content was replaced in place. What was not read of it is in the copy, if one was made (copytruncate). */
  #truncated(file: LogFile): LogBlock | 'again' | undefined {
    if (this.#then) {
      this.#leave(file);
      return 'again';
    }
    // A few first bytes fit many files: those already read are left out, and the oldest of the others is the one.
    const copies = listRotated(this.#directory.path).files.filter(
      (listed) =>
        !sameFile(listed, file) &&
        !this.#directory.skips(listed) &&
        sameBeginning(readHead(listed), file.head) &&
        !this.#older.knows(listed),
    );
    const copy = copies.find((listed) => listed.compressed || listed.size >= file.offset);
    const opened = copy && this.#directory.open(copy, file.position(), file.since);
    if (copy && !opened) return 'again';
    if (!opened && file.lines.unfinished) return this.#block(file, this.#finish(file));
    this.stats.truncations++;
    const unread = file.size - (copy && !copy.compressed ? Math.max(copy.size, file.offset) : file.offset);
    if (opened) {
      this.stats.recoveredFiles++;
      file.restart(Math.max(file.since, born(copy!)));
      this.#then = file;
      this.#current = opened;
      if (unread <= 0 || copy!.compressed) return 'again';
    } else {
      this.#older.add(file.position(), Buffer.from(file.head), undefined, this.#clock());
      file.restart(Math.max(file.since, file.mtime));
    }
    if (unread > 0) {
      this.stats.lostBytes += unread;
      this.#directory.loss(
        `${this.#directory.path}: truncated with ${unread} bytes not read yet and not in a copy; they are missing`,
      );
    } else if (copies.length === 0) {
      this.#notice(
        'warn',
        `${this.#directory.path}: truncated. All that was seen in it has been read; what was written in the instant before is gone`,
      );
    }
    return 'again';
  }

  /**
   * Before the first byte of the live file's content is read: copies of what was in it earlier and was never seen
   * (written, copied and truncated between two looks) come first.
   */
  #openMissed(file: LogFile): boolean {
    if (this.#then || !sameFile(file, statFile(this.#directory.path))) return false;
    file.searchedAt = file.mtime;
    const begins = file.peek();
    const missed = this.#younger().find(
      (listed) => listed.size > 0 && !sameBeginning(readHead(listed), begins),
    );
    const opened = missed && this.#directory.open(missed, FROM_START, file.since);
    if (!opened) return false;
    this.stats.recoveredFiles++;
    file.searchedAt = undefined;
    file.since = Math.max(file.since, born(missed));
    this.#then = file;
    this.#current = opened;
    return true;
  }

  /** At the end of the current file: goes on to the next file once no more lines are expected in this one. */
  #moveOn(last: boolean): boolean | LogBlock {
    const file = this.#current!;
    const now = this.#clock();
    if (!file.compressed && !this.#then) {
      const live = this.#directory.live(file);
      // Without a new live file, only a rotated file with a later write shows that nginx has left the current one.
      const newer = (listed: Listed): boolean =>
        listed.size > 0 && (live !== undefined || listed.mtime >= file.mtime);
      const next = sameFile(file, live) ? undefined : (this.#younger().find(newer) ?? live);
      if (!next) {
        this.#newerSeen = undefined;
        return false;
      }
      if (this.#newerSeen === undefined || file.size !== this.#quietSize) {
        this.#newerSeen ??= now;
        this.#quietSize = file.size;
        this.#quietSince = now;
      }
      const quiet = now - Math.min(this.#quietSince, Math.max(file.mtime, born(next)));
      const enough = file.lines.unfinished ? QUIET_UNFINISHED_MS : last ? 0 : QUIET_BEFORE_NEXT_MS;
      if (quiet < enough && now - this.#newerSeen < MAX_OVERLAP_MS) return false;
      if (next.path === this.#directory.path && next.size === 0 && quiet < EMPTY_MS) return false;
    }
    if (file.lines.unfinished) return this.#block(file, this.#finish(file));
    this.#leave(file);
    if (this.#current) return true;
    this.stats.rotations++;
    return this.#openNext();
  }

  /** Finishes the current file; a plain one may still get late lines. */
  #leave(file: LogFile): void {
    const held = file.compressed ? undefined : file;
    this.#older.add(file.position(), Buffer.from(file.head), held, this.#clock());
    if (!held) file.close();
    this.#since = file.since;
    this.#newerSeen = undefined;
    this.#current = this.#then;
    this.#then = undefined;
  }

  #openNext(): boolean {
    for (;;) {
      // In this order: a file that is rotated between the two looks is found among the rotated ones.
      const live = this.#directory.live();
      const listed = this.#younger()[0] ?? live;
      if (!listed) return false;
      this.#current =
        this.#older.reclaim(listed) ??
        this.#directory.open(
          listed,
          FROM_START,
          Math.max(this.#since, listed.compressed ? 0 : (listed.birth ?? 0)),
        );
      if (this.#current?.compressed) this.stats.recoveredFiles++;
      if (this.#current) return true;
      if (!this.#directory.skips(listed)) return false;
    }
  }

  /** The rotated files that are to be read after the current one, oldest first; the live one comes after them. */
  #younger(): Listed[] {
    const files = this.#directory.rotatedSince(this.#current?.since ?? this.#since);
    return files.filter(
      (file) => !sameFile(file, this.#current) && !sameFile(file, this.#then) && !this.#older.knows(file),
    );
  }
}

/** A block of the line buffer; `newlineAdded`: the file ends without it. */
interface Taken {
  bytes: Buffer;
  oversized: boolean;
  newlineAdded?: true;
}
