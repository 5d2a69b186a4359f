import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { GzipContent, isWrittenCompressed } from './gzip-content.ts';
import { LineBuffer, type LineLimits } from './line-buffer.ts';
import { FollowError } from './log-block.ts';
import { refuseLinkOut } from './log-path.ts';
import { type FilePosition, fingerprint, HEAD_BYTES } from './position.ts';
import { type Listed, msFromNs } from './rotation.ts';

/** Holes that --reclaim left are multiples of this, bytes. */
const HOLE_STEP = 1024 * 1024;
const ZEROS = Buffer.alloc(4096);

/** Where to begin reading in a file. */
export type Start = Pick<FilePosition, 'offset' | 'fingerprint' | 'midLine'>;

export const FROM_START: Start = { offset: 0, fingerprint: '' };

/**
 * One open log file, read through its descriptor, so renaming or deleting it changes nothing.
 *
 * File calls are synchronous on purpose: from the page cache a stat or a small read takes 1–2 µs, through the thread
 * pool 40.
 */
export class LogFile {
  readonly path: string;
  readonly dev: string;
  readonly ino: string;
  since: number;
  lines: LineBuffer;
  /** Size in bytes and time of the last write in ms, at the last `look` that found the same content. */
  size = 0;
  mtime = 0;
  /** The mtime at which copies of earlier content were last searched for, while this one is untouched. */
  searchedAt: number | undefined;
  /** Bytes returned in blocks, so always the end of a line or of a piece; the descriptor has been read up to `#read`. */
  offset: number;
  #read: number;
  readonly #fd: number;
  readonly #limits: LineLimits;
  readonly #gzip: GzipContent | undefined;
  /** The file has holes that `--reclaim` left. They matter where it is read from its beginning without a checkpoint. */
  #sparse = false;
  #insideHole = false;
  /** It is no text. */
  #unfit = false;
  readonly #head = Buffer.allocUnsafe(HEAD_BYTES);
  #headLength = 0;
  #fullFingerprint = '';
  /** The fingerprint at the offset that reading began at: a compressed file's first bytes come only with the first read. */
  readonly #startPrint: string;

