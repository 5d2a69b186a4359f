import { type FSWatcher, statSync, watch } from 'node:fs';
import { basename, dirname } from 'node:path';
import { rotatedKind } from './rotation.ts';

/** Least time between two productive looks, ms: one read then gets many lines of a busy nginx. */
const GAP_MS = 4;
/** The same while polling. A busy feed brings batches of evidence a little more often, and each causes a look (`hasten`). */
const POLL_MS = 12;
/** The pace where a line is to be read as soon as it is written: when it was read is evidence. */
const PROMPT = { gap: 0.2, poll: 2, busy: 256 } as const;
/** Look without an event: inotify may be unavailable (its limits are per user) or silent (some network file systems). */
const SAFETY_MS = 1_000;
const SAFETY_UNWATCHED_MS = 100;
/** After this many waits in a row that an event ended, poll every POLL_MS instead: events cost 10 µs each. */
const BUSY_WAITS = 8;
/** After this many looks in a row that found nothing, go back to waiting for events. */
const IDLE_LOOKS = 12;

/** Times the looks at the log: at once after an idle time; under load rarely, when the feed brings evidence. */
export class Wakeup {
  readonly #pace: { gap: number; poll: number; busy: number };
  readonly #path: string;
  readonly #base: string;
  #watcher: FSWatcher | undefined;
  #watched = '';
  /** The log may have changed since the last look. */
  #pending = true;
  #lastFound = Number.NEGATIVE_INFINITY;
  #early = 0;
  #empty = 0;
  #polling = false;
  #closed = false;
  #wake: (() => void) | undefined;
  #hasten: (() => void) | undefined;

  /** `prompt`: as soon as something was written, whatever that costs. */
  constructor(path: string, prompt = false) {
    this.#pace = prompt ? PROMPT : { gap: GAP_MS, poll: POLL_MS, busy: BUSY_WAITS };
    this.#path = path;
    this.#base = basename(path);
  }

  /** Resolves when it is time to look, after `atMost` ms at the latest. */
  async wait(atMost = Number.POSITIVE_INFINITY): Promise<void> {
    if (!this.#polling) this.#watch();
    if (!this.#pending && !this.#polling) {
      await this.#sleep(Math.min(atMost, this.#watcher ? SAFETY_MS : SAFETY_UNWATCHED_MS), true);
    }
    const gap = this.#lastFound + (this.#polling ? this.#pace.poll : this.#pace.gap) - performance.now();
    if (this.#polling) {
      await this.#sleep(Math.min(atMost, Math.max(gap, 1)), false);
    } else if (this.#pending && gap > 0) {
      if (++this.#early >= this.#pace.busy) this.#poll();
      await this.#sleep(gap, false);
    } else if (this.#pending) {
      this.#early = 0;
    }
    this.#pending = false;
  }

  /** Call after each look; `found`: it returned something. */
  looked(found: boolean): void {
    if (found) {
      this.#lastFound = performance.now();
      this.#empty = 0;
      return;
    }
    if (!this.#polling || ++this.#empty < IDLE_LOOKS) return;
    this.#polling = false;
    this.#early = 0;
    // Writes from before the watch cause no event.
    this.#pending = true;
  }

  /** Ends a wait for more lines, as those in the log can be joined now. */
  hasten(): void {
    this.#hasten?.();
  }

  close(): void {
    this.#closed = true;
    this.#unwatch();
    this.#wake?.();
  }

  #sleep(ms: number, untilEvent: boolean): Promise<void> {
    if (this.#closed) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#wake = undefined;
        this.#hasten = undefined;
        resolve();
      };
      const timer = setTimeout(done, ms);
      if (!untilEvent) this.#hasten = done;
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
