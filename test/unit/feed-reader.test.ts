/** The sidecar's side of the feed against helpers that refuse an address, run ahead, or send noise. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { helper, limit, T0 } from './feed-helper.ts';

const REFUSAL = '{"error":{"code":"address-not-yours","message":"no","next":"ask for your own"}}';
const BOTH = 'src=127.0.0.1&src=fd00%3A%3A1';

/** A pod with two addresses, of which the helper serves the first; `knows` says whether it serves the other one, too. */
async function twoAddresses(context: TestContext, knows: () => boolean) {
  const notices: string[] = [];
  const parts = await helper(context, {
    addresses: ['127.0.0.1', 'fd00::1'],
    onNotice: (level, text) => notices.push(`${level}: ${text}`),
  });
  parts.state.body = REFUSAL;
  parts.state.status = (addresses) => (addresses.length > 1 && !knows() ? 403 : 200);
  const urls = (): string[] => parts.asked.map(({ url }) => url!.replace('/base/v1', ''));
  const { feed, answers, asked, records, until, settle, tick } = parts;
  /** Lets seconds pass, in each of which the feed brings a record. Ends where the feed does. */
  const pass = async (seconds: number): Promise<void> => {
    for (let n = 0; n < seconds && feed.stats.connected; n++) {
      const { length } = records;
      answers[asked.findLastIndex(({ url }) => url!.includes('/feed'))]!.write(tick(length + 1));
      await until(() => records.length > length);
      context.mock.timers.tick(1_000);
      for (let turns = 0; turns < 10; turns++) await turn();
    }
    await settle();
  };
  return { ...parts, notices, urls, pass };
}

test(
  'a pod with two addresses gets one of them until the helper knows that the other is its own too',
  limit,
  async (context) => {
    let known = false;
    const { feed, urls, notices, pass, retry, connected, failed } = await twoAddresses(context, () => known);
    await failed(1);
    await retry();
    await connected();
    assert.deepEqual(urls(), [`/feed?compact=1&${BOTH}`, '/feed?compact=1&src=127.0.0.1']);
    assert.match(notices[0]!, /asking for 127.0.0.1 instead of 127.0.0.1, fd00::1$/);
    await pass(16);
    assert.deepEqual(urls().slice(2), [`/watermark?${BOTH}`]);
    assert.equal(feed.stats.failures, 1, 'the feed of one address goes on');
    await pass(28);
    assert.equal(urls().length, 3, 'thirty seconds until the next');
    known = true;
    await pass(2);
    assert.deepEqual(urls().slice(3), [`/watermark?${BOTH}`]);
    await failed(2);
    await retry();
    await connected();
    assert.equal(urls()[4], `/feed?compact=1&${BOTH}`);
    await pass(70);
    assert.equal(urls().length, 5, 'that is all that there is to ask for');
    assert.equal(feed.stats.failures, 2);
  },
);

test('other addresses of nginx end the asking for those before', limit, async (context) => {
  let known = false;
  const { feed, answers, state, urls, settle, retry, connected, failed, pass } = await twoAddresses(
    context,
    () => known,
  );
  await failed(1);
  await retry();
  await connected();
  // The helper takes its time over the question, and nginx loses an address meanwhile.
  state.status = 0;
  await pass(15);
  assert.deepEqual(urls().slice(2), [`/watermark?${BOTH}`]);
  state.status = 200;
  feed.subscribe(['fd00::1']);
  known = true;
  answers[2]!.writeHead(200).end();
  await settle();
  await retry();
  await connected();
  assert.deepEqual(feed.addresses, ['fd00::1']);
  assert.equal(urls()[3], '/feed?compact=1&src=fd00%3A%3A1');
  await pass(70);
  assert.equal(urls().length, 4);
});

test('other addresses of nginx end the waiting, too', limit, async (context) => {
  const { feed, urls, retry, connected, failed, pass } = await twoAddresses(context, () => false);
  await failed(1);
  await retry();
  await connected();
  feed.subscribe(['fd00::1']);
  await failed(2);
  await retry();
  await connected();
  await pass(20);
  assert.deepEqual(urls().slice(2), ['/feed?compact=1&src=fd00%3A%3A1']);
});

test(
  'a question that is cut off before its answer ends nothing, and is asked again',
  limit,
  async (context) => {
    const { feed, answers, state, settle, retry, urls, connected, failed, pass, until } = await twoAddresses(
      context,
      () => false,
    );
    await failed(1);
    await retry();
    await connected();
    state.status = 0;
    feed.requestTick();
    await until(() => urls().length === 3);
    answers[2]!.destroy();
    await settle();
    feed.requestTick();
    await until(() => urls().length === 4);
    answers[3]!.destroy();
    await settle();
    await pass(16);
    assert.equal(urls()[4], `/watermark?${BOTH}`);
    answers[4]!.destroy();
    await pass(31);
    assert.equal(urls()[5], `/watermark?${BOTH}`);
    assert.equal(feed.stats.failures, 1);
  },
);

test('another refusal than of the address takes no address away', limit, async (context) => {
  const { state, urls, retry, failed } = await twoAddresses(context, () => false);
  for (const [n, status] of [401, 429, 503].entries()) {
    state.status = status;
    if (n > 0) await retry();
    await failed(n + 1);
  }
  await retry();
  assert.deepEqual(new Set(urls()), new Set([`/feed?compact=1&${BOTH}`]));
});

test(
  'no record from the future reaches the join, and the feed is begun anew until the clocks agree',
  limit,
  async (context) => {
    const { state, asked, records, notices, retry, failed, until, tick } = await helper(context);
    const text = (ahead: number): string =>
      `{"kind":"gap","seq":7,"t":${T0 - 5},"source":"tap"}\n${tick(8, T0 + ahead)}`;
    state.text = text(3_600_000);
    await failed(1);
    await retry();
    await failed(2);
    assert.deepEqual(records, []);
    assert.match(notices.join('\n'), /its clock is 3600000 ms ahead of this one; synchronise/);
    assert.ok(asked.every(({ url }) => !url!.includes('after=')));
    state.text = text(9);
    await retry();
    await until(() => records.length > 0);
    assert.deepEqual(records, [7, 8]);
  },
);

test(
  'a feed that is good for a few records and then damaged is tried again ever more rarely',
  limit,
  async (context) => {
    const { state, waited, failed, tick } = await helper(context);
    state.text = `${tick(1) + tick(2) + tick(3)}noise\n`;
    for (let failures = 1; failures <= 4; failures++) {
      await failed(failures);
      await waited();
    }
    await failed(5);
    assert.ok((await waited()) >= 750, 'after five failures it waits 800 to 1,600 ms');
  },
);

test('stopped, nothing more is asked for or told', limit, async (context) => {
  const { feed, asked, notices, settle, connected } = await helper(context);
  await connected();
  feed.stop();
  await settle();
  context.mock.timers.tick(60_000);
  await settle();
  assert.deepEqual(
    [feed.stats.connected, feed.stats.failures, asked.length, notices.length],
    [false, 0, 1, 1],
  );
});
