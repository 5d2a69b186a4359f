import { closeFrame, FRAME_HEAD_BYTES } from './frames.ts';
import type { KeptRecord } from './ring.ts';

/** What a reader has not been given yet. */
export interface Outbox {
  /** Grows with each addition; 0: nothing is in it. */
  readonly size: number;
  /** More waiting would save few wake-ups, and what waits for its line is then too old for a cheap garbage collection. */
  readonly isFull: boolean;
  /** One or more lines of NDJSON with their newlines. */
  lines(text: string): void;
  record(kept: KeptRecord): void;
  /** All of it, in the order in which it came. */
  take(): string | Buffer;
}

/** Some 400 requests, in characters of text and in bytes of the compact form. */
const FULL_TEXT = 128 * 1024;
const FULL_FRAMES = 32 * 1024;
/** A frame with at least so many bytes is closed. */
const FRAME_BYTES = 64 * 1024;
const LEAST_BUFFER = 1024;

/** For readers of NDJSON. */
export class TextOutbox implements Outbox {
  #text = '';

  get size(): number {
    return this.#text.length;
  }

  get isFull(): boolean {
    return this.#text.length >= FULL_TEXT;
  }

  lines(text: string): void {
    this.#text += text;
  }

  record(kept: KeptRecord): void {
    this.#text += kept.text;
  }

  take(): string {
    const text = this.#text;
    this.#text = '';
    return text;
  }
}

const NOTHING: Buffer = Buffer.alloc(0);

/** For readers of the compact feed: nothing is done for a single record where it follows the one before in the ring. */
export class FrameOutbox implements Outbox {
  #bytes = NOTHING;
  #used = 0;
  /** Where the frame begins that is not closed; -1: none is open. */
  #frame = -1;
  /** Records that lie one behind the other in the ring, and are not copied yet. */
  #from = NOTHING;
  #begin = 0;
  #end = 0;
  /** Length of the last text or bytes taken: the next are probably as long. */
  #usual = LEAST_BUFFER;

  get size(): number {
    return this.#used + this.#end - this.#begin;
  }

  get isFull(): boolean {
    return this.size >= FULL_FRAMES;
  }

  lines(text: string): void {
    if (text === '') return;
    this.#copy();
    // At most three bytes of UTF-8 for each of JavaScript's characters.
    for (let at = 0; at < text.length; ) {
      // A frame has whole lines.
      const to = text.length - at > FRAME_BYTES ? text.indexOf('\n', at + FRAME_BYTES) + 1 : 0;
      const some = to > 0 ? text.slice(at, to) : text.slice(at);
      this.#open(3 * some.length);
      this.#used += this.#bytes.write(some, this.#used, 'utf8');
      this.#closeLong();
      at += some.length;
    }
  }

  record({ bytes, begin, end }: KeptRecord): void {
    if (bytes === this.#from && begin === this.#end && end - this.#begin <= FRAME_BYTES) {
      this.#end = end;
      return;
    }
    this.#copy();
    this.#from = bytes;
    this.#begin = begin;
    this.#end = end;
  }

  take(): Buffer {
    this.#copy();
    this.#close();
    const taken = this.#bytes.subarray(0, this.#used);
    this.#usual = Math.min(Math.max(LEAST_BUFFER, this.#used), FULL_FRAMES);
    this.#bytes = NOTHING;
    this.#used = 0;
    return taken;
  }

  /** Copies the records that have not been copied: the ring may drop them, and the check value is of all bytes. */
  #copy(): void {
    const length = this.#end - this.#begin;
    if (length === 0) return;
    this.#open(length);
    this.#from.copy(this.#bytes, this.#used, this.#begin, this.#end);
    this.#used += length;
    this.#from = NOTHING;
    this.#begin = 0;
    this.#end = 0;
    this.#closeLong();
  }

  /** Opens a frame if none is open, and makes room in it. */
  #open(room: number): void {
    const needed = this.#used + FRAME_HEAD_BYTES + room;
    if (needed > this.#bytes.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(this.#usual + LEAST_BUFFER, 2 * this.#used, needed));
      this.#bytes.copy(larger, 0, 0, this.#used);
      this.#bytes = larger;
    }
    if (this.#frame >= 0) return;
    this.#frame = this.#used;
    this.#used += FRAME_HEAD_BYTES;
  }

  #closeLong(): void {
    if (this.#used - this.#frame >= FRAME_BYTES) this.#close();
  }

  #close(): void {
    if (this.#frame >= 0) closeFrame(this.#bytes, this.#frame, this.#used);
    this.#frame = -1;
  }
}
