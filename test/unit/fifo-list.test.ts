import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type FifoEntry, FifoList } from '../../src/join/index/fifo-list.ts';

interface Entry extends FifoEntry<Entry> {
  n: number;
}

const entry = (n: number): Entry => ({ n, list: undefined, before: undefined, after: undefined });
const numbers = (order: FifoList<Entry>) => [...order].map(({ n }) => n);

test('entries come oldest first, whichever were taken out', () => {
  const order = new FifoList<Entry>();
  const entries = [0, 1, 2, 3, 4].map(entry);
  for (const one of entries) order.add(one);
  assert.deepEqual(numbers(order), [0, 1, 2, 3, 4]);
  for (const n of [2, 0, 4]) assert.equal(order.delete(entries[n]!), true);
  assert.deepEqual(numbers(order), [1, 3]);
  assert.equal(order.oldest?.n, 1);
  assert.equal(order.size, 2);
  order.add(entries[0]!);
  assert.deepEqual(numbers(order), [1, 3, 0]);
});

test('an entry is in one order at a time, and taking it out of another does nothing', () => {
  const [a, b] = [new FifoList<Entry>(), new FifoList<Entry>()];
  const one = entry(1);
  a.add(one);
  assert.equal(b.delete(one), false);
  assert.equal(a.delete(one), true);
  assert.equal(a.delete(one), false);
  b.add(one);
  assert.deepEqual([a.size, b.size, a.oldest, b.oldest], [0, 1, undefined, one]);
});

test('all can be taken out while they are visited', () => {
  const order = new FifoList<Entry>();
  for (let n = 0; n < 10; n++) order.add(entry(n));
  for (const one of order) order.delete(one);
  assert.deepEqual([order.size, order.oldest, numbers(order)], [0, undefined, []]);
});
