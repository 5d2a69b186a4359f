import type { LastReading } from './last-reading.ts';
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
/** Requests that one reading of several may bring, so that they fit the caches and the receive buffer: more shorten the next pause. */
const GATHERED_REQUESTS = 600;
const LEAST_GATHER_MS = 10;

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

/**
 * Schedules the readings: at once after quiet, then with pauses in which messages collect, so that load costs little. Where
 * requests are told apart by ids, the pauses are as long as all readers of the feed allow: each wake-up costs as much as tens
 * of requests, here and in each reader.
 */
export class Wakeups {
  readonly #parts: WakeupParts;
  readonly #last: LastReading;
  /** Conntrack is read as soon as an event arrives, for exact event times. */
  #prompt = false;
  /** How long all readers let records be gathered (ms). */
  #gatherMs = 0;
  /** The last pause in which records were gathered (ms). */
  #gatheredMs = 0;
  #timer: NodeJS.Timeout | undefined;
  #immediate: NodeJS.Immediate | undefined;
  #waking = false;
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

  /** Where requests have ids, records may be gathered for `ms`. */
  gather(ms: number): void {
    this.#gatherMs = ms;
  }

  /** During a reading: whether the next one comes in any case, at most a batch later. */
  get isReadAgain(): boolean {
    return this.#gathers && (this.#timer !== undefined || (this.#waking && this.#isFollowed));
  }

  /** More is gathered after a reading that brought something. */
  get #isFollowed(): boolean {
    return this.#last.messages > 0 || this.#parts.hasLeft();
  }

  get #gathers(): boolean {
    return this.#gatherMs > 0 && !this.#prompt && this.#last.toldByIds;
  }

  readonly #arm = (): void => {
    this.#timer = undefined;
    this.#parts.conntrack?.watch(this.#conntrackReadable);
    this.#parts.tap?.watch(this.#readable);
  };

  /** The first message after quiet. */
  readonly #readable = (): void => {
    if (this.#gathers) this.#rest(this.#gatherMs, this.#wake);
    else this.#wake();
  };

  #rest(ms: number, then: () => void): void {
    this.#unwatch();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(then, ms);
  }

  #unwatch(): void {
    if (!this.#prompt || this.#closed) this.#parts.conntrack?.unwatch();
    this.#parts.tap?.unwatch();
  }

  readonly #conntrackReadable = (): void => {
    if (!this.#prompt || this.#closed) {
      this.#readable();
      return;
    }
    this.#parts.readConntrack();
    if (this.#timer === undefined) this.#timer = setTimeout(this.#wake, this.#pause(this.#isQuiet()));
  };

  #isQuiet(): boolean {
    return this.#parts.monotonic() - this.#last.at > IDLE_MS;
  }

  #pause(quiet: boolean): number {
    if (quiet) return FIRST_REST_MS;
    return this.#last.requests >= BUSY_REQUESTS && !this.#prompt ? BUSY_REST_MS : REST_MS;
  }

  readonly #wake = (): void => {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#unwatch();
    const quiet = this.#isQuiet();
    this.#waking = true;
    const isEmpty = this.#parts.read();
    this.#waking = false;
    if (!isEmpty) this.#immediate = setImmediate(this.#wake);
    else if (!this.#gathers) this.#rest(this.#pause(quiet), this.#rested);
    else if (this.#isFollowed) this.#rest(this.#nextGather(), this.#wake);
    else this.#arm();
  };

  #nextGather(): number {
    const fits = ((this.#gatheredMs || this.#gatherMs) * GATHERED_REQUESTS) / this.#last.requests;
    this.#gatheredMs = Math.min(this.#gatherMs, Math.max(LEAST_GATHER_MS, fits));
    return this.#gatheredMs;
  }

  readonly #rested = (): void => {
    // Messages that were read but not delivered make no socket readable.
    if (this.#parts.hasLeft()) this.#wake();
    else this.#arm();
  };
}
