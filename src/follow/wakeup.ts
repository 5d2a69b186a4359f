import { type FSWatcher, statSync, watch } from 'node:fs';
import { basename, dirname } from 'node:path';
import { untilLook } from '../each-second.ts';
import { EvidenceTimes } from './evidence-times.ts';
import { rotatedKind } from './rotation.ts';

/** When to look at the log again. */
interface Pace {
  /** Least time between two productive looks (ms), while waiting for events and while polling. */
  gap: number;
  poll: number;
  /** After this many waits in a row that an event ended, poll: an event costs 10 µs, and the wake-up for it far more. */
  busy: number;
  /** After this many looks in a row that found nothing, go back to waiting for events. */
  idle: number;
}

/** One read gets many lines of a busy nginx. */
const STEADY: Pace = { gap: 4, poll: 12, busy: 8, idle: 12 };
/** Where a line is to be read as soon as it is written: when it was read is evidence. */
const PROMPT: Pace = { gap: 0.2, poll: 2, busy: 256, idle: 12 };
/** Look without an event each second, and so often where inotify is unavailable (its limits are per user; ms): on some network file systems it is silent. */
const SAFETY_UNWATCHED_MS = 100;
/** A look may be so much early or late (ms): to time it better would cost a wake-up of its own. */
const TOLERANCE_MS = 3;

/**
 * Times the looks at the log: at once after an idle time; under load rarely, when the feed brings evidence. Where lines may
 * be gathered, once for each batch of evidence, shortly before it comes: its lines then leave with it.
 */
export class Wakeup {
  #pace: Pace;
  /** How long the lines of a batch are gathered (ms); 0: not at all. */
  readonly #batchMs: number;
  #gathers = false;
  readonly #evidence: EvidenceTimes;
  readonly #path: string;
  readonly #base: string;
  #watcher: FSWatcher | undefined;
  #watched = '';
  /** The log may have changed since the last look. */
  #pending = true;
  #lastFound = Number.NEGATIVE_INFINITY;
  #lastLook = Number.NEGATIVE_INFINITY;
  #early = 0;
  #empty = 0;
  #polling = false;
  /** A look is wanted at once. */
  #now = false;
  /** When the present wait ends by itself. */
  #due = Number.NEGATIVE_INFINITY;
  #closed = false;
  #wake: (() => void) | undefined;
  #hasten: (() => void) | undefined;

  /** `prompt`: as soon as something was written, whatever that costs. `batchMs`: how long lines may be gathered otherwise. */
  constructor(path: string, prompt = false, batchMs = 0) {
    this.#pace = prompt ? PROMPT : STEADY;
    this.#batchMs = prompt ? 0 : batchMs;
    this.#evidence = new EvidenceTimes(batchMs);
    this.#path = path;
    this.#base = basename(path);
  }

  /** Resolves when it is time to look, after `atMost` ms at the latest. */
  async wait(atMost = Number.POSITIVE_INFINITY): Promise<void> {
    if (!this.#polling) this.#watch();
    if (!this.#pending && !this.#polling) {
      await this.#sleep(Math.min(atMost, this.#watcher ? untilLook(Date.now()) : SAFETY_UNWATCHED_MS), true);
    }
    const gap = this.#lastFound + this.#pace.gap - performance.now();
    const early = !this.#polling && this.#pending && gap > 0;
    if (early && ++this.#early >= this.#pace.busy) this.#poll();
    else if (this.#pending && !early) this.#early = 0;
    if (this.#polling) await this.#untilPoll(atMost);
    else if (early) await this.#sleep(gap, false);
    this.#pending = false;
  }

  /** Whether lines may be gathered for `batchMs`. */
  gather(gathers: boolean): void {
    if (this.#batchMs === 0 || gathers === this.#gathers) return;
    this.#gathers = gathers;
    this.#pace = gathers ? { gap: this.#batchMs, poll: this.#batchMs, busy: 1, idle: 2 } : STEADY;
  }

  get gathers(): boolean {
    return this.#gathers;
  }

  async #untilPoll(atMost: number): Promise<void> {
    const begun = performance.now();
    for (;;) {
      const now = performance.now();
      const due = Math.min(begun + atMost, this.#nextPoll());
      const tolerance = this.#gathers ? TOLERANCE_MS : 0;
      if (now + tolerance >= due || this.#now || this.#closed) return;
      this.#due = due;
      const hastened = await this.#sleep(Math.ceil(due - now), false);
      if (hastened && (!this.#gathers || this.#now)) return;
    }
  }

  #nextPoll(): number {
    if (this.#gathers) return this.#evidence.nextLook(this.#lastLook);
    return Math.max(this.#lastFound + this.#pace.poll, this.#lastLook + 1);
  }

  /** Call after each look; `found`: it returned something. */
  looked(found: boolean): void {
    this.#lastLook = performance.now();
    this.#now = false;
    if (found) {
      this.#lastFound = this.#lastLook;
      this.#empty = 0;
      return;
    }
    if (!this.#polling || ++this.#empty < this.#pace.idle) return;
    this.#polling = false;
    this.#early = 0;
    // Writes from before the watch cause no event.
    this.#pending = true;
  }

  /** Evidence for the lines in the log has come, complete up to `lagMs` ago. */
  hasten(lagMs: number): void {
    this.#evidence.came(performance.now(), lagMs);
    // With a batch of evidence the time of the next one is known better. A timer that is set anew wakes the process twice.
    if (!this.#gathers || this.#nextPoll() < this.#due - TOLERANCE_MS) this.#hasten?.();
  }

  lookNow(): void {
    this.#now = true;
    this.#pending = true;
    this.#hasten?.();
    this.#wake?.();
  }

  close(): void {
    this.#closed = true;
    this.#unwatch();
    this.#wake?.();
  }

  /** Whether `hasten` ended it. */
  #sleep(ms: number, untilEvent: boolean): Promise<boolean> {
    if (this.#closed) return Promise.resolve(false);
    return new Promise((resolve) => {
      const done = (hastened = false): void => {
        clearTimeout(timer);
        this.#wake = undefined;
        this.#hasten = undefined;
        resolve(hastened);
      };
      const timer = setTimeout(done, ms);
      if (!untilEvent) this.#hasten = () => done(true);
      this.#wake = () => {
        if (untilEvent || this.#closed) done();
      };
    });
  }

  #poll(): void {
    this.#polling = true;
    this.#empty = 0;
    this.#unwatch();
  }

  /** Watches the log's directory; watches again after the directory was replaced. */
  #watch(): void {
    if (this.#closed) return;
    const directory = dirname(this.#path);
    const stat = statSync(directory, { bigint: true, throwIfNoEntry: false });
    const identity = stat ? `${stat.dev}:${stat.ino}` : '';
    if (this.#watcher && identity === this.#watched) return;
    this.#unwatch();
    if (!stat) return;
    try {
      this.#watcher = watch(directory, { persistent: true }, (_, name) => {
        if (name !== null && name !== this.#base && rotatedKind(this.#base, name) === undefined) return;
        this.#pending = true;
        this.#wake?.();
      });
      this.#watcher.on('error', () => this.#unwatch());
      this.#watched = identity;
      this.#pending = true;
    } catch {
      this.#watcher = undefined;
    }
  }

  #unwatch(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
  }
}
