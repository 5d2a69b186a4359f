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

/** Groups of one key in the order of `from`; those before `head` are spent. */
interface Same {
  groups: Group[];
  head: number;
}

/** Records kept. About 300 bytes each. */
const MAX_RECORDS = 100_000;
/** nginx writes a line at once, and it is read within seconds; later its record is of a log that is not read (ms). */
const KEPT_MS = 120_000;

/** More records than this that may be one line's are none: to compare them for each line would take too long. */
const MOST_POSSIBLE = 32;

/** Spent groups that a key keeps. */
const MOST_SPENT = 64;

/** Records with as many lines, of which it is not known which is whose. Mostly one. */
interface Group {
  readonly records: LineRecord[];
  /** The least of their offsets. */
  readonly from: number;
  /** Lines of it that were not read yet. */
  left: number;
}

/**
 * What nginx's workers wrote, by file and bytes. The record of a line is the one with its bytes whose offset is not behind it:
 * all earlier ones are spent. Where two workers wrote equal bytes at the same time, either is possible for either, so both are
 * until both are spent.
 */
export class TracedLines {
  /** By file and bytes. */
  readonly #groups = new Map<string, Same>();
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
    const group: Group = { records: [record], from: record.offset, left: 1 };
    const same = this.#groups.get(key);
    if (same) insert(same, group);
    else this.#groups.set(key, { groups: [group], head: 0 });
    this.#order.push({ key, record });
    while (this.size > MAX_RECORDS || this.#order[this.#head]!.record.t < record.t - KEPT_MS) this.#forget();
    if (this.#head > MAX_RECORDS) {
      this.#order = this.#order.slice(this.#head);
      this.#head = 0;
    }
  }

  /** The records that may be the line's; mostly one. Empty: it has none, or too many. */
  of(place: LinePlace): readonly LineRecord[] {
    const possible = groupsUpTo(this.#groups.get(keyOf(place)), place.offset);
    if (possible.length === 1 && possible[0]!.records.length <= MOST_POSSIBLE) return possible[0]!.records;
    const count = possible.reduce((sum, { records }) => sum + records.length, 0);
    return count > MOST_POSSIBLE ? [] : possible.flatMap(({ records }) => records);
  }

  /** The line was read: what is its own is no other line's. Once for each line, in the order of the log. */
  spend(place: LinePlace): void {
    const key = keyOf(place);
    const same = this.#groups.get(key);
    const [first, ...others] = groupsUpTo(same, place.offset);
    if (!same || !first) return;
    for (const { records, left } of others) {
      for (const record of records) first.records.push(record);
      first.left += left;
    }
    first.left--;
    same.head += 1 + others.length;
    if (first.left > 0) same.groups[--same.head] = first;
    this.#tidy(key, same);
  }

  /** The clock was set back: times cannot be compared. */
  clear(): void {
    this.#groups.clear();
    this.#order = [];
    this.#head = 0;
    this.forgottenUntil = -Infinity;
  }

  #forget(): void {
    const { key, record } = this.#order[this.#head]!;
    this.#order[this.#head++] = undefined as never;
    this.forgottenUntil = Math.max(this.forgottenUntil, record.t);
    const same = this.#groups.get(key);
    for (let at = same?.head ?? 0; same && at < same.groups.length; at++) {
      if (!same.groups[at]!.records.includes(record)) continue;
      // A group loses all: with one record less its lines could be named by the others.
      if (at === same.head) same.head++;
      else same.groups.splice(at, 1);
      this.#tidy(key, same);
      return;
    }
  }

  #tidy(key: string, same: Same): void {
    if (same.head === same.groups.length) this.#groups.delete(key);
    else if (same.head > MOST_SPENT && same.head > same.groups.length / 2) {
      same.groups = same.groups.slice(same.head);
      same.head = 0;
    }
  }
}

const keyOf = ({ ino, length, check }: LinePlace | LineRecord): string => `${ino} ${length} ${check}`;

/** Workers write at the same time, so a record may come a little before one with a lesser offset. */
function insert({ groups, head }: Same, group: Group): void {
  let at = groups.length;
  while (at > head && groups[at - 1]!.from > group.from) at--;
  groups.splice(at, 0, group);
}

/** Groups with a record that is not behind the offset. */
function groupsUpTo(same: Same | undefined, offset: number): Group[] {
  const found: Group[] = [];
  if (!same) return found;
  for (let at = same.head; at < same.groups.length && same.groups[at]!.from <= offset; at++)
    found.push(same.groups[at]!);
  return found;
}
