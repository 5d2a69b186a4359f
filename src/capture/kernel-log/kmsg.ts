/** The kernel's own ring of messages, /dev/kmsg. */
import { closeSync, constants, openSync, read as readFile } from 'node:fs';
import { constants as os } from 'node:os';
import { CaptureError } from '../error.ts';
import type { Libc, Poll } from '../netlink/libc.ts';
import { parseKmsg } from './kmsg-message.ts';
import type { KernelMessage, KernelMessageSource, MessageReading, WallClock } from './messages.ts';

/** A record is at most this long (CONSOLE_EXT_LOG_MAX, printk/internal.h); a shorter buffer gets EINVAL. */
const RECORD_BYTES = 8192;
/** Records taken before the event loop gets its turn. */
const KMSG_READ_LIMIT = 4096;
/** How long a measured offset counts: the kernel's stamps drift by some ms an hour against the wall clock. */
const OFFSET_KEPT_MS = 60_000;
/** More than the drift while an offset counts (ms). */
const BOOT_CLOCK_DRIFT_MS = 1;

/**
 * Wall time of the kernel's stamps. Their clock is never set and drifts, so the offset between the two is measured again
 * and again: a message was logged before it was read, so the smallest difference between the time of reading and the stamp
 * is the best bound, and never too small.
 */
export class StampClock {
  #offset = Number.POSITIVE_INFINITY;
  #next = Number.POSITIVE_INFINITY;
  #since = Number.NEGATIVE_INFINITY;

  /** `readAt` in ms since the epoch. Returns a time that is not before the stamp's, and not after `readAt`. */
  wallTime(stampMs: number, readAt: number): number {
    const offset = readAt - stampMs;
    if (readAt - this.#since > OFFSET_KEPT_MS || readAt < this.#since) {
      this.#offset = this.#next;
      this.#next = Number.POSITIVE_INFINITY;
      this.#since = readAt;
    }
    this.#next = Math.min(this.#next, offset);
    this.#offset = Math.min(this.#offset, offset);
    return Math.min(readAt, stampMs + this.#offset + BOOT_CLOCK_DRIFT_MS);
  }

  /** The wall clock was set. */
  reset(): void {
    this.#offset = Number.POSITIVE_INFINITY;
    this.#next = Number.POSITIVE_INFINITY;
    this.#since = Number.NEGATIVE_INFINITY;
  }
}

export class KmsgSource implements KernelMessageSource {
  readonly #fd: number;
  readonly #poll: Poll;
  readonly #clock: WallClock;
  readonly #stamps = new StampClock();
  readonly #buffer = Buffer.allocUnsafeSlow(RECORD_BYTES);
  #wake: (() => void) | undefined;
  #sequence: number | undefined;
  #closed = false;

  private constructor(libc: Libc, fd: number) {
    this.#fd = fd;
    this.#clock = libc.wallClock;
    this.#poll = libc.poll(fd, () => {
      this.#poll.stop();
      const wake = this.#wake;
      this.#wake = undefined;
      wake?.();
    });
  }

  /** At the end of the ring: what was logged before is not read. Rejects with `CaptureError`. */
  static async open(libc: Libc, path: string): Promise<KmsgSource> {
    let fd: number;
    try {
      fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch (error) {
      throw cannotOpen(path, error as NodeJS.ErrnoException);
    }
    const source = new KmsgSource(libc, fd);
    while ((await source.#readAll(() => {})) === 'more');
    return source;
  }

  watch(wake: () => void): void {
    if (this.#closed) return;
    this.#wake = wake;
    this.#poll.start();
  }

  async read(): Promise<MessageReading> {
    const completeUntil = this.#clock();
    const reading: MessageReading = {
      messages: [],
      lost: 0,
      incomplete: false,
      notKernel: 0,
      unknownLayout: 0,
      completeUntil,
    };
    const end = await this.#readAll((bytes) => this.#take(bytes, reading));
    // Unread messages were logged before now, so the record is complete only up to the last one that was read.
    if (end === 'more') reading.completeUntil = reading.messages.at(-1)?.t ?? Number.NEGATIVE_INFINITY;
    return reading;
  }

  #take(bytes: Buffer, reading: MessageReading): void {
    const record = parseKmsg(bytes.toString('latin1'));
    if (record === undefined) return;
    const expected = this.#sequence === undefined ? record.sequence : this.#sequence + 1;
    if (record.sequence > expected) {
      reading.lost += record.sequence - expected;
      reading.incomplete = true;
    }
    this.#sequence = record.sequence;
    const t = this.#stamps.wallTime(record.stampMs, this.#clock());
    const message: KernelMessage = { text: record.text, t };
    // Privileged processes may write into the ring, too; only the kernel's own messages count.
    if (record.kernel) reading.messages.push(message);
  }

  async #readAll(visit: (bytes: Buffer) => void): Promise<'end' | 'more'> {
    for (let i = 0; i < KMSG_READ_LIMIT; i++) {
      const length = await this.#readOne();
      if (this.#closed || length === -os.errno.EAGAIN) return 'end';
      // The kernel overwrote unread messages; the next record's number says how many.
      if (length === -os.errno.EPIPE || length === -os.errno.EINTR) continue;
      if (length <= 0) throw new CaptureError('kernel-log', `cannot read the kernel log: errno ${-length}`);
      visit(this.#buffer.subarray(0, length));
    }
    return 'more';
  }

  #readOne(): Promise<number> {
    return new Promise((resolve) => {
      readFile(this.#fd, this.#buffer, 0, RECORD_BYTES, null, (error, length) => {
        // Node gives minus the errno of the call.
        resolve(error ? (error.errno ?? -os.errno.EIO) : length);
      });
    });
  }

  clockSet(): void {
    this.#stamps.reset();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#poll.close();
    closeSync(this.#fd);
  }
}

function cannotOpen(path: string, { code }: NodeJS.ErrnoException): CaptureError {
  if (code === 'EPERM' || code === 'EACCES') {
    return new CaptureError(
      'permission',
      `cannot read ${path}: not permitted. The helper needs the capability SYSLOG (or sysctl kernel.dmesg_restrict=0)`,
    );
  }
  return new CaptureError(
    code ?? 'kernel-log',
    code === 'ENOENT'
      ? `${path} is not there: mount the node's ${path} into the container, or name a syslog file with --kernel-log`
      : `cannot read ${path}: ${code}`,
  );
}
