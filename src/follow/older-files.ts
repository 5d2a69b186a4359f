import type { LogFile } from './log-file.ts';
import { beginsAs, type OlderPosition } from './position.ts';
import { type Listed, readHead, sameBeginning, sameFile } from './rotation.ts';

/** A deleted file is closed, and an unfinished last line written out, after this long without a late line, ms. */
const LATE_LINES_MS = 60_000;
/**
 * Finished files remembered, so that compressed or other copies of them are not read. They stay open, as an nginx worker
 * that is slow to reopen its log still writes to them.
 */
const MAX_OLDER_FILES = 16;

interface Entry {
  position: OlderPosition;
  /** The content's first bytes if this process read them; after a restart there is only their hash. */
  head: Buffer | undefined;
  file: LogFile | undefined;
  quietFrom: number;
}

/** The files finished before the current one, oldest first. Beyond MAX_OLDER_FILES the oldest is closed and forgotten. */
export class OlderFiles {
  #entries: Entry[] = [];
  #positions: readonly OlderPosition[] | undefined;

  /** Adds a finished file, and keeps `file` open if nginx may still write to it. */
  add(position: OlderPosition, head: Buffer | undefined, file: LogFile | undefined, now: number): void {
    this.#entries.push({ position: entryOf(position, file), head, file, quietFrom: now + LATE_LINES_MS });
    while (this.#entries.length > MAX_OLDER_FILES) this.#entries.shift()!.file?.close();
    this.#positions = undefined;
  }

  /** The value of LogPosition.older; the same array until a file is added or read further. */
  get positions(): readonly OlderPosition[] {
    this.#positions ??= this.#entries.map((entry) => entry.position);
    return this.#positions;
  }

  get open(): LogFile[] {
    return this.#entries.flatMap((entry) => entry.file ?? []);
  }

  /** Whether `listed` was read already, under this or another name. */
  knows(listed: Listed): boolean {
    if (this.#entries.some(({ file }) => sameFile(listed, file))) return true;
    // An empty compressed file has no first bytes to compare.
    if (
      listed.compressed &&
      this.#entries.some(({ position }) => position.offset === 0 && sameFile(listed, position))
    )
      return true;
    if (!this.#entries.some(({ position }) => position.offset > 0)) return false;
    const begins = readHead(listed);
    return this.#entries.some(({ position, head, file }) => {
      const known = file && !file.compressed ? file.peek() : head;
      return known ? sameBeginning(begins, known) : beginsAs(begins, position);
    });
  }

  /** Late lines were read: the file's offset moves. */
  moved(file: LogFile, now: number): void {
    const entry = this.#entries.find((other) => other.file === file);
    if (!entry) return;
    entry.position = entryOf(file.position(), file);
    entry.head = Buffer.from(file.head);
    entry.quietFrom = now + LATE_LINES_MS;
    this.#positions = undefined;
  }

  /** Whether the file has been quiet for so long that no late line is expected. */
  quiet(file: LogFile, now: number): boolean {
    return now >= this.#entries.find((entry) => entry.file === file)!.quietFrom;
  }

  /** Closes a file; its fingerprint stays. */
  release(file: LogFile): void {
    const entry = this.#entries.find((other) => other.file === file);
    if (!entry) return;
    file.close();
    entry.file = undefined;
    entry.position = entryOf(entry.position, undefined);
    this.#positions = undefined;
  }

  /** Removes and returns the open file that `listed` is, to be the current one. */
  reclaim(listed: Listed): LogFile | undefined {
    const index = this.#entries.findIndex(({ file }) => sameFile(listed, file));
    if (index < 0) return undefined;
    this.#positions = undefined;
    return this.#entries.splice(index, 1)[0]!.file;
  }

  close(): void {
    for (const entry of this.#entries) entry.file?.close();
    this.#entries = [];
  }
}

function entryOf(position: OlderPosition, file: LogFile | undefined): OlderPosition {
  const { open, ...rest } = position;
  return file ? { ...rest, open: true } : rest;
}
