/** Which quiet moment is before a line, and which count no longer. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { QuietMoments } from '../../src/join/index/quiet-moments.ts';

function moments(...befores: number[]): QuietMoments {
  const quiet = new QuietMoments();
  for (const before of befores) quiet.add({ before, after: before + 2 });
  return quiet;
}

test('the youngest moment counts that was over when the line was written', () => {
  const quiet = moments(10, 20);
  assert.equal(quiet.before(22)?.before, 20);
  assert.equal(quiet.before(21)?.before, 10);
  assert.equal(quiet.before(11), undefined);
});

test('a moment counts if it began when everything was seen again, or later', () => {
  const quiet = moments(10, 20);
  quiet.void(20);
  assert.equal(quiet.before(22)?.before, 20);
  assert.equal(quiet.before(21), undefined);
  quiet.void(21);
  assert.equal(quiet.before(22), undefined);
});

test('an answer after a moment to a request from before it refutes it; one that began with it does not', () => {
  const quiet = moments(10);
  quiet.refuteBetween(11, 40);
  quiet.refuteBetween(9, 12);
  assert.equal(quiet.counters.refuted, 0);
  // Began in the same millisecond: it may have been before.
  quiet.refuteBetween(10, 13);
  assert.equal(quiet.counters.refuted, 1);
  assert.equal(quiet.before(12), undefined);
});

test('after the clock was set back no moment from before counts', () => {
  const quiet = moments(10, 2_000);
  quiet.onClockRollback(1_000);
  assert.equal(quiet.before(3_000), undefined);
  quiet.add({ before: 1_005, after: 1_006 });
  assert.equal(quiet.before(1_010)?.before, 1_005);
  assert.equal(quiet.before(3_000)?.before, 1_005);
});
