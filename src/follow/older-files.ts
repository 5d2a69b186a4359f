import type { LogFile } from './log-file.ts';
import { beginsAs, type OlderPosition } from './position.ts';
import { type Listed, readHead, sameBeginning, sameFile } from './rotation.ts';

/** After this long without a late line a deleted file is closed, and an unfinished last line is given up, ms. */
const QUIET_MS = 60_000;
/**
 * How many finished files are remembered, so that their compressed or copied selves are not read again, and held open: an nginx worker
 * that is slow to reopen still writes into them.
 */
const MAX_REMEMBERED = 16;

interface Entry {
  position: OlderPosition;
  /** The content's first bytes, where this process read them; after a restart only their hash is known. */
  head: Buffer | undefined;
  file: LogFile | undefined;
  quietFrom: number;
}

/** The files finished before the current one, oldest first. Beyond MAX_REMEMBERED the oldest is closed and forgotten. */
export class OlderFiles {
  #entries: Entry[] = [];
  #positions: readonly OlderPosition[] | undefined;

  /** Remembers a finished file, and holds `file` open if it may still be written to. */
  add(position: OlderPosition, head: Buffer | undefined, file: LogFile | undefined, now: number): void {
    this.#entries.push({ position: entryOf(position, file), head, file, quietFrom: now + QUIET_MS });
    while (this.#entries.length > MAX_REMEMBERED) this.#entries.shift()!.file?.close();
    this.#positions = undefined;
  }

  /** For LogPosition.older; the same array until something changes. */
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
    // Of an empty compressed file there is no beginning to compare.
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

  /** Late lines came: the file has been read further. */
  moved(file: LogFile, now: number): void {
    const entry = this.#entries.find((other) => other.file === file);
    if (!entry) return;
    entry.position = entryOf(file.position(), file);
    entry.head = Buffer.from(file.head);
    entry.quietFrom = now + QUIET_MS;
    this.#positions = undefined;
  }

  /** Whether no late line has come for so long that none is expected any more. */
  quiet(file: LogFile, now: number): boolean {
    return now >= this.#entries.find((entry) => entry.file === file)!.quietFrom;
  }

  /** Closes a file; what it began with stays known. */
  release(file: LogFile): void {
    const entry = this.#entries.find((other) => other.file === file);
    if (!entry) return;
    file.close();
    entry.file = undefined;
    entry.position = entryOf(entry.position, undefined);
    this.#positions = undefined;
  }

  /** Gives back the open file `listed` is, to be read on as the current one. */
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
