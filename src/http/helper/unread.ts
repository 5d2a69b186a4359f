/**
 * What one reader has not read (bytes), and of all readers together. A reader with more than the first, or more than its
 * share of the second, is disconnected and may resume at its cursor.
 */
const MAX_UNREAD_FEED = 8 * 1024 * 1024;
const MAX_UNREAD_IN_ALL = 128 * 1024 * 1024;

/**
 * Whether a reader is too far behind. Its beginning does not count: the ring, as text, is larger than what may be unread, so a
 * reader that resumes with much to read would be disconnected at once, and each time again.
 */
export class Unread {
  #beginning = 0;
  #written = 0;

  /** After each write. `length`: of the write, in bytes; `unread`: bytes that are left of all. The first is the beginning. */
  isTooMuch(length: number, unread: number, readers: number): boolean {
    if (this.#written === 0) this.#beginning = length;
    this.#written += length;
    const read = this.#written - unread;
    const ofBeginning = Math.max(0, this.#beginning - read);
    return unread - ofBeginning > Math.min(MAX_UNREAD_FEED, MAX_UNREAD_IN_ALL / readers);
  }
}
