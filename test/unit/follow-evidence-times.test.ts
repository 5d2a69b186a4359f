/** When to look at the log where lines and evidence come in batches (`EvidenceTimes`). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EvidenceTimes } from '../../src/follow/evidence-times.ts';

test('the next look is 8 ms before the moment of the next evidence, which is a batch after the last', () => {
  const times = new EvidenceTimes(100);
  times.came(1_000, 0);
  assert.equal(times.nextLook(950), 1_092);
  times.came(1_100, 0);
  assert.equal(times.nextLook(1_092), 1_192);
});

test('evidence is complete up to some time before it comes: that moment counts', () => {
  const times = new EvidenceTimes(100);
  times.came(1_000, 20);
  assert.equal(times.nextLook(950), 1_072);
  times.came(1_100, 5);
  assert.equal(times.nextLook(1_072), 1_187);
});

test('where a clock was set, a lag of hours is as good as that of a batch, and one ahead as none', () => {
  const times = new EvidenceTimes(100);
  times.came(1_000, 3_600_000);
  assert.equal(times.nextLook(900), 992);
  times.came(1_100, -3_600_000);
  assert.equal(times.nextLook(900), 1_192);
});

test('evidence that comes more often is met as often', () => {
  const times = new EvidenceTimes(100);
  times.came(1_000, 0);
  times.came(1_050, 0);
  assert.equal(times.nextLook(1_040), 1_092);
  times.came(1_300, 0);
  assert.equal(times.nextLook(1_290), 1_392, 'and after quiet, a batch is expected again');
  times.came(1_310, 50);
  assert.equal(times.nextLook(1_290), 1_352, 'an earlier moment than before tells nothing of the interval');
});

test('in short batches the look is a fifth of one before', () => {
  const times = new EvidenceTimes(20);
  times.came(1_000, 0);
  assert.equal(times.nextLook(990), 1_016);
});

test('after that look, and where evidence fails to come, there is a look a batch later', () => {
  const times = new EvidenceTimes(100);
  assert.equal(times.nextLook(990), 1_090, 'none has ever come');
  times.came(1_000, 0);
  assert.equal(times.nextLook(1_092), 1_192);
  assert.equal(times.nextLook(1_192), 1_292);
});
