import { setTimeout as delay } from 'node:timers/promises';
import type { Capture } from '../capture/capture.ts';
import type { Feed } from './feed.ts';

/** Interval at which the kernel is read meanwhile, so that a reader finds a place close to its last watermark (ms). */
const READ_EVERY_MS = 20;
/** Interval at which the addresses of the helper before are listed again (ms). */
const LIST_EVERY_MS = 500;
/** How long the readers of the helper before are expected once this one serves (ms): so long their lines wait. */
const READERS_MS = 10_000;

/**
 * Reads here what the helper before still reads, until its readers have come: their record goes on where that one's ended.
 * Whoever comes later, or from an address that was not listed, begins anew.
 */
export class Takeover {
  readonly #feed: Feed;
  readonly #capture: Pick<Capture, 'addressesBeside' | 'flush'>;
  readonly #wait: (ms: number) => Promise<void>;
  #servedAt = Infinity;
  #ended = false;

  /** `wait`: between two readings. */
  constructor(
    feed: Feed,
    capture: Pick<Capture, 'addressesBeside' | 'flush'>,
    wait = (ms: number) => delay(ms, undefined, { ref: false }),
  ) {
    this.#feed = feed;
    this.#capture = capture;
    this.#wait = wait;
  }

  /** Resolves when the addresses that the helper before has now are read here. Rejects with `CaptureError`. */
  async begin(): Promise<void> {
    const { addresses, answered } = await this.#capture.addressesBeside();
    await this.#feed.expect(addresses, answered);
  }

  /** Keeps at it until the readers have had their time. Rejects with `CaptureError`. */
  async run(): Promise<void> {
    try {
      let listedAt = performance.now();
      while (!this.#ended && performance.now() - this.#servedAt <= READERS_MS) {
        if (this.#servedAt === Infinity && performance.now() - listedAt >= LIST_EVERY_MS) {
          await this.begin();
          listedAt = performance.now();
        }
        if (this.#feed.addresses.length > 0) await this.#capture.flush();
        await this.#wait(READ_EVERY_MS);
      }
    } finally {
      this.#feed.expectNoMore();
    }
  }

  /** This helper serves: the one before has no readers in a moment. */
  served(): void {
    this.#servedAt = performance.now();
  }

  end(): void {
    this.#ended = true;
  }
}
