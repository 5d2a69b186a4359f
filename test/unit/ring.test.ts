import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ring } from '../../src/feed/ring.ts';

const entry = (seq: number, src = 'a', text = `${seq}${'.'.repeat(100)}\n`) => ({
  seq,
  src,
  ip: 'p',
  t: seq * 10,
  text,
});
const seqs = (ring: Ring, after: number, ...addresses: string[]): number[] =>
  [...ring.after(after, new Set(addresses))].map(({ text }) => Number.parseInt(text, 10));

test('a reader gets what came after its cursor, for its own addresses and for all', () => {
  const ring = new Ring(100_000, 0);
  ring.push(entry(1, 'a'));
  ring.push(entry(2, 'b'));
  ring.push(entry(3, ''));
  ring.push(entry(4, 'a'));
  assert.deepEqual(seqs(ring, 0, 'a'), [1, 3, 4]);
  assert.deepEqual(seqs(ring, 1, 'a'), [3, 4]);
  assert.deepEqual(seqs(ring, 0, 'a', 'b'), [1, 2, 3, 4]);
  assert.deepEqual(seqs(ring, 0, 'unknown'), [3]);
  assert.deepEqual(seqs(ring, 4, 'a'), []);
  const [first] = ring.after(0, new Set(['a']));
  assert.deepEqual(first, { seq: 1, ip: 'p', t: 10, text: entry(1).text });
});

test('a cursor is good if the youngest dropped record was read, and not if that one was missed', () => {
  const ring = new Ring(2_000, 7);
  assert.equal(ring.holdsAfter(7), true);
  assert.equal(ring.holdsAfter(6), false, 'a cursor of before the beginning');
  for (let seq = 8; seq <= 200; seq++) ring.push(entry(seq));
  assert.ok(ring.bytes <= 2_000, `${ring.bytes}`);
  const held = seqs(ring, 0, 'a');
  assert.equal(held.at(-1), 200);
  assert.ok(held.length > 5);
  const dropped = held[0]! - 1;
  assert.equal(ring.holdsAfter(dropped), true, 'everything after it is still there');
  assert.equal(ring.holdsAfter(dropped - 1), false, 'one record would be missing');
});

test('the ring holds as many bytes as it may and drops whole parts', () => {
  const ring = new Ring(16_000, 0);
  let bytes = 0;
  for (let seq = 1; bytes + entry(seq).text.length <= 16_000; seq++) {
    ring.push(entry(seq));
    bytes += entry(seq).text.length;
  }
  assert.equal(ring.bytes, bytes);
  assert.equal(ring.holdsAfter(0), true, 'up to the limit nothing is dropped');
  ring.push(entry(1_000));
  assert.equal(ring.holdsAfter(0), false);
  assert.ok(ring.bytes > 16_000 * (14 / 16), 'no more than a part was dropped');
});

test('a record longer than a part, and one of many bytes a character, come out whole', () => {
  const ring = new Ring(1_000, 0);
  for (const text of ['é€😀'.repeat(40), 'x'.repeat(900)]) {
    ring.push({ ...entry(1), text });
    assert.equal([...ring.after(0, new Set(['a']))].at(-1)!.text, text);
  }
});

test('with more addresses than are told apart the ring begins anew', () => {
  const ring = new Ring(64 * 1024 * 1024, 0);
  for (let seq = 1; seq <= 65_534; seq++) ring.push({ seq, src: `s${seq}`, ip: 'p', t: 0, text: `${seq}\n` });
  assert.equal(ring.holdsAfter(0), true);
  ring.push({ seq: 65_535, src: 'one more', ip: 'p', t: 0, text: '65535\n' });
  assert.equal(ring.holdsAfter(65_533), false);
  assert.equal(ring.holdsAfter(65_534), true);
  assert.deepEqual(seqs(ring, 0, 'one more', 's1'), [65_535]);
  assert.equal(ring.bytes, '65535\n'.length);
});
