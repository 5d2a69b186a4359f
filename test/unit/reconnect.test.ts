import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Reconnect } from '../../src/feed/reconnect.ts';

/** The pauses after `count` failures in a row, the random part left out. */
const pauses = (reconnect: Reconnect, count: number, now = 0): number[] =>
  Array.from({ length: count }, () => reconnect.nextDelay(now, 0) * 2);

test('pauses double from 100 ms to two seconds', () => {
  assert.deepEqual(pauses(new Reconnect(), 7), [100, 200, 400, 800, 1_600, 2_000, 2_000]);
});

test('half of a pause is random', () => {
  assert.equal(new Reconnect().nextDelay(0, 0), 50);
  assert.equal(new Reconnect().nextDelay(0, 0.5), 75);
  assert.equal(new Reconnect().nextDelay(0, 1), 100);
});

test('records for two seconds end a row of failures, records for less do not', () => {
  const reconnect = new Reconnect();
  pauses(reconnect, 3);
  reconnect.broughtRecords(1_999);
  assert.deepEqual(pauses(reconnect, 1), [800]);
  reconnect.broughtRecords(2_000);
  assert.deepEqual(pauses(reconnect, 2), [100, 200]);
});

test('a feed that brought records for two seconds is expected back for ten, with pauses of 200 ms at most', () => {
  const reconnect = new Reconnect();
  assert.equal(reconnect.isExpected(0), false);
  reconnect.broughtRecords(2_000);
  reconnect.ended(1_000, true);
  assert.equal(reconnect.isExpected(10_999), true);
  assert.equal(reconnect.isExpected(11_000), false);
  assert.deepEqual(pauses(reconnect, 3, 10_999), [100, 200, 200]);
  assert.deepEqual(pauses(reconnect, 3, 11_000), [200, 400, 800]);
});

test('the time for which it is expected is not begun anew by attempts that fail', () => {
  const reconnect = new Reconnect();
  reconnect.broughtRecords(2_000);
  reconnect.ended(1_000, true);
  reconnect.ended(5_000, false);
  assert.equal(reconnect.isExpected(11_000), false);
});

test('a helper that refuses is not expected, and one of an earlier process is', () => {
  const reconnect = new Reconnect();
  reconnect.expect(1_000);
  assert.equal(reconnect.isExpected(10_999), true);
  assert.equal(reconnect.isExpected(11_000), false);
  reconnect.expectNot();
  assert.equal(reconnect.isExpected(1_000), false);
});

test('how long there was no feed counts from its last loss, not from attempts that failed', () => {
  const reconnect = new Reconnect();
  assert.equal(reconnect.connected(500), undefined);
  reconnect.ended(1_000, true);
  reconnect.ended(3_000, false);
  assert.equal(reconnect.connected(4_500), 3_500);
  reconnect.ended(6_000, true);
  assert.equal(reconnect.connected(6_100), 100);
});
