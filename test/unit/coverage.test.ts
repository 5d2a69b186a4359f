import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Coverage } from '../../src/join/coverage.ts';

/** A record that begins at 100 and has arrived up to 1,000. */
function began(): Coverage {
  const coverage = new Coverage();
  coverage.addGap('tap', undefined, 100);
  coverage.watermark = 1_000;
  return coverage;
}

test('a source that never began is complete nowhere', () => {
  const coverage = began();
  assert.equal(coverage.isComplete('conntrack', 200, 300), false);
  assert.equal(coverage.has('conntrack'), false);
  assert.deepEqual(coverage.sources(), ['tap']);
});

test('a record is complete after its beginning and up to the watermark', () => {
  const coverage = began();
  assert.equal(
    coverage.isComplete('tap', 100, 200),
    false,
    'the instant of the beginning belongs to the gap',
  );
  assert.equal(coverage.isComplete('tap', 100.001, 200), true);
  assert.equal(coverage.isComplete('tap', 200, 1_000), true);
  assert.equal(coverage.isComplete('tap', 200, 1_000.001), false, 'not all of it has arrived');
});

test('a gap hides both its bounds and everything between them', () => {
  const coverage = began();
  coverage.addGap('tap', 400, 500);
  for (const [from, to, complete] of [
    [300, 399.9, true],
    [300, 400, false],
    [450, 460, false],
    [500, 600, false],
    [500.1, 600, true],
    [300, 600, false],
  ] as const)
    assert.equal(coverage.isComplete('tap', from, to), complete, `${from}–${to}`);
});

test('a later gap that touches the last one extends it to both sides', () => {
  const coverage = began();
  coverage.addGap('tap', 400, 500);
  coverage.addGap('tap', 500, 550);
  coverage.addGap('tap', 350, 420);
  assert.deepEqual(coverage.gaps('tap'), [
    { from: -Infinity, to: 100 },
    { from: 350, to: 550 },
  ]);
});

test('a record that begins anew has a gap since the watermark', () => {
  const coverage = began();
  coverage.addGap('tap', undefined, 1_200);
  coverage.watermark = 1_300;
  assert.equal(coverage.isComplete('tap', 900, 999), true);
  assert.equal(coverage.isComplete('tap', 900, 1_000), false);
  assert.equal(coverage.isComplete('tap', 1_201, 1_300), true);
  coverage.addGap('tap', undefined, 1_300);
  assert.equal(coverage.gaps('tap').length, 2, 'a beginning that is not after the watermark hides nothing');
});

test('of more gaps than are kept the oldest two become one, and nothing that was hidden shows', () => {
  const coverage = new Coverage();
  coverage.addGap('tap', undefined, 0);
  for (let n = 1; n <= 256; n++) coverage.addGap('tap', n * 10, n * 10 + 1);
  coverage.watermark = 10_000;
  assert.equal(coverage.gaps('tap').length, 256);
  assert.deepEqual(coverage.gaps('tap')[0], { from: -Infinity, to: 11 });
  assert.deepEqual(coverage.gaps('tap')[1], { from: 20, to: 21 });
  for (let n = 1; n <= 256; n++) assert.equal(coverage.isComplete('tap', n * 10, n * 10), false, `gap ${n}`);
  assert.equal(coverage.isComplete('tap', 5, 6), false, 'the merged gap hides more, never less');
  assert.equal(coverage.isComplete('tap', 2_562, 3_000), true);
});

test('a clock that was set back voids all times until a second after', () => {
  const coverage = began();
  assert.equal(coverage.isClockRollback(950), false, 'sources may differ by so much');
  assert.equal(coverage.isClockRollback(949), true);
  coverage.onClockRollback(500);
  assert.equal(coverage.watermark, 500);
  assert.equal(coverage.repeatedUntil, 1_000);
  coverage.watermark = 3_000;
  assert.equal(coverage.isComplete('tap', 1_500, 1_600), false);
  assert.equal(coverage.isComplete('tap', 1_501, 1_600), true);
  coverage.onClockRollback(400);
  assert.equal(coverage.repeatedUntil, 3_000);
  coverage.watermark = 500;
  coverage.onClockRollback(450);
  assert.equal(coverage.repeatedUntil, 3_000, 'the latest time that came twice stays');
});

test('the kernel log is the only source of connections where conntrack never began', () => {
  const coverage = new Coverage();
  assert.equal(coverage.hasOnlyLogRecords, false);
  coverage.addGap('kernel-log', undefined, 0);
  assert.equal(coverage.hasOnlyLogRecords, true);
  coverage.addGap('conntrack', undefined, 0);
  assert.equal(coverage.hasOnlyLogRecords, false);
});

test('a source that a later helper does not have is complete up to the change of helpers, until it begins anew', () => {
  const coverage = new Coverage();
  for (const source of ['conntrack', 'tap'] as const) coverage.addGap(source, undefined, 0);
  coverage.watermark = 100;
  coverage.endAllBut(new Set(['conntrack']));
  coverage.watermark = 200;
  assert.deepEqual(coverage.sources(), ['conntrack']);
  assert.deepEqual([coverage.has('conntrack'), coverage.has('tap')], [true, false]);
  assert.equal(coverage.isComplete('conntrack', 50, 200), true);
  assert.deepEqual([coverage.isComplete('tap', 50, 100), coverage.isComplete('tap', 50, 101)], [true, false]);
  coverage.addGap('tap', 150, 160);
  assert.equal(coverage.has('tap'), false, 'a loss is no beginning');
  coverage.addGap('tap', undefined, 180);
  assert.equal(coverage.has('tap'), true);
  assert.deepEqual(
    [coverage.isComplete('tap', 181, 200), coverage.isComplete('tap', 170, 200)],
    [true, false],
  );
  assert.equal(coverage.isComplete('tap', 50, 99), true, 'the record of before stands');
});
