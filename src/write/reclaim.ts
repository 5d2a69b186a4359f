import { spawn } from 'node:child_process';
import { closeSync, fstatSync, openSync } from 'node:fs';
import type { LogPosition } from '../follow/position.ts';

/** Holes begin and end on a multiple of this: every file system's block size divides it. Bytes. */
const STEP = 1024 * 1024;
/** A child process costs some milliseconds: at least this much at a time, bytes, */
const LEAST = 8 * STEP;
/** or less after this time, ms. */
const AT_LEAST_EVERY_MS = 10_000;
/** Interval of attempts on a file that was refused (ms): its rights may have changed. */
const RETRY_EVERY_MS = 60_000;
const REFUSED_NOTE =
  'this file keeps its space. After a rotation the new file has to be writable for this user (logrotate: `create 0666`), or logrotate has to bound the space';

export interface ReclaimerStats {
  punchedBytes: number;
  punches: number;
  failures: number;
}

export interface ReclaimerOptions {
  onNotice?: (level: 'info' | 'warn' | 'error', text: string) => void;
  /** Wall clock, ms since the epoch. */
  clock?: () => number;
  /** The command that punches: util-linux's fallocate. */
  command?: string;
}

/**
 * Frees the consumed part of the log (fallocate(2), FALLOC_FL_PUNCH_HOLE with KEEP_SIZE). Inode, size and offsets do not
 * change, so nginx is not affected. The first STEP bytes stay: the follower identifies the file by them.
 *
 * The hole is punched through an open descriptor whose inode is the position's, so a rotation in between cannot affect
 * another file. One child at a time. A refusal (file system, rights, no such command) is reported once for each file;
 * the file is tried again at intervals, and so is the next one.
 */
export class Reclaimer {
  readonly stats: ReclaimerStats = { punchedBytes: 0, punches: 0, failures: 0 };
  readonly #log: string;
  readonly #options: ReclaimerOptions;
  readonly #clock: () => number;
  #fd: number | undefined;
  #ino = '';
  #since = 0;
  /** The hole's end; its beginning is behind the first step. */
  #punched = STEP;
  #punchedAt: number;
  #busy: Promise<void> | undefined;
  #closed = false;
  /** No attempt before this time, as the file was refused (ms). */
  #pauseUntil = Number.NEGATIVE_INFINITY;
  /** The inode of the refused file, which was reported. */
  #reported = '';

  constructor(log: string, options: ReclaimerOptions = {}) {
    this.#log = log;
    this.#options = options;
    this.#clock = options.clock ?? Date.now;
    this.#punchedAt = this.#clock();
  }

  /** Bytes of the log before `position` are not needed any more. Cheap when there is nothing to do; call it at each checkpoint. */
  advance(position: LogPosition): void {
    if (this.#closed || this.#busy) return;
    if (position.ino === this.#reported && this.#clock() < this.#pauseUntil) return;
    if (position.ino !== this.#ino || position.since !== this.#since || position.offset < this.#punched) {
      if (!this.#begin(position)) return;
    }
    const to = position.offset - (position.offset % STEP);
    const length = to - this.#punched;
    const now = this.#clock();
    if (length < STEP || (length < LEAST && now - this.#punchedAt < AT_LEAST_EVERY_MS)) return;
    this.#punchedAt = now;
    this.#busy = this.#punch(this.#punched, length);
  }

  /** Waits for the hole that is being punched. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#busy;
    this.#release();
  }

  /** Starts on another file, or on new content. False: it is not at the log's path, so the rotator frees its space. */
  #begin(position: LogPosition): boolean {
    if (position.ino === this.#ino && position.since === this.#since) return false;
    this.#release();
    this.#ino = position.ino;
    this.#since = position.since;
    this.#punched = STEP;
    try {
      this.#fd = openSync(this.#log, 'r+');
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code !== 'ENOENT')
        this.#refused(position.ino, `${this.#log} cannot be opened for writing (${message})`);
      return false;
    }
    const stat = fstatSync(this.#fd, { bigint: true });
    if (String(stat.ino) === position.ino && String(stat.dev) === position.dev) return true;
    this.#release();
    return false;
  }

  async #punch(offset: number, length: number): Promise<void> {
    const refusal = await run(this.#options.command ?? 'fallocate', offset, length, this.#fd!);
    this.#busy = undefined;
    if (refusal !== undefined) {
      this.#refused(this.#ino, refusal);
      return;
    }
    this.#punched = offset + length;
    this.stats.punches++;
    this.stats.punchedBytes += length;
  }

  #refused(ino: string, why: string): void {
    this.stats.failures++;
    this.#release();
    this.#pauseUntil = this.#clock() + RETRY_EVERY_MS;
    if (ino === this.#reported) return;
    this.#reported = ino;
    this.#options.onNotice?.('warn', `--reclaim: ${why}; ${REFUSED_NOTE}`);
  }

  #release(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
    this.#ino = '';
  }
}

/** Runs fallocate on an open descriptor, number 3 in the child. Resolves with why it failed, or undefined. */
function run(command: string, offset: number, length: number, fd: number): Promise<string | undefined> {
  const args = ['--punch-hole', '--offset', String(offset), '--length', String(length), '/proc/self/fd/3'];
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe', fd] });
    let said = '';
    child.stderr!.on('data', (text: Buffer) => {
      said = (said + text.toString()).slice(0, 300);
    });
    child.on('error', (error) => resolve(`${command} cannot be run (${error.message})`));
    child.on('close', (code) => {
      resolve(
        code === 0
          ? undefined
          : `${command} failed (${said.trim().split('\n').at(-1) || `exit code ${code}`})`,
      );
    });
  });
}

export function openReclaimer(log: string, options: ReclaimerOptions = {}): Reclaimer {
  return new Reclaimer(log, options);
}
