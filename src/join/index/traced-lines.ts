import { crc32 } from 'node:zlib';
import { CHECKED_BYTES, type LineRecord } from '../../model/feed.ts';

/** Where a line stands, in the file that nginx wrote it to. */
export interface LinePlace {
  /** Inode, decimal, and where the line begins (bytes). */
  readonly ino: string;
  readonly offset: number;
  /** Bytes with the newline, and the CRC-32 of the first `CHECKED_BYTES`. */
  readonly length: number;
  readonly check: number;
}

/** `bytes` from `start` to behind its newline at `end`, which begins at `offset` of the file. */
export function placeOf(bytes: Buffer, start: number, end: number, ino: string, offset: number): LinePlace {
  const length = end - start;
  return {
    ino,
    offset,
    length,
    check: crc32(bytes.subarray(start, start + Math.min(length, CHECKED_BYTES))),
  };
}

/** Records kept. About 300 bytes each. */
const MAX_RECORDS = 30_000;
/** nginx writes a line at once, and it is read within seconds; later its record is of a log that is not read (ms). */
const KEPT_MS = 120_000;

/** Records with as many lines, of which it is not known which is whose. Mostly one. */
interface Group {
  records: LineRecord[];
  /** Lines of it that were not read yet. */
  left: number;
}

/**
 * What nginx's workers wrote, by file and bytes. The record of a line is the one with its bytes whose offset is not behind it:
 * all earlier ones are spent. Where two workers wrote equal bytes at the same time, either is possible for either, so both are
 * until both are spent.
 */
export class TracedLines {
  readonly #groups = new Map<string, Group[]>();
  /** Oldest first; `#head` is the first that is kept. */
  #order: { key: string; record: LineRecord }[] = [];
  #head = 0;
  /** Whether there was a record: without the source nothing here costs anything. */
  active = false;
  /** Records up to this time may be forgotten, ms since the epoch: without one of two, the other is not certain. */
  forgottenUntil = -Infinity;

  get size(): number {
    return this.#order.length - this.#head;
  }

  add(record: LineRecord): void {
    this.active = true;
    const key = keyOf(record);
    const group: Group = { records: [record], left: 1 };
    const same = this.#groups.get(key);
    if (same) same.push(group);
    else this.#groups.set(key, [group]);
    this.#order.push({ key, record });
    while (this.size > MAX_RECORDS || this.#order[this.#head]!.record.t < record.t - KEPT_MS) this.#forget();
    if (this.#head > MAX_RECORDS) {
      this.#order = this.#order.slice(this.#head);
      this.#head = 0;
    }
  }

  /** The records that may be the line's; mostly one. Empty: it has none. */
  of(place: LinePlace): readonly LineRecord[] {
    const possible = this.#possible(place);
    return possible.length === 1 ? possible[0]!.records : possible.flatMap(({ records }) => records);
  }

  /** The line was read: what is its own is no other line's. Once for each line, in the order of the log. */
  spend(place: LinePlace): void {
    const possible = this.#possible(place);
    if (possible.length === 0) return;
    const records = possible.flatMap((group) => group.records);
    const left = possible.reduce((sum, group) => sum + group.left, 0) - 1;
    const key = keyOf(place);
    const others = this.#groups.get(key)!.filter((group) => !possible.includes(group));
    if (left > 0) others.push({ records, left });
    if (others.length > 0) this.#groups.set(key, others);
    else this.#groups.delete(key);
  }

  /** The clock was set back: times cannot be compared. */
  clear(): void {
    this.#groups.clear();
    this.#order = [];
    this.#head = 0;
    this.forgottenUntil = -Infinity;
  }

  #possible(place: LinePlace): readonly Group[] {
    const same = this.#groups.get(keyOf(place));
    if (!same) return [];
    return same.filter(({ records }) => records.some(({ offset }) => offset <= place.offset));
  }

  #forget(): void {
    const { key, record } = this.#order[this.#head]!;
    this.#order[this.#head++] = undefined as never;
    this.forgottenUntil = Math.max(this.forgottenUntil, record.t);
    const rest = this.#groups.get(key)?.filter(({ records }) => !records.includes(record));
    if (!rest) return;
    // A group loses all: with one record less its lines could be named by the others.
    if (rest.length > 0) this.#groups.set(key, rest);
    else this.#groups.delete(key);
  }
}

const keyOf = ({ ino, length, check }: LinePlace | LineRecord): string => `${ino} ${length} ${check}`;