  /**
   * Opens `file` at `from.offset`. Throws the system's error (ENOENT when it has just been renamed or removed), and ESTALE when
   * another file has taken its place.
   */
  constructor(file: Listed, from: Start, since: number, limits: LineLimits) {
    const offset = from.offset;
    this.#startPrint = from.fingerprint;
    this.path = file.path;
    this.dev = file.dev;
    this.ino = file.ino;
    this.since = since;
    this.offset = offset;
    this.#read = offset;
    this.#limits = limits;
    this.#fd = openSync(file.path, 'r');
    let midLine = from.midLine === true;
    try {
      refuseLinkOut(this.#fd, file.path);
      const stat = fstatSync(this.#fd, { bigint: true });
      if (String(stat.ino) !== file.ino || String(stat.dev) !== file.dev) {
        throw Object.assign(new Error('the file was replaced'), { code: 'ESTALE' });
      }
      if (file.compressed) {
        this.#gzip = new GzipContent(this.#fd);
        this.#read = 0;
      } else if (offset > 0) {
        this.#headLength = readSync(this.#fd, this.#head, 0, Math.min(HEAD_BYTES, offset), 0);
        const before = Buffer.alloc(1);
        midLine ||= readSync(this.#fd, before, 0, 1, offset - 1) === 1 && before[0] !== 0x0a;
      }
    } catch (error) {
      closeSync(this.#fd);
      throw error;
    }
    this.lines = new LineBuffer(limits, midLine, from.midLine === true);
    this.mtime = file.mtime;
    this.size = file.size;
  }

  get compressed(): boolean {
    return this.#gzip !== undefined;
  }

  /** Bytes in the file that were not read. */
  get unread(): number {
    if (this.#gzip) return this.#gzip.ended ? 0 : 1;
    return this.#unfit ? 0 : Math.max(0, this.size - this.#read);
  }

  /** True until the first byte of this content has been read. */
  get untouched(): boolean {
    return this.#read === 0 && this.offset === 0;
  }

  get head(): Buffer {
    return this.#head.subarray(0, this.#headLength);
  }

  /** The file cannot grow: it is deleted, or compressed. */
  get unlinked(): boolean {
    return this.#gzip !== undefined || fstatSync(this.#fd).nlink === 0;
  }

  /** The file's first bytes now; does not move the read position. */
  peek(): Buffer {
    return Buffer.from(scratch.subarray(0, this.#gzip ? 0 : readSync(this.#fd, scratch, 0, HEAD_BYTES, 0)));
  }

  /** Refreshes size and mtime. False: the file was truncated, so its content is another one. */
  look(): boolean {
    if (this.#gzip) return true;
    const stat = fstatSync(this.#fd, { bigint: true });
    const size = Number(stat.size);
    if (size < this.#read || !this.#headHolds()) return false;
    this.size = size;
    this.mtime = msFromNs(stat.mtimeNs);
    this.#sparse = Number(stat.blocks) * 512 + HOLE_STEP <= size;
    return true;
  }

  /**
   * Reads once into the line buffer. Returns the bytes read, 0 at the end of the file. Throws for a damaged compressed file, and
   * FollowError for one that nginx writes compressed.
   */
  async fill(): Promise<number> {
    const room = this.lines.room();
    const bytes = this.#gzip ? await this.#fillFromGzip(room) : this.#fillFromFile(room);
    if (this.#read === 0 && !this.#gzip && isWrittenCompressed(room.subarray(0, bytes))) {
      this.#unfit = true;
      throw new FollowError(
        `${this.path} is compressed by nginx as it writes, and cannot be followed: take gzip out of its access_log`,
      );
    }
    if (bytes > 0) {
      this.#keepHead(room.subarray(0, bytes));
      this.#read += bytes;
      this.lines.filled(bytes);
    }
    return bytes;
  }

  /** Begins at 0, as the content was replaced in place. `since`: the earliest time of that, ms. */
  restart(since: number): void {
    this.since = since;
    this.offset = 0;
    this.#read = 0;
    this.#unfit = false;
    this.#headLength = 0;
    this.#fullFingerprint = '';
    this.lines = new LineBuffer(this.#limits);
  }

  /** Advances the offset by a block taken from the line buffer. */
  consume(taken: { bytes: Buffer; newlineAdded?: true }): void {
    this.offset += taken.bytes.length - (taken.newlineAdded ? 1 : 0);
  }

  position(): FilePosition {
    const { dev, ino, offset, since } = this;
    let print = this.#fullFingerprint;
    if (!print) {
      const known = this.#headLength >= Math.min(HEAD_BYTES, offset);
      print = known ? fingerprint(this.#head, offset) : this.#startPrint;
      if (known && offset >= HEAD_BYTES) this.#fullFingerprint = print;
    }
    return { dev, ino, offset, fingerprint: print, since, ...(this.lines.pieceOpen && { midLine: true }) };
  }

  close(): void {
    this.lines.drop();
    if (this.#gzip) this.#gzip.close();
    else closeSync(this.#fd);
  }

  #fillFromFile(room: Buffer): number {
    if (!this.#sparse) return readSync(this.#fd, room, 0, room.length, this.#read);
    for (;;) {
      // Holes begin and end at such a boundary, so a read is all hole or none.
      const length = Math.min(room.length, HOLE_STEP - (this.#read % HOLE_STEP));
      const bytes = readSync(this.#fd, room, 0, length, this.#read);
      const least = this.#insideHole ? 1 : ZEROS.length;
      if (bytes >= least && allZero(room.subarray(0, bytes))) {
        this.#insideHole = true;
      } else if (this.#insideHole && bytes > 0) {
        const rest = room.subarray(0, bytes).indexOf(0x0a) + 1;
        if (rest > 0) {
          this.#insideHole = false;
          this.#skip(rest);
          room.copyWithin(0, rest, bytes);
          if (bytes > rest) return bytes - rest;
          continue;
        }
      } else {
        return bytes;
      }
      this.#skip(bytes);
    }
  }

  /** An earlier process consumed what was reclaimed, and the lines that reach into it. */
  #skip(bytes: number): void {
    this.lines.forget();
    this.#read += bytes;
    this.offset = this.#read;
  }

  /** Skips the content before the saved position, then reads. */
  async #fillFromGzip(room: Buffer): Promise<number> {
    const gzip = this.#gzip!;
    while (this.#read < this.offset) {
      const bytes = await gzip.read(room.subarray(0, Math.min(room.length, this.offset - this.#read)));
      if (bytes === 0)
        throw new Error(`it ends after ${this.#read} bytes, before the saved position ${this.offset}`);
      this.#keepHead(room.subarray(0, bytes));
      this.#read += bytes;
    }
    return gzip.read(room);
  }

  #keepHead(bytes: Buffer): void {
    if (this.#read === this.#headLength && this.#headLength < HEAD_BYTES) {
      this.#headLength += bytes.copy(this.#head, this.#headLength, 0, HEAD_BYTES - this.#headLength);
    }
  }

  #headHolds(): boolean {
    const length = this.#headLength;
    if (length === 0) return true;
    return (
      readSync(this.#fd, scratch, 0, length, 0) === length &&
      scratch.compare(this.#head, 0, length, 0, length) === 0
    );
  }
}

const scratch = Buffer.allocUnsafe(HEAD_BYTES);

function allZero(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; at += ZEROS.length) {
    const length = Math.min(ZEROS.length, bytes.length - at);
    if (bytes.compare(ZEROS, 0, length, at, at + length) !== 0) return false;
  }
  return true;
}
