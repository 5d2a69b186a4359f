import {
  close,
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  open,
  readSync,
  statSync,
  writev,
  writevSync,
} from 'node:fs';
import { promisify } from 'node:util';
import { refuseLinkOut } from '../follow/log-path.ts';

/** Linux's IOV_MAX: a writev with more buffers fails with EINVAL. */
const MAX_CHUNKS = 1024;
/** Last bytes written that identify a file as the one that was written. */
export const TAIL_BYTES = 256;

const writevAsync = promisify(writev);
const openAsync = promisify(open);
const closeAsync = promisify(close);

/** A file output at one instant: `tail` are the last bytes (up to TAIL_BYTES) before `length`. */
export interface OutputMark {
  path: string;
  dev: string;
  ino: string;
  length: number;
  tail: Buffer;
}

/**
 * One output: a file by its path, or stdout for '-'.
 *
 * Regular files are written synchronously: a write to the page cache takes 2 µs, through the thread pool 44. Pipes,
 * sockets and terminals are written through the thread pool, so a slow reader does not block the process.
 */
export class Output {
  readonly path: string;
  #fd: number;
  #regular = false;
  #dev = '';
  #ino = '';
  #length = 0;
  #tail: Buffer = Buffer.alloc(0);

  private constructor(path: string, fd: number) {
    this.path = path;
    this.#fd = fd;
    this.#identify();
  }

  /** Opens (and creates, 0644) the file at `path`. Rejects with the system's error, and where `refuseLinkOut` does. */
  static async open(path: string): Promise<Output> {
    return new Output(path, path === '-' ? 1 : await openAppending(path));
  }

  get regular(): boolean {
    return this.#regular;
  }

  get name(): string {
    return this.path === '-' ? 'stdout' : this.path;
  }

  get length(): number {
    return this.#length;
  }

  /**
   * Writes `chunks` from byte `from` on, as much as fits into one call, and resolves with the bytes written. Rejects with
   * the system's error; then nothing was written.
   */
  async put(chunks: readonly Buffer[]): Promise<number> {
    const some = chunks.length > MAX_CHUNKS ? chunks.slice(0, MAX_CHUNKS) : (chunks as Buffer[]);
    const bytes = this.#regular
      ? writevSync(this.#fd, some)
      : (await writevAsync(this.#fd, some)).bytesWritten;
    if (this.#regular) {
      this.#length += bytes;
      this.#tail = tailOf(this.#tail, some, bytes);
    }
    return bytes;
  }

  /** The file's entry in a checkpoint, or undefined for stdout and pipes. */
  mark(): OutputMark | undefined {
    if (!this.#regular || this.path === '-') return undefined;
    // Another process may have truncated it, or appended to it.
    if (fstatSync(this.#fd).size !== this.#length) this.#identify();
    return { path: this.path, dev: this.#dev, ino: this.#ino, length: this.#length, tail: this.#tail };
  }

  /** Whether the last byte is a newline, or there is none. */
  get endsWhole(): boolean {
    return this.#tail.length === 0 || this.#tail.at(-1) === 0x0a;
  }

  /** The last bytes before `length`. */
  tailAt(length: number): Buffer {
    return readTail(this.#fd, length);
  }

  cut(length: number): void {
    ftruncateSync(this.#fd, length);
    this.#identify();
  }

  /** Opens the path anew, then closes the old file. Rejects with the system's error and stays in the old file. */
  async reopen(): Promise<void> {
    if (this.path === '-' || !this.#regular) return;
    const fd = await openAppending(this.path);
    const old = this.#fd;
    this.#fd = fd;
    this.#identify();
    await closeAsync(old);
  }

  close(): void {
    if (this.path !== '-') closeSync(this.#fd);
  }

  #identify(): void {
    const stat = fstatSync(this.#fd, { bigint: true });
    this.#regular = stat.isFile();
    this.#dev = String(stat.dev);
    this.#ino = String(stat.ino);
    this.#length = Number(stat.size);
    this.#tail = this.#regular && this.path !== '-' ? readTail(this.#fd, this.#length) : Buffer.alloc(0);
  }
}

async function openAppending(path: string): Promise<number> {
  const there = statSync(path, { throwIfNoEntry: false });
  // With a pipe opened for reading too, a write would not fail when its reader is gone.
  const access = there && !there.isFile() ? constants.O_WRONLY : constants.O_RDWR | constants.O_CREAT;
  const fd = await openAsync(path, access | constants.O_APPEND, 0o644);
  try {
    if (!there || there.isFile()) refuseLinkOut(fd, path);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return fd;
}

/** The bytes of an open file before `length`, up to TAIL_BYTES. */
export function readTail(fd: number, length: number): Buffer {
  const tail = Buffer.alloc(Math.min(TAIL_BYTES, length));
  if (tail.length === 0) return tail;
  return tail.subarray(0, readSync(fd, tail, 0, tail.length, length - tail.length));
}

function tailOf(before: Buffer, chunks: readonly Buffer[], bytes: number): Buffer {
  const parts: Buffer[] = [];
  let left = bytes;
  for (const chunk of chunks) {
    if (left <= 0) break;
    const part = chunk.subarray(0, left);
    left -= part.length;
    parts.push(part);
  }
  const last: Buffer[] = [];
  let length = 0;
  for (let i = parts.length - 1; i >= 0 && length < TAIL_BYTES; i--) {
    const part = parts[i]!.subarray(-(TAIL_BYTES - length));
    length += part.length;
    last.unshift(part);
  }
  if (length < TAIL_BYTES) last.unshift(before.subarray(Math.max(0, before.length - (TAIL_BYTES - length))));
  return Buffer.concat(last);
}
