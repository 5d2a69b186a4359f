import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FeedClock } from '../../src/join/feed-clock.ts';
import { LineClock } from '../../src/join/line-clock.ts';
import { Trust } from '../../src/join/trust.ts';

test("nginx's clock may be any amount behind until a hundred lines were read", () => {
  const clock = new LineClock();
  for (let n = 0; n < 99; n++) clock.observe(1_000, 1_003);
  assert.equal(clock.coarsenessMs, Infinity);
  clock.observe(1_000, 1_050);
  assert.equal(clock.coarsenessMs, 50);
  for (let n = 0; n < 100; n++) clock.observe(1_000, 1_004);
  assert.equal(clock.coarsenessMs, 4, 'old lines are forgotten');
  clock.observe(1_000, 1_900);
  assert.equal(clock.coarsenessMs, 900, 'a new one counts at once');
});

test('a line read before its time shows that the clock runs ahead, for a minute', () => {
  const clock = new LineClock();
  clock.observe(1_000, 1_000);
  assert.equal(clock.runsAhead(1_000), false);
  clock.observe(1_001, 1_000);
  assert.equal(clock.runsAhead(61_000), true);
  assert.equal(clock.runsAhead(61_001), false);
  clock.observe(500, 400);
  assert.equal(clock.runsAhead(61_000), true, 'an earlier one shortens nothing');
});

test('the clock of the helper is at most as far behind as the least of late', () => {
  const clock = new FeedClock();
  assert.deepEqual([clock.behindMs, clock.aheadMs], [0, 0]);
  clock.observe(-Infinity, 5);
  clock.observe(100, 130);
  clock.observe(100, 100);
  assert.equal(clock.behindMs, 30, 'each watermark counts when it is new');
  clock.observe(200, 202);
  assert.deepEqual([clock.behindMs, clock.aheadMs], [2, 0]);
  for (let n = 0; n < 97; n++) clock.observe(300 + n, 400 + n);
  assert.equal(clock.behindMs, 2);
  clock.observe(1_000, 1_050);
  for (let n = 0; n < 99; n++) clock.observe(2_000 + n, 2_040 + n);
  assert.equal(clock.behindMs, 2, 'the row before counts, too');
  clock.observe(3_000, 3_050);
  assert.equal(clock.behindMs, 40);
  clock.reset();
  assert.deepEqual([clock.behindMs, clock.aheadMs], [0, 0]);
});

test('a watermark after the time of its reading shows a clock that is ahead', () => {
  const clock = new FeedClock();
  clock.observe(105, 100);
  assert.deepEqual([clock.behindMs, clock.aheadMs], [0, 5]);
});

test('trust needs more than twenty lines in a row, and ten seconds after a disagreement', () => {
  const fresh = Trust.earned();
  for (let n = 0; n < 20; n++) fresh.seen(true, n);
  assert.equal(fresh.trusts(100), false);
  fresh.seen(true, 20);
  assert.equal(fresh.trusts(-1e9), true);
  const trust = Trust.given();
  assert.equal(trust.trusts(-1e9), true, 'trusted before the first line');
  trust.seen(false, 1_000);
  trust.seen(false, 500);
  for (let n = 0; n < 20; n++) trust.seen(true, 2_000);
  assert.equal(trust.trusts(20_000), false);
  trust.seen(true, 2_000);
  assert.equal(trust.trusts(11_000), false, 'a request that began within the ten seconds');
  assert.equal(trust.trusts(11_001), true);
  trust.onClockRollback(500);
  assert.equal(trust.trusts(10_500), false);
  assert.equal(trust.trusts(10_501), true);
});

test('a disagreement of before the clock was set back keeps its time, one of after counts from then', () => {
  const trust = (at: number): Trust => {
    const it = Trust.given();
    it.seen(false, at);
    for (let n = 0; n < 21; n++) it.seen(true, at);
    it.onClockRollback(20_000);
    return it;
  };
  assert.deepEqual([trust(10_000).trusts(20_000), trust(10_000).trusts(20_001)], [false, true]);
  assert.deepEqual([trust(10_001).trusts(30_000), trust(10_001).trusts(30_001)], [false, true]);
});

test('the spread of the line clock is learned anew from every hundred lines', () => {
  const clock = new LineClock();
  for (let n = 0; n < 100; n++) clock.observe(1_000, 1_050);
  for (let n = 0; n < 99; n++) clock.observe(1_000, 1_004);
  assert.equal(clock.coarsenessMs, 50, 'the hundred before count');
  clock.observe(1_000, 1_004);
  assert.equal(clock.coarsenessMs, 4);
  for (let n = 0; n < 99; n++) clock.observe(1_000, 1_001);
  assert.equal(clock.coarsenessMs, 4);
});
