import { RecordDecoder } from '../feed/codec.ts';
import type { FeedRecord } from '../model/feed.ts';

/** The recorded feed cannot be read further. `message` is one line for people. */
export class FeedError extends Error {}

/** A recorded feed, applied step by step. */
export class RecordedFeed {
  readonly #chunks: AsyncIterator<Buffer>;
  readonly #apply: (record: FeedRecord) => void;
  readonly #decoder = new RecordDecoder();
  #records: readonly FeedRecord[] = [];
  #next = 0;
  #damage: string | undefined;
  /** The feed is at its end. */
  ended = false;
  /** Times of the first and the last watermark applied, ms since the epoch. */
  first: number | undefined;
  last: number | undefined;

  constructor(bytes: AsyncIterable<Buffer>, apply: (record: FeedRecord) => void) {
    this.#chunks = bytes[Symbol.asyncIterator]();
    this.#apply = apply;
  }

  /** Applies the records up to the next watermark. Rejects with FeedError where the text is damaged. */
  async advance(): Promise<void> {
    for (;;) {
      while (this.#next < this.#records.length) {
        const record = this.#records[this.#next++]!;
        this.#apply(record);
        if (record.kind === 'tick') {
          this.first ??= record.t;
          this.last = record.t;
          return;
        }
      }
      if (this.#damage !== undefined) {
        this.ended = true;
        throw new FeedError(`the feed is damaged: ${this.#damage}`);
      }
      if (!(await this.#read())) {
        this.ended = true;
        return;
      }
    }
  }

  async #read(): Promise<boolean> {
    let next: IteratorResult<Buffer>;
    try {
      next = await this.#chunks.next();
    } catch (error) {
      this.ended = true;
      throw new FeedError(`the feed cannot be read: ${(error as Error).message}`);
    }
    if (next.done) return false;
    const { records, error } = this.#decoder.push(next.value);
    this.#records = records;
    this.#next = 0;
    this.#damage = error;
    return true;
  }
}
