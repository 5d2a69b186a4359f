/** The places at which a reader of the helper before can begin. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Handover } from '../../src/feed/handover.ts';
import type { Observation } from '../../src/model/feed.ts';

const gap = (t: number, from?: number): Observation => ({
  kind: 'gap',
  t,
  source: 'tap',
  ...(from === undefined ? {} : { from }),
});
const name = (t: number): Observation =>
  ({ kind: 'name', t, ip: '', pod: '', namespace: '', node: '', service: '' }) as const;
const places = (handover: Handover, from = -Infinity): number[] =>
  handover.placesFrom(from).map(({ after }) => after);

/** Readers are expected whose record is complete since 1,000; a batch every 20 ms from there on. */
function expecting(batches: number): Handover {
  const handover = new Handover();
  handover.expect(1_000);
  for (let n = 0; n < batches; n++) handover.batch([], n, 1_000 + 20 * n);
  return handover;
}

test('no place is kept while nobody is expected, nor after that', () => {
  const handover = new Handover();
  handover.batch([], 1, 1_000);
  assert.deepEqual(places(handover), []);
  const ended = expecting(3);
  ended.end();
  ended.batch([], 9, 5_000);
  assert.deepEqual(places(ended), []);
});

test('the first place is where the record of all addresses is complete', () => {
  const handover = new Handover();
  handover.expect(1_000);
  handover.batch([], 1, 999);
  assert.deepEqual(places(handover), []);
  handover.batch([], 2, 1_000);
  assert.deepEqual(places(handover), [2]);
  handover.expect(2_000);
  assert.deepEqual(places(handover), [], 'more addresses, whose record is complete later');
  handover.batch([], 3, 1_999);
  handover.batch([], 4, 2_000);
  assert.deepEqual(places(handover), [4]);
});

test('a place is behind every record before it, which may be dated after the watermark', () => {
  const handover = expecting(0);
  handover.batch([name(1_007), name(1_003)], 1, 1_000);
  assert.deepEqual(handover.placesFrom(0), [{ after: 1, since: 1_007, watermark: 1_000 }]);
  handover.batch([], 2, 1_030);
  assert.deepEqual(handover.placesFrom(1_008), [{ after: 2, since: 1_030, watermark: 1_030 }]);
});

test('places are 20 ms apart at least, and are kept for 30 s', () => {
  const handover = expecting(2);
  handover.batch([], 8, 1_039);
  assert.deepEqual(places(handover), [0, 1]);
  handover.batch([], 9, 1_040);
  assert.deepEqual(places(handover), [0, 1, 9]);
  handover.batch([], 10, 31_000);
  assert.deepEqual(places(handover), [0, 1, 9, 10]);
  handover.batch([], 11, 31_021);
  assert.deepEqual(places(handover), [9, 10, 11]);
});

test('a reader gets the first place that is not before its watermark, and those behind it', () => {
  const handover = expecting(3);
  assert.deepEqual(places(handover, 1_020), [1, 2]);
  assert.deepEqual(places(handover, 1_021), [2]);
  assert.deepEqual(places(handover, 1_041), []);
});

test('a record that begins anew ends it, a loss does not', () => {
  const lost = expecting(1);
  lost.batch([gap(1_030, 1_010)], 1, 1_040);
  assert.deepEqual(places(lost), [0, 1]);
  const anew = expecting(1);
  anew.batch([gap(1_030)], 1, 1_040);
  anew.batch([], 2, 1_060);
  assert.deepEqual(places(anew), []);
});
