import {
  closeSync,
  copyFileSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { Random } from './random.ts';

/** What was written between the beginning of a log file (or its truncation) and its end. */
export interface Generation {
  /** One character a byte (latin1), \n included. */
  lines: string[];
}

interface Writer {
  fd: number;
  generation: Generation;
  file: File;
}

/** One inode. */
interface File {
  path: string;
  generation: Generation;
  /** Ends in the middle of a line, which a reader waits for: it is not read to its end as long as the newer file is empty. */
  torn: boolean;
}

/** An nginx with two workers, and a rotator, on real files; and what a perfect reader would have read. */
export class LogWorld {
  readonly path: string;
  readonly generations: Generation[] = [];
  /** A line went into another file than the newest. */
  lateWrites = 0;
  #renames = 0;
  #copies = 0;
  #compressed = 0;
  /** Content was taken away, so that a reader that comes back has to say that lines may be missing. */
  destroyed = 0;
  readonly #dir: string;
  readonly #random: Random;
  readonly #maxLine: number;
  #writers: Writer[] = [];
  #rotated: File[] = [];
  #live: File | undefined;
  #partial: { writer: Writer; line: string; written: number } | undefined;
  #lines = 0;
  #names = 0;

  constructor(dir: string, random: Random, maxLine: number) {
    this.#dir = dir;
    this.path = join(dir, 'access.log');
    this.#random = random;
    this.#maxLine = maxLine;
  }

  /**
   * Whether the order of the files can be told from them. Not when one log is rotated in both ways, nor when a file that
   * got late lines is compressed: then only its last write says where it stands.
   */
  get ordered(): boolean {
    return (this.#renames === 0 || this.#copies === 0) && (this.lateWrites === 0 || this.#compressed === 0);
  }

  /** nginx starts: both workers open the log. */
  start(): void {
    this.#writers = [this.#open(), this.#open()];
  }

  get started(): boolean {
    return this.#writers.length > 0;
  }

  write(allowLate: boolean): void {
    const writer = this.#random.pick(this.#writers);
    if (!allowLate && writer.generation !== this.generations.at(-1)) return;
    this.finishPartial(writer);
    if (this.#partial && this.#partial.writer.file === writer.file) return;
    for (let n = this.#random.int(1, 6); n > 0; n--) this.#append(writer, this.#line());
    if (writer.generation !== this.generations.at(-1)) this.lateWrites++;
  }

  /** Part of a line, as at a full disk; the rest comes with the writer's next write, or never. */
  writePart(): void {
    const writer = this.#random.pick(this.#writers);
    if (this.#partial || writer.generation !== this.generations.at(-1)) return;
    const line = this.#line();
    const bytes = Buffer.from(line, 'latin1');
    // Beyond the number, as two contents that begin alike cannot be told apart.
    const written = this.#random.int(line.indexOf(' ') + 1, bytes.length - 2);
    writeSync(writer.fd, bytes, 0, written);
    this.#partial = { writer, line, written };
  }

  finishPartial(writer: Writer | undefined = this.#partial?.writer): void {
    const partial = this.#partial;
    if (!partial || partial.writer !== writer) return;
    this.#partial = undefined;
    writeSync(writer.fd, Buffer.from(partial.line, 'latin1'), partial.written);
    writer.generation.lines.push(partial.line);
  }

  /** The writer is killed in the middle of its line: the bytes stay, a reader is to give them a newline. */
  abandonPartial(): void {
    const partial = this.#partial;
    if (!partial) return;
    this.#partial = undefined;
    partial.writer.file.torn = true;
    partial.writer.generation.lines.push(`${partial.line.slice(0, partial.written)}\n`);
    this.rename();
    this.reopen(true);
  }

  /** Renames the log; `reopen` makes the new one. */
  rename(): void {
    if (!this.#live || !existsSync(this.path)) return;
    const to = this.#freeName();
    renameSync(this.path, to);
    this.#renames++;
    this.#live.path = to;
    this.#rotated.push(this.#live);
    this.#live = undefined;
  }

  /** nginx -s reopen, as far as one worker has come; `all`: both. A partial line is finished first. */
  reopen(all: boolean): void {
    const which = all ? [0, 1] : [this.#random.int(0, 1)];
    for (const n of which) {
      const writer = this.#writers[n]!;
      this.finishPartial(writer);
      closeSync(writer.fd);
      this.#writers[n] = this.#open();
    }
  }

  /** logrotate's copytruncate, in an instant in which nobody writes. */
  copyTruncate(): void {
    const live = this.#live;
    if (!live || !existsSync(this.path)) return;
    if (this.#partial?.writer.file === live) this.finishPartial();
    const to = this.#freeName();
    copyFileSync(this.path, to);
    this.#copies++;
    this.#rotated.push({ path: to, generation: live.generation, torn: false });
    this.#empty(live);
  }

  /** `> access.log`: unread lines are gone, so the test has the reader read first. */
  truncate(): void {
    const live = this.#live;
    if (!live || !existsSync(this.path)) return;
    if (this.#partial?.writer.file === live) return;
    this.destroyed++;
    this.#empty(live);
  }

  /** Compresses a rotated file nobody writes to any more, as gzip and logrotate do: the time of the last write is kept. */
  gzip(): void {
    const file = this.#random.pick(this.#idle());
    if (!file) return;
    this.#compressed++;
    const { mtimeMs, atimeMs } = statSync(file.path);
    writeFileSync(`${file.path}.gz`, gzipSync(readFileSync(file.path)));
    utimesSync(`${file.path}.gz`, atimeMs / 1000, mtimeMs / 1000);
    unlinkSync(file.path);
    file.path += '.gz';
  }

  /** Deletes a rotated file; only for one that has been read. */
  deleteRotated(): void {
    const file = this.#random.pick(this.#idle());
    if (!file || file.torn) return;
    this.destroyed++;
    rmSync(file.path);
    this.#rotated.splice(this.#rotated.indexOf(file), 1);
  }

  /** Deletes the log itself; nginx makes a new one. Only when it has been read. */
  deleteLive(): void {
    if (!this.#live || !existsSync(this.path) || this.#partial) return;
    this.destroyed++;
    unlinkSync(this.path);
    this.#live = undefined;
    this.reopen(true);
  }

  /** The log's files: name, inode, size, birth and last write in ms within the minute. */
  listing(): string {
    const files = readdirSync(this.#dir).filter((name) => name.startsWith('access.log'));
    const stats = files.map((name) => ({ name: name.slice(10), ...statSync(join(this.#dir, name)) }));
    const ms = (time: number): string => (time % 60_000).toFixed(1);
    return stats
      .sort((a, b) => a.birthtimeMs - b.birthtimeMs)
      .map((stat) => `${stat.name}:${stat.ino}:${stat.size}:${ms(stat.birthtimeMs)}:${ms(stat.mtimeMs)}`)
      .join('  ');
  }

  close(): void {
    for (const writer of this.#writers) closeSync(writer.fd);
  }

  #idle(): File[] {
    return this.#rotated.filter(
      (file) => !file.path.endsWith('.gz') && !this.#writers.some((writer) => writer.file === file),
    );
  }

  #open(): Writer {
    if (!this.#live) {
      this.finishPartial();
      this.#tick();
    }
    const fd = openSync(this.path, 'a');
    if (!this.#live) {
      const generation = { lines: [] };
      this.generations.push(generation);
      this.#live = { path: this.path, generation, torn: false };
    }
    return { fd, generation: this.#live.generation, file: this.#live };
  }

  #empty(live: File): void {
    truncateSync(this.path);
    this.#tick();
    live.generation = { lines: [] };
    this.generations.push(live.generation);
    for (const writer of this.#writers) if (writer.file === live) writer.generation = live.generation;
  }

  /** Waits for the file system's clock (up to 4 ms a step) to go on, so that no two files are born at the same time. */
  #tick(): void {
    const probe = join(this.#dir, 'probe');
    const stamp = (): number => {
      writeFileSync(probe, '');
      return statSync(probe).mtimeMs;
    };
    const before = stamp();
    while (stamp() === before);
    rmSync(probe);
  }

  #append(writer: Writer, line: string): void {
    writeSync(writer.fd, Buffer.from(line, 'latin1'));
    writer.generation.lines.push(line);
  }

  #line(): string {
    const id = `${++this.#lines}`;
    const kind = this.#random.int(0, 19);
    let text = `10.244.0.1 - - "GET /test HTTP/1.1" 200 ${'é'.repeat(this.#random.int(0, 20))}`;
    if (kind === 0) text = 'ü€😀x'.repeat(this.#random.int(1, 100));
    if (kind === 1) text = 'o'.repeat(this.#maxLine + this.#random.int(-10, 500));
    return Buffer.from(`${id} ${text}\n`).toString('latin1');
  }

  /** Rotators number upwards, downwards or by date. */
  #freeName(): string {
    const n = ++this.#names;
    const style = this.#random.int(0, 2);
    if (style === 0) return `${this.path}.${n}`;
    if (style === 1) return `${this.path}-202601${String(n).padStart(2, '0')}`;
    return `${this.path}.${1000 - n}`;
  }
}
