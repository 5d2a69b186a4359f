import { randomBytes } from 'node:crypto';
import { IdHash } from './id-hash.ts';

const LEAST_SLOTS = 64;

/** What has an id. */
interface WithId {
  readonly id?: string | undefined;
  /** The table's hash of the id, once the value was put into it. */
  idHash: number;
}

/**
 * One value for each id, by open addressing. A `Map` in which each entry is added, found and deleted within a second
 * allocates a new table for every few thousand, and V8 then keeps what it should have collected. Callers bound the number of
 * entries; the table has between 2 and 8 slots for each, at least 64.
 */
export class IdTable<V extends WithId> {
  readonly #hash: IdHash;
  #values: (V | undefined)[];
  #size = 0;

  constructor(hash = new IdHash(secretKey())) {
    this.#hash = hash;
    this.#values = new Array(LEAST_SLOTS).fill(undefined);
  }

  get size(): number {
    return this.#size;
  }

  get slots(): number {
    return this.#values.length;
  }

  get(id: string): V | undefined {
    return this.#values[this.#slotOf(id, this.#hash.of(id))];
  }

  /** The one in the table with the id of `value`, which was in it itself. */
  getAs(value: V): V | undefined {
    return this.#values[this.#slotOf(value.id!, value.idHash)];
  }

  /** Puts a value with an id in the place of the one with the same id, and returns that one. */
  swap(value: V): V | undefined {
    const { id } = value;
    const hash = this.#hash.of(id!);
    value.idHash = hash;
    const slot = this.#slotOf(id!, hash);
    const before = this.#values[slot];
    this.#values[slot] = value;
    if (before === undefined && 2 * ++this.#size > this.#values.length) this.#resize(2 * this.#values.length);
    return before;
  }

  /** Takes out the one with the id of `value`, which was in the table itself. */
  delete(value: V): void {
    const slot = this.#slotOf(value.id!, value.idHash);
    if (this.#values[slot] === undefined) return;
    this.#size--;
    this.#fill(slot);
    if (8 * this.#size < this.#values.length && this.#values.length > LEAST_SLOTS)
      this.#resize(this.#values.length / 2);
  }

  /** The slot of the id, or the free one where it belongs. */
  #slotOf(id: string, hash: number): number {
    const last = this.#values.length - 1;
    for (let slot = hash & last; ; slot = (slot + 1) & last) {
      const value = this.#values[slot];
      if (value === undefined || (value.idHash === hash && value.id === id)) return slot;
    }
  }

  /** Empties the slot. Those behind it that were put off by it move up, so that a search never ends too early. */
  #fill(empty: number): void {
    const last = this.#values.length - 1;
    let hole = empty;
    for (let slot = (hole + 1) & last; ; slot = (slot + 1) & last) {
      const value = this.#values[slot];
      if (value === undefined) break;
      // Whether its home lies behind the hole: then it may not move before it.
      if (((slot - value.idHash) & last) < ((slot - hole) & last)) continue;
      this.#values[hole] = value;
      hole = slot;
    }
    this.#values[hole] = undefined;
  }

  #resize(slots: number): void {
    const values = this.#values;
    this.#values = new Array(slots).fill(undefined);
    const last = slots - 1;
    for (const value of values) {
      if (value === undefined) continue;
      let slot = value.idHash & last;
      while (this.#values[slot] !== undefined) slot = (slot + 1) & last;
      this.#values[slot] = value;
    }
  }
}

function secretKey(): [number, number] {
  const bytes = randomBytes(8);
  return [bytes.readUInt32LE(0), bytes.readUInt32LE(4)];
}
