/** The table of ids (`IdTable`) against a `Map`, and its hash. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { IdHash } from '../../src/join/index/id-hash.ts';
import { IdTable } from '../../src/join/index/id-table.ts';

interface Entry {
  id: string;
  n: number;
  idHash: number;
}

const entry = (id: string, n: number): Entry => ({ id, n, idHash: 0 });

/** 1…2^31, the same each time (Lehmer). */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state;
  };
}

/** As unsuitable as it can be: nearly all ids have the same hash, or one beside it. */
class Poor extends IdHash {
  override of(text: string): number {
    return text.length & 3 ? 63 : 61 + (text.charCodeAt(0) & 3);
  }
}

for (const [what, hash] of [
  ['the hash', undefined],
  ['a hash that puts nearly all in one place', new Poor([1, 2])],
] as const)
  test(`whatever is put in, replaced and taken out, the table has what a Map has, with ${what}`, () => {
    const next = numbers(7);
    const table = new IdTable<Entry>(hash);
    const map = new Map<string, Entry>();
    /** Were in the table, and perhaps no longer are. */
    const old: Entry[] = [];
    const ids = Array.from({ length: 400 }, (_, i) => `${'x'.repeat(i % 5)}${next() % 1_000}`);
    for (let n = 0; n < 20_000; n++) {
      const id = ids[next() % ids.length]!;
      // It fills, then empties, and so on: it grows and shrinks.
      if (next() % 10 < ((n >> 11) & 1 ? 3 : 7)) {
        const value = entry(id, n);
        assert.equal(table.swap(value), map.get(id));
        map.set(id, value);
        if (old.length < 50) old.push(value);
      } else {
        const value = map.get(id) ?? old[next() % old.length];
        if (value) {
          assert.equal(table.getAs(value), map.get(value.id));
          table.delete(value);
          map.delete(value.id);
        }
      }
      const asked = ids[next() % ids.length]!;
      assert.equal(table.get(asked), map.get(asked));
      assert.equal(table.size, map.size);
    }
    for (const id of ids) assert.equal(table.get(id), map.get(id));
  });

test('the table has a bounded number of slots for each id, and gives them back', () => {
  const table = new IdTable<Entry>();
  const entries = Array.from({ length: 10_000 }, (_, n) => entry(`id${n}`, n));
  for (const each of entries) table.swap(each);
  assert.equal(table.slots, 32_768);
  for (const each of entries) table.delete(each);
  assert.deepEqual([table.size, table.slots], [0, 64]);
});

test('a million ids that come and go leave the table as it is', () => {
  const table = new IdTable<Entry>();
  const live: Entry[] = [];
  for (let n = 0; n < 1_000_000; n++) {
    const value = entry(`id${n}`, n);
    table.swap(value);
    if (n >= 100) table.delete(live[n % 100]!);
    live[n % 100] = value;
  }
  assert.deepEqual([table.size, table.slots], [100, 256]);
});

test('the hash depends on each character, on the length and on each word of the key', () => {
  const hash = new IdHash([0x1234_5678, 0x9abc_def0]);
  const texts = [
    '',
    '\0',
    '\0\0',
    'a',
    'b',
    'ab',
    'ba',
    'abc',
    'abd',
    'abc\0',
    'é',
    'ā',
    '💡',
    'abcā',
    'abc\x01\x01',
  ];
  assert.equal(new Set(texts.map((text) => hash.of(text))).size, texts.length);
  for (const other of [new IdHash([0x1234_5679, 0x9abc_def0]), new IdHash([0x1234_5678, 0x9abc_def1])])
    for (const text of texts) assert.notEqual(hash.of(text), other.of(text));
});

test('the lowest bits of the hash, which choose the slot, are spread evenly over similar ids', () => {
  const hash = new IdHash([3, 5]);
  const slots = new Uint32Array(64);
  for (let n = 0; n < 64_000; n++) slots[hash.of(n.toString(16).padStart(32, '0')) & 63]!++;
  for (const count of slots) assert.ok(count > 850 && count < 1_150, `${count} of about 1000`);
});
