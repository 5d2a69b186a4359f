/** One encoded record. `src` is empty for records that concern every reader; `ip`: the backend, empty where there is none. */
export interface Entry {
  seq: number;
  src: string;
  ip: string;
  /** Its time. */
  t: number;
  text: string;
}

/** The youngest records of the feed, for readers that were away for a moment. Bounded in bytes of text. */
export class Ring {
  readonly #limitBytes: number;
  #entries: Entry[] = [];
  #head = 0;
  #bytes = 0;
  /** The youngest `seq` that was dropped; a reader that has seen it misses nothing. */
  #droppedSeq: number;

  constructor(limitBytes: number, startSeq: number) {
    this.#limitBytes = limitBytes;
    this.#droppedSeq = startSeq;
  }

  push(entry: Entry): void {
    this.#entries.push(entry);
    this.#bytes += entry.text.length;
    while (this.#bytes > this.#limitBytes && this.#head < this.#entries.length) {
      const dropped = this.#entries[this.#head++]!;
      this.#bytes -= dropped.text.length;
      this.#droppedSeq = dropped.seq;
    }
    if (this.#head > 4096 && this.#head * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head);
      this.#head = 0;
    }
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Whether everything after `seq` is still held. */
  holdsAfter(seq: number): boolean {
    return seq >= this.#droppedSeq;
  }

  /** All records after `seq` that concern one of the addresses. */
  *after(seq: number, addresses: ReadonlySet<string>): Generator<Entry> {
    let low = this.#head;
    let high = this.#entries.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#entries[middle]!.seq <= seq) low = middle + 1;
      else high = middle;
    }
    for (let i = low; i < this.#entries.length; i++) {
      const entry = this.#entries[i]!;
      if (entry.src === '' || addresses.has(entry.src)) yield entry;
    }
  }
}
