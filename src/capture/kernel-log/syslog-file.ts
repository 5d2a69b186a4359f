/** The kernel's messages as a syslog daemon writes them into a file. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { FollowError, type Follower, openFollower } from '../../follow/follower.ts';
import { fingerprint, HEAD_BYTES, type LogPosition } from '../../follow/position.ts';
import { CaptureError } from '../error.ts';
import type { KernelMessageSource, MessageReading, WallClock } from './messages.ts';
import { parseSyslogLine } from './syslog-line.ts';

/** How long a message may take from the kernel into the file (ms). What takes longer comes after its watermark. */
export const SYSLOG_LAG_MS = 500;
/** A stamp further than this from the time of reading is of another time zone, or of a wrong clock (ms). */
const PLAUSIBLE_MS = 60_000;
const MAX_SYSLOG_LINE_BYTES = 8192;
/** How much of a line that cannot be read is shown. */
const SHOWN_BYTES = 120;
/** Limit of messages that wait to be read. Further ones are dropped and counted as lost. */
const MAX_WAITING = 16_384;

const NEWLINE = 0x0a;

type Notice = (level: 'info' | 'warn' | 'error', text: string) => void;

/** What the daemon itself loses does not show, except where journald writes it down. */
export class SyslogFile implements KernelMessageSource {
  readonly #clock: WallClock;
  readonly #follower: Follower;
  readonly #path: string;
  readonly #notice: Notice;
  #reading: MessageReading = newReading();
  /** Whether a line of a known layout was read, or the operator knows that none was. */
  #layoutKnown = false;
  #failure: CaptureError | undefined;
  #wake: (() => void) | undefined;

  /** From the present end of the file on. Throws `CaptureError`. */
  constructor(path: string, clock: WallClock, onNotice: Notice) {
    this.#clock = clock;
    this.#path = path;
    this.#notice = onNotice;
    try {
      this.#follower = openFollower(path, {
        resume: endOf(path, clock()),
        maxLine: MAX_SYSLOG_LINE_BYTES,
        clock,
        onNotice: (level, text) => {
          if (level === 'error') this.#reading.incomplete = true;
          onNotice(level, `${path}: ${text}`);
        },
      });
    } catch (error) {
      throw new CaptureError('kernel-log', error instanceof Error ? error.message : String(error));
    }
    void this.#follow();
  }

  async #follow(): Promise<void> {
    try {
      for (;;) {
        const block = await this.#follower.next();
        if (block === undefined) return;
        this.#take(block.bytes, block.readAt);
        this.#wake?.();
        this.#wake = undefined;
      }
    } catch (error) {
      const reason = error instanceof FollowError ? error.message : String(error);
      this.#failure = new CaptureError('kernel-log', reason);
      this.#wake?.();
    }
  }

  #take(bytes: Buffer, readAt: number): void {
    const reading = this.#reading;
    for (let start = 0; start < bytes.length; ) {
      const newline = bytes.indexOf(NEWLINE, start);
      const end = newline < 0 ? bytes.length : newline;
      const line = parseSyslogLine(bytes.toString('latin1', start, end), readAt);
      if (line === 'unknown-layout') this.#unknownLayout(bytes, start, end);
      else this.#layoutKnown = true;
      start = end + 1;
      if (typeof line === 'string') {
        if (line === 'not-kernel') reading.notKernel++;
        continue;
      }
      if ('missed' in line || reading.messages.length >= MAX_WAITING) {
        reading.lost += 'missed' in line ? line.missed : 1;
        reading.incomplete = true;
      } else {
        reading.messages.push({ text: line.text, t: boundedTime(line.at + line.step, readAt) });
      }
    }
  }

  /** Says it once, before any line was understood: then nothing of this file can be read. */
  #unknownLayout(bytes: Buffer, start: number, end: number): void {
    if (start === end) return;
    this.#reading.unknownLayout++;
    if (this.#layoutKnown) return;
    this.#layoutKnown = true;
    const line = bytes.toString('latin1', start, Math.min(end, start + SHOWN_BYTES));
    this.#notice(
      'warn',
      `${this.#path}: the layout of its lines is not known, so connections in it go unseen; --kernel-log /dev/kmsg needs none. A line: ${JSON.stringify(line)}`,
    );
  }

  watch(wake: () => void): void {
    if (this.#reading.messages.length > 0 || this.#failure) wake();
    else this.#wake = wake;
  }

  async read(): Promise<MessageReading> {
    if (this.#failure) throw this.#failure;
    const reading = this.#reading;
    this.#reading = newReading();
    reading.completeUntil = this.#clock() - SYSLOG_LAG_MS;
    return reading;
  }

  /** The stamps are the daemon's and are compared with the time of reading. */
  clockSet(): void {}

  close(): void {
    this.#wake = undefined;
    this.#follower.stop();
  }
}

function newReading(): MessageReading {
  return { messages: [], lost: 0, incomplete: false, completeUntil: 0, notKernel: 0, unknownLayout: 0 };
}

/** `latest`: the last instant that the stamp can mean; NaN where there is none. */
function boundedTime(latest: number, readAt: number): number {
  return latest <= readAt && latest > readAt - PLAUSIBLE_MS ? latest : readAt;
}

/** The position of a reader that has seen all of the file; of none, where the file is not there yet. */
function endOf(path: string, now: number): LogPosition | undefined {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    throw new CaptureError(code ?? 'kernel-log', `cannot read ${path}: ${code}`);
  }
  try {
    const { dev, ino, size, birthtimeMs } = fstatSync(fd, { bigint: true });
    const head = Buffer.alloc(HEAD_BYTES);
    const length = readSync(fd, head, 0, HEAD_BYTES, 0);
    const offset = lastLineEnd(fd, Number(size));
    return {
      dev: String(dev),
      ino: String(ino),
      offset,
      fingerprint: fingerprint(head.subarray(0, length), offset),
      since: birthtimeMs > 0 ? Number(birthtimeMs) : now,
      older: [],
    };
  } finally {
    closeSync(fd);
  }
}

/** A daemon may be in the middle of a line: that one is read whole. */
function lastLineEnd(fd: number, size: number): number {
  const tail = Buffer.alloc(Math.min(size, MAX_SYSLOG_LINE_BYTES));
  const length = readSync(fd, tail, 0, tail.length, size - tail.length);
  const newline = tail.subarray(0, length).lastIndexOf(NEWLINE);
  return newline < 0 ? size : size - tail.length + newline + 1;
}
