/** An entry's links. An entry is in one list at a time at most. */
export interface FifoEntry<T extends FifoEntry<T>> {
  list: FifoList<T> | undefined;
  /** The next older and the next younger entry. */
  before: T | undefined;
  after: T | undefined;
}

/**
 * Entries in the order in which they were added. Deleting the oldest has a constant cost; in a Set it walks over the
 * entries deleted before it.
 */
export class FifoList<T extends FifoEntry<T>> {
  #oldest: T | undefined;
  #youngest: T | undefined;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get oldest(): T | undefined {
    return this.#oldest;
  }

  /** `entry` must be in no list. */
  add(entry: T): void {
    entry.list = this;
    entry.before = this.#youngest;
    if (this.#youngest) this.#youngest.after = entry;
    else this.#oldest = entry;
    this.#youngest = entry;
    this.#size++;
  }

  /** False if the entry was not in here. */
  delete(entry: T): boolean {
    if (entry.list !== this) return false;
    const { before, after } = entry;
    if (before) before.after = after;
    else this.#oldest = after;
    if (after) after.before = before;
    else this.#youngest = before;
    entry.list = undefined;
    entry.before = undefined;
    entry.after = undefined;
    this.#size--;
    return true;
  }

  /** Oldest first. An entry may be deleted while it is visited. */
  *[Symbol.iterator](): Generator<T> {
    for (let entry = this.#oldest; entry; ) {
      const { after } = entry;
      yield entry;
      entry = after;
    }
  }
}
