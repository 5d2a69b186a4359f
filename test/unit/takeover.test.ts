/** How long a helper reads what the one before still reads. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Feed } from '../../src/feed/feed.ts';
import { Takeover } from '../../src/feed/takeover.ts';

/** A takeover of `addresses`, and a clock that moves as it waits. `at`: what happens at these times (ms). */
async function run(
  context: TestContext,
  at: Readonly<Record<number, (takeover: Takeover) => void>>,
  addresses: string[] = ['10.244.0.70'],
) {
  let now = 0;
  context.mock.method(performance, 'now', () => now);
  const listed: number[] = [];
  const flushed: number[] = [];
  let ended = 0;
  const feed = {
    addresses,
    expect: async () => {},
    expectNoMore: () => {
      ended++;
    },
  } as Pick<Feed, 'addresses' | 'expect' | 'expectNoMore'> as Feed;
  const capture = {
    addressesBeside: async () => {
      listed.push(now);
      return { addresses, answered: [] };
    },
    flush: async () => {
      flushed.push(now);
    },
  };
  const takeover = new Takeover(feed, capture, async (ms) => {
    assert.equal(ended, 0);
    now += ms;
    at[now]?.(takeover);
  });
  await takeover.run();
  assert.equal(ended, 1, 'at the end nobody is expected any more');
  return { listed, flushed, now };
}

const serves = (takeover: Takeover): void => takeover.served();
const ends = (takeover: Takeover): void => takeover.end();

test('the kernel is read every 20 ms and the addresses are listed every 500, until this helper serves', async (context) => {
  const { listed, flushed, now } = await run(context, { 1600: serves, 3000: ends });
  assert.deepEqual(listed, [500, 1_000, 1_500]);
  assert.deepEqual(
    flushed,
    Array.from({ length: 150 }, (_, n) => 20 * n),
  );
  assert.equal(now, 3_000);
});

test('ten seconds after it serves it is over', async (context) => {
  const { flushed } = await run(context, { 60000: serves });
  assert.equal(flushed.at(-1), 70_000);
});

test('without addresses the kernel is not read', async (context) => {
  const { listed, flushed } = await run(context, { 1100: ends }, []);
  assert.deepEqual([listed.length, flushed.length], [2, 0]);
});
