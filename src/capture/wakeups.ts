import type { NetlinkSource } from './netlink-source.ts';

/** Pause between two readings (ms), and after a reading that followed `IDLE_MS` without one. */
const REST_MS = 5;
const FIRST_REST_MS = 1;
const IDLE_MS = 20;
/**
 * The pause (ms) after a reading of many requests. Each reading costs every reader of the feed far more than a request does,
 * and at such a rate requests are too close for a shorter pause to separate them.
 */
const BUSY_REST_MS = 8;
const BUSY_REQUESTS = 12;

export interface WakeupParts {
  conntrack: NetlinkSource | undefined;
  tap: NetlinkSource | undefined;
  /** Ms since any fixed moment, never set. */
  monotonic(): number;
  /** Reads all sockets and delivers. True if they are empty. */
  read(): boolean;
  /** Reads conntrack's socket only; delivers nothing. */
  readConntrack(): void;
  /** Whether messages that were read wait for the next reading. */
  hasLeft(): boolean;
}

/** The last reading, which determines the next pause. */
export interface LastReading {
  /** Monotonic time (ms). */
  at: number;
  /** Requests read. */
  requests: number;
}

/** Schedules the readings: at once after quiet, then with pauses in which messages collect, so that load costs little. */
export class Wakeups {
  readonly #parts: WakeupParts;
  readonly #last: LastReading;
  /** Conntrack is read as soon as an event arrives, for exact event times. */
  #prompt = false;
  #timer: NodeJS.Timeout | undefined;
  #immediate: NodeJS.Immediate | undefined;
  #closed = false;

  constructor(parts: WakeupParts, last: LastReading) {
    this.#parts = parts;
    this.#last = last;
  }

  start(): void {
    this.#arm();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearImmediate(this.#immediate);
    this.#unwatch();
  }

  get prompt(): boolean {
    return this.#prompt;
  }

  /** True if this changes the mode. Prompt reading costs one or two system calls for each event. */
  readPromptly(prompt: boolean): boolean {
    if (this.#prompt === prompt || this.#closed) return false;
    this.#prompt = prompt;
    if (prompt) this.#parts.conntrack?.watch(this.#conntrackReadable);
    return true;
  }

  readonly #arm = (): void => {
    this.#timer = undefined;
    this.#parts.conntrack?.watch(this.#conntrackReadable);
    this.#parts.tap?.watch(this.#wake);
  };

  #unwatch(): void {
    if (!this.#prompt || this.#closed) this.#parts.conntrack?.unwatch();
    this.#parts.tap?.unwatch();
  }

  readonly #conntrackReadable = (): void => {
    if (!this.#prompt || this.#closed) {
      this.#wake();
      return;
    }
    this.#parts.readConntrack();
    if (this.#timer === undefined) this.#timer = setTimeout(this.#wake, this.#rest(this.#isQuiet()));
  };

  #isQuiet(): boolean {
    return this.#parts.monotonic() - this.#last.at > IDLE_MS;
  }

  #rest(quiet: boolean): number {
    if (quiet) return FIRST_REST_MS;
    return this.#last.requests >= BUSY_REQUESTS && !this.#prompt ? BUSY_REST_MS : REST_MS;
  }

  readonly #wake = (): void => {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#unwatch();
    const quiet = this.#isQuiet();
    if (this.#parts.read()) this.#timer = setTimeout(this.#rested, this.#rest(quiet));
    else this.#immediate = setImmediate(this.#wake);
  };

  readonly #rested = (): void => {
    // Messages that were read but not delivered make no socket readable.
    if (this.#parts.hasLeft()) this.#wake();
    else this.#arm();
  };
}
