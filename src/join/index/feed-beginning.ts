import { type FeedRecord, NO_CURSOR, type Source } from '../../model/feed.ts';

/**
 * The sources that a feed names when it begins: one gap, out of the sequence, for each source that the helper has. A source
 * of the helper before that is not among them is not read any more: what it would have seen must not count as absent.
 */
export class FeedBeginning {
  /** Named so far; undefined once the feed goes on. */
  #named: Set<Source> | undefined;

  /** Takes each record of the feed. Returns the helper's sources with the first record after the beginning. */
  after(record: FeedRecord): ReadonlySet<Source> | undefined {
    if (record.kind === 'gap' && record.from === undefined && record.seq === NO_CURSOR) {
      // A source that is named again is the beginning of the next feed.
      if (this.#named?.has(record.source)) this.#named.clear();
      this.#named ??= new Set();
      this.#named.add(record.source);
      return undefined;
    }
    const named = this.#named;
    this.#named = undefined;
    return named;
  }
}
