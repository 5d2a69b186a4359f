/** Makes inputs: pieces of good ones, cut, joined, repeated and with bytes changed. */

/** A fast source of 32-bit numbers: xorshift32. */
export class Chance {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0 || 1;
  }

  next(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return x >>> 0;
  }

  below(n: number): number {
    return this.next() % n;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }
}

/** Values that lie at the edge of something. */
const EDGES = [0, 1, 0x7f, 0x80, 0xff, 0x0a, 0x0d, 0x20, 0x22, 0x2c, 0x2d, 0x3a, 0x5c, 0x7b, 0x7d];

export class Mutator {
  readonly #chance: Chance;
  readonly #corpus: readonly Buffer[];
  readonly #words: readonly Buffer[];
  readonly #room = Buffer.alloc(16_384);

  /** `words`: pieces that mean something to what reads the inputs. */
  constructor(chance: Chance, corpus: readonly Buffer[], words: readonly string[]) {
    this.#chance = chance;
    this.#corpus = corpus;
    this.#words = words.map((word) => Buffer.from(word, 'latin1'));
  }

  /** The bytes are valid until the next call. */
  next(): Buffer {
    const chance = this.#chance;
    const room = this.#room;
    const from = chance.pick(this.#corpus);
    let length = from.copy(room, 0, 0, room.length >> 1);
    for (let changes = chance.below(6); changes > 0; changes--) {
      const at = length === 0 ? 0 : chance.below(length);
      switch (chance.below(8)) {
        case 0:
          room[at] = chance.next();
          break;
        case 1:
          room[at] = chance.pick(EDGES);
          break;
        case 2:
          length = at;
          break;
        case 3: {
          const other = chance.pick(this.#corpus);
          const begin = chance.below(other.length + 1);
          length = at + other.copy(room, at, begin, Math.min(other.length, begin + room.length - at));
          break;
        }
        case 4:
        case 5: {
          if (this.#words.length === 0) break;
          const word = chance.pick(this.#words);
          if (length + word.length > room.length) break;
          room.copyWithin(at + word.length, at, length);
          word.copy(room, at);
          length += word.length;
          break;
        }
        case 6: {
          const end = at + chance.below(length - at + 1);
          room.copyWithin(at, end, length);
          length -= end - at;
          break;
        }
        default: {
          const size = Math.min(chance.below(64), length - at, room.length - length);
          room.copyWithin(at + size, at, length);
          length += size;
        }
      }
    }
    return room.subarray(0, length);
  }
}
