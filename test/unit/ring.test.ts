import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeRecord } from '../../src/feed/codec.ts';
import { Ring } from '../../src/feed/ring.ts';
import type { Observation } from '../../src/model/feed.ts';

/** Kept as text: it has no packed form. */
const name = (seq: number, pod = '.'.repeat(40)): Observation => ({
  kind: 'name',
  t: seq * 10,
  ip: '10.0.0.1',
  pod,
  namespace: '',
  node: '',
  service: '',
});
const lengthOf = (seq: number, pod?: string): number => encodeRecord(name(seq, pod), seq).length;
const push = (ring: Ring, seq: number, src = 'a', pod?: string) => ring.push(seq, src, name(seq, pod));
const seqs = (ring: Ring, after: number, ...addresses: string[]): number[] =>
  [...ring.after(after, new Set(addresses))].map(({ seq, record }) => {
    assert.equal(record?.seq, seq);
    return seq;
  });

test('a reader gets what came after its cursor, for its own addresses and for all', () => {
  const ring = new Ring(100_000, 0);
  push(ring, 1, 'a');
  push(ring, 2, 'b');
  push(ring, 3, '');
  push(ring, 4, 'a');
  assert.deepEqual(seqs(ring, 0, 'a'), [1, 3, 4]);
  assert.deepEqual(seqs(ring, 1, 'a'), [3, 4]);
  assert.deepEqual(seqs(ring, 0, 'a', 'b'), [1, 2, 3, 4]);
  assert.deepEqual(seqs(ring, 0, 'unknown'), [3]);
  assert.deepEqual(seqs(ring, 4, 'a'), []);
  const [first] = ring.after(0, new Set(['a']));
  assert.equal(first?.text, encodeRecord(name(1), 1));
});

test('a cursor is good if the youngest dropped record was read, and not if that one was missed', () => {
  const ring = new Ring(2_000, 7);
  assert.equal(ring.holdsAfter(7), true);
  assert.equal(ring.holdsAfter(6), false, 'a cursor of before the beginning');
  for (let seq = 8; seq <= 200; seq++) push(ring, seq);
  assert.ok(ring.bytes <= 2_000, `${ring.bytes}`);
  const held = seqs(ring, 0, 'a');
  assert.equal(held.at(-1), 200);
  assert.ok(held.length > 5);
  const dropped = held[0]! - 1;
  assert.equal(ring.holdsAfter(dropped), true, 'everything after it is still there');
  assert.equal(ring.holdsAfter(dropped - 1), false, 'one record would be missing');
});

test('the ring holds as many bytes as it may and drops whole parts', () => {
  const ring = new Ring(64_000, 0);
  let bytes = 0;
  for (let seq = 1; bytes + lengthOf(seq) <= 64_000; seq++) {
    push(ring, seq);
    bytes += lengthOf(seq);
  }
  assert.equal(ring.bytes, bytes);
  assert.equal(ring.holdsAfter(0), true, 'up to the limit nothing is dropped');
  push(ring, 1_000);
  assert.equal(ring.holdsAfter(0), false);
  assert.ok(ring.bytes > 64_000 * (14 / 16), 'no more than a part was dropped');
});

test('a record longer than a part, and one of many bytes a character, come out whole', () => {
  const ring = new Ring(1_000, 0);
  for (const pod of ['é€😀'.repeat(40), 'x'.repeat(800)]) {
    push(ring, 1, 'a', pod);
    assert.equal([...ring.after(0, new Set(['a']))].at(-1)!.text, encodeRecord(name(1, pod), 1));
  }
});

test('packed records and text share a ring, in their order, whatever the size of its parts', () => {
  for (let limit = 1_000; limit < 60_000; limit = Math.ceil(limit * 1.7)) {
    const ring = new Ring(limit, 0);
    const open = (sport: number): Observation => {
      return { kind: 'open', t: 1, src: '10.0.0.1', sport, ip: '10.0.0.2', port: 80, via: 'conntrack' };
    };
    for (let seq = 1; seq <= 400; seq++) {
      if (seq % 3 === 0) push(ring, seq, '10.0.0.1', '.'.repeat(seq % 50));
      else ring.push(seq, '10.0.0.1', open(seq));
    }
    const held = seqs(ring, 0, '10.0.0.1');
    assert.equal(held.at(-1), 400);
    assert.deepEqual(
      held,
      held.map((_, i) => held[0]! + i),
    );
    assert.equal(ring.holdsAfter(held[0]! - 1), true);
    if (held[0]! > 1) assert.equal(ring.holdsAfter(held[0]! - 2), false);
    for (const { seq, record } of ring.after(0, new Set(['10.0.0.1'])))
      if (record?.kind === 'open') assert.equal(record.sport, seq);
  }
});

test('with more addresses than are told apart the ring begins anew', () => {
  const ring = new Ring(64 * 1024 * 1024, 0);
  for (let seq = 1; seq <= 65_535; seq++) push(ring, seq, `s${seq}`, '');
  assert.equal(ring.holdsAfter(0), true);
  push(ring, 65_536, 'one more', '');
  assert.equal(ring.holdsAfter(65_534), false);
  assert.equal(ring.holdsAfter(65_535), true);
  assert.deepEqual(seqs(ring, 0, 'one more', 's1'), [65_536]);
  assert.equal(ring.bytes, lengthOf(65_536, ''));
});
