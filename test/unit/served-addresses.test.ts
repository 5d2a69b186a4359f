/** Addresses in the tap's table, and what it logs again after a loss. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Completeness } from '../../src/capture/completeness.ts';
import { ServedAddresses } from '../../src/capture/tap/served-addresses.ts';

function scene() {
  const time = { now: 0 };
  const calls: { again: boolean; done: (outcome: 'kept' | 'restored') => void; fail: () => void }[] = [];
  const completeness = new Completeness(['tap']);
  const told: string[] = [];
  const served = new ServedAddresses({
    table: {
      name: 'realpod',
      setAddresses: (_addresses, _answered, again) =>
        new Promise((resolve, reject) => {
          calls.push({ again, done: resolve, fail: () => reject(new Error('set the addresses: no')) });
        }),
    },
    addresses: () => ['10.244.0.70'],
    answered: () => [],
    completeness,
    goodUntil: () => completeness.mend('tap'),
    clock: { wall: () => 1_000_000 + time.now, monotonic: () => time.now },
    onRestored: () => told.push('restored'),
    log: (_level, message) => told.push(message),
  });
  return {
    served,
    calls,
    told,
    time,
    /** Whether the next watermark comes with a gap, as all do while the tap is incomplete. */
    hasGap: () => completeness.gaps(time.now, time.now + 1).length > 0,
    async answer(index: number, outcome: 'kept' | 'restored' | 'refused' = 'kept') {
      if (outcome === 'refused') calls[index]!.fail();
      else calls[index]!.done(outcome);
      await new Promise(setImmediate);
    },
  };
}

test('addresses are set again every ten seconds, and at once when they have changed', async () => {
  const { served, calls, answer } = scene();
  served.check(0);
  await answer(0);
  served.check(9_999);
  assert.equal(calls.length, 1);
  served.check(10_000);
  await answer(1);
  served.changed();
  served.check(10_001);
  assert.deepEqual(
    calls.map(({ again }) => again),
    [false, false, false],
  );
});

test('after a loss the tap has gaps until the table logs each connection that cannot be read again', async () => {
  const { served, calls, hasGap, answer } = scene();
  served.lost();
  assert.deepEqual([calls.length, calls[0]?.again, hasGap(), hasGap()], [1, true, true, true]);
  await answer(0);
  // What came before the table's answer is covered by one more.
  assert.deepEqual([hasGap(), hasGap()], [true, false]);
});

test('a loss while the table is told counts anew, and losses do not follow each other faster than once a second', async () => {
  const { served, calls, hasGap, answer, time } = scene();
  served.lost();
  served.lost();
  await answer(0);
  assert.deepEqual([hasGap(), hasGap(), calls.length], [true, true, 1]);
  time.now = 400;
  served.lost();
  served.check(999);
  assert.equal(calls.length, 1);
  time.now = 1_000;
  served.check(1_000);
  assert.deepEqual([calls.length, calls[1]?.again], [2, true]);
  await answer(1);
  assert.deepEqual([hasGap(), hasGap()], [true, false]);
});

test('an address set for another reason meanwhile mends no loss that came after it began', async () => {
  const { served, calls, hasGap, answer } = scene();
  const subscribing = served.set(true);
  served.lost();
  assert.equal(calls.length, 1);
  await answer(0);
  await subscribing;
  assert.deepEqual([hasGap(), hasGap()], [true, true]);
  served.check(0);
  assert.equal(calls[1]?.again, true);
  await answer(1);
  assert.deepEqual([hasGap(), hasGap()], [true, false]);
});

test('while addresses cannot be set the tap has gaps, and one line tells of it', async () => {
  const { served, told, hasGap, answer } = scene();
  served.check(0);
  await answer(0, 'refused');
  served.check(1_000);
  await answer(1, 'refused');
  assert.deepEqual([hasGap(), hasGap(), told.length], [true, true, 1]);
  served.check(2_000);
  await answer(2, 'restored');
  assert.equal(told[1], 'restored');
});
