/** When a reader of the feed gets its text (`Delivery`). */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { Delivery } from '../../src/feed/delivery.ts';
import { newReader } from '../../src/feed/readers.ts';

/** Readers with these `batchMs`, a clock in ms since 0, and what each reader got: `time text`. */
function start(t: TestContext, ...batches: number[]) {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let now = 10_000;
  let flushes = 0;
  const got: string[][] = batches.map(() => []);
  const delivery = new Delivery({
    clock: () => now,
    quietTickMs: 1_000,
    flush() {
      flushes++;
      read();
    },
  });
  const readers = batches.map((batchMs, i) =>
    newReader(
      ['10.0.0.1'],
      { batchMs },
      1_000,
      (text) => got[i]!.push(`${now - 10_000} ${text}`),
      () => {},
    ),
  );
  for (const reader of readers) reader.lastTick = now;
  const read = (followed = false): void => delivery.read(readers, `|${now - 10_000}|`, followed);
  const to = (ms: number): void => {
    while (now - 10_000 < ms) {
      now++;
      t.mock.timers.tick(1);
    }
  };
  t.after(() => delivery.close());
  return { readers, got, read, to, flushes: () => flushes };
}

test('a reader that gathers nothing gets each reading at once', (t) => {
  const { readers, got, read, to } = start(t, 0);
  for (const ms of [5, 10, 15]) {
    to(ms);
    if (ms !== 10) readers[0]!.pending.lines('r');
    read();
  }
  assert.deepEqual(got, [['5 r|5|', '15 r|15|']]);
});

test('a reader gets what was read over its batch together, each reading with its watermark', (t) => {
  const { readers, got, read, to, flushes } = start(t, 100);
  for (let ms = 5; ms <= 200; ms += 5) {
    to(ms);
    if (ms === 90 || ms === 95 || ms === 105) readers[0]!.pending.lines('r');
    read();
  }
  assert.deepEqual(got, [['90 r|90|', '180 r|95|r|105||180|']]);
  assert.equal(flushes(), 0);
});

test('without a reading it reads itself, a fifth of a batch late', (t) => {
  const { readers, got, read, to, flushes } = start(t, 100);
  to(5);
  readers[0]!.pending.lines('r');
  read();
  to(119);
  assert.deepEqual(got, [[]]);
  to(120);
  assert.deepEqual(got, [['120 r|5||120|']]);
  assert.equal(flushes(), 1);
});

test('after the last record comes one more watermark, for the lines that were written since', (t) => {
  const { readers, got, read, to, flushes } = start(t, 100);
  to(100);
  readers[0]!.pending.lines('r');
  read();
  to(200);
  read();
  to(990);
  assert.deepEqual(got, [['100 r|100|', '200 |200|']]);
  assert.equal(flushes(), 0);
});

test('a quiet reader gets a watermark a second', (t) => {
  const { got, read, to } = start(t, 100);
  for (let ms = 100; ms <= 2_000; ms += 100) {
    to(ms);
    read();
  }
  assert.deepEqual(got, [['900 |900|', '1800 |1800|']], 'not a second later where a timer is early');
});

test('where another reading follows in any case, no timer waits for it', (t) => {
  const { readers, got, read, to, flushes } = start(t, 100);
  for (let ms = 102; ms <= 408; ms += 102) {
    to(ms);
    if (ms < 400) readers[0]!.pending.lines('r');
    read(ms < 400);
  }
  assert.deepEqual(got, [['102 r|102|', '204 r|204|', '306 r|306|', '408 |408|']]);
  readers[0]!.pending.lines('r');
  read(true);
  to(1_000);
  assert.equal(flushes(), 0);
});

test('who asks for a watermark gets it at once, with all that was gathered; others go on gathering', (t) => {
  const { readers, got, read, to } = start(t, 100, 100);
  to(50);
  for (const reader of readers) reader.pending.lines('r');
  readers[1]!.wantsTick = true;
  read();
  assert.deepEqual(got, [[], ['50 r|50|']]);
  to(100);
  read();
  assert.deepEqual(got, [['100 r|50||100|'], ['50 r|50|']]);
});

test('the text of some hundred requests does not wait for the rest of its batch', (t) => {
  const { readers, got, read, to } = start(t, 1_000);
  readers[0]!.pending.lines('r'.repeat(128 * 1024 - 1));
  to(5);
  read();
  assert.equal(got[0]!.length, 0);
  readers[0]!.pending.lines('r');
  to(10);
  read();
  assert.equal(got[0]!.length, 1);
});

test('a clock that was set back holds nothing up', (t) => {
  const { readers, got, read } = start(t, 100);
  readers[0]!.lastTick += 3_600_000;
  readers[0]!.pending.lines('r');
  read();
  assert.deepEqual(got, [['0 r|0|']]);
});
