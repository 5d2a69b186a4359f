/** The sidecar's side of the feed: what it asks for, when it gives up, and what it says. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { helper, limit, T0 } from './feed-helper.ts';

test(
  'the feed is asked for under the path of the URL, for each address, with the token of the moment',
  limit,
  async (context) => {
    const dir = mkdtempSync(join(tmpdir(), 'realpod-token-'));
    context.after(() => rmSync(dir, { recursive: true }));
    const tokenFile = join(dir, 'token');
    writeFileSync(tokenFile, 'one\n');
    const { asked, answers, connected, failed, retry } = await helper(context, {
      addresses: ['10.244.0.70', 'fd00::1'],
      tokenFile,
      prompt: true,
      answers: true,
      content: true,
    });
    await connected();
    assert.equal(
      asked[0]!.url,
      '/base/v1/feed?prompt=true&answers=true&content=true&compact=1&src=10.244.0.70&src=fd00%3A%3A1',
    );
    assert.equal(asked[0]!.headers.authorization, 'Bearer one');
    writeFileSync(tokenFile, 'two');
    answers[0]!.destroy();
    await failed(1);
    await retry();
    assert.equal(asked[1]!.headers.authorization, 'Bearer two');
    rmSync(tokenFile);
    answers[1]!.destroy();
    await failed(2);
    await retry();
    assert.equal(asked[2]!.headers.authorization, undefined);
  },
);

test(
  'without a token file there is no token, and one that cannot be read is said',
  limit,
  async (context) => {
    const { asked, notices, connected } = await helper(context, { tokenFile: '/none/token' });
    await connected();
    assert.equal(asked[0]!.headers.authorization, undefined);
    assert.equal(
      notices[0],
      'warn: the token file /none/token cannot be read; mount the projected token there',
    );
  },
);

test('what is counted of a feed', limit, async (context) => {
  const { feed, answers, state, records, connected, until, tick } = await helper(context);
  assert.deepEqual(
    { ...feed.stats },
    { connected: false, connects: 0, failures: 0, records: 0, bytes: 0, lastAt: 0 },
  );
  await connected();
  state.now = T0 + 7;
  answers[0]!.write(tick(1) + tick(2));
  await until(() => records.length === 2);
  const bytes = tick(1).length * 2;
  assert.deepEqual(
    { ...feed.stats },
    { connected: true, connects: 1, failures: 0, records: 2, bytes, lastAt: T0 + 7 },
  );
  assert.deepEqual(feed.addresses, ['10.244.0.70']);
});

test(
  'a feed is told of when it comes and when it goes, once each, and how long it was away',
  limit,
  async (context) => {
    const { notices, answers, feed, state, connected, failed, retry } = await helper(context);
    await connected();
    assert.deepEqual(notices, ['info: reading the feed of http://127.0.0.1']);
    state.status = 503;
    answers[0]!.destroy();
    await failed(1);
    const lost =
      /^warn: no feed from http:\/\/127.0.0.1 \(.+\); until it is back, no new connection is known$/;
    assert.match(notices[1]!, lost);
    for (let n = 2; n <= 4; n++) {
      await retry();
      await failed(n);
    }
    assert.equal(notices.length, 3, 'the same once');
    assert.match(notices[2]!, /refused with 503: /);
    state.status = 200;
    await retry();
    await connected();
    assert.match(notices[3]!, /^info: reading the feed of http:\/\/127.0.0.1 again after \d+\.\d s$/);
    assert.equal(feed.stats.connects, 2);
  },
);

test('each failure says its own reason', limit, async (context) => {
  const { notices, answers, connected, failed, retry, until } = await helper(context);
  await connected();
  answers[0]!.write('noise\n');
  await failed(1);
  assert.match(notices[1]!, /\(the feed is damaged: not JSON: noise\)/);
  await retry();
  await connected();
  answers[1]!.end();
  await failed(2);
  await until(() => notices.length === 4);
  assert.match(notices[3]!, /\(the connection was closed\)/);
});

test(
  'a refusal says what the helper said, and no more of what is no answer of a helper',
  limit,
  async (context) => {
    const { notices, state, failed, retry } = await helper(context);
    state.status = 401;
    state.body = '{"error":{"message":"no token","next":"send one"}}';
    await failed(1);
    await retry();
    await failed(2);
    assert.match(notices.at(-1)!, /\(refused with 401: no token; send one\)/);
    state.body = '{"error":{"message":"no token"}}';
    await retry();
    await failed(3);
    assert.match(notices.at(-1)!, /\(refused with 401: no token; \)/);
    state.body = 'x'.repeat(100_000);
    await retry();
    await failed(4);
    assert.match(notices.at(-1)!, /\(refused with 401: x{500}\)/);
    state.body = '{}';
    await retry();
    await failed(5);
    assert.match(notices.at(-1)!, /\(refused with 401: \{\}\)/);
  },
);

test(
  'a feed that is silent for five seconds is given up, and one that brings a byte is not',
  limit,
  async (context) => {
    const { feed, notices, answers, settle, connected, failed, until } = await helper(context);
    await connected();
    context.mock.timers.tick(4_999);
    answers[0]!.write('{');
    await until(() => feed.stats.bytes === 1);
    context.mock.timers.tick(1);
    await settle();
    assert.equal(feed.stats.failures, 0);
    context.mock.timers.tick(5_000);
    await failed(1);
    assert.match(notices[1]!, /\(silent for 5000 ms\)/);
  },
);

test(
  'a lost feed is expected back for ten seconds if it had brought records for two',
  limit,
  async (context) => {
    const clock = { now: 0 };
    context.mock.method(performance, 'now', () => clock.now);
    const { feed, answers, state, records, connected, failed, retry, until, tick } = await helper(context);
    await connected();
    assert.equal(feed.returning, false, 'it is there');
    answers[0]!.write(tick(1));
    state.now = T0 + 1_999;
    await until(() => records.length === 1);
    answers[0]!.write(tick(2));
    await until(() => records.length === 2);
    answers[0]!.destroy();
    await failed(1);
    assert.equal(feed.returning, false, 'it was there for a moment only');
    await retry();
    await connected();
    answers[1]!.write(tick(3));
    await until(() => records.length === 3);
    state.now += 2_000;
    answers[1]!.write(tick(4));
    await until(() => records.length === 4);
    answers[1]!.destroy();
    await failed(2);
    assert.equal(feed.returning, true);
    clock.now += 9_999;
    assert.equal(feed.returning, true);
    clock.now += 1;
    assert.equal(feed.returning, false);
    await retry();
    await connected();
    answers[2]!.destroy();
    await failed(3);
    assert.equal(feed.returning, false, 'the one after it brought nothing');
  },
);

test(
  'a process that has a point expects its helper for ten seconds, and not once it was refused',
  limit,
  async (context) => {
    const clock = { now: 0 };
    context.mock.method(performance, 'now', () => clock.now);
    const { feed, state, failed, retry } = await helper(context, {
      resume: { instance: 'a', after: 1, since: T0 },
    });
    assert.equal(feed.returning, true);
    state.status = 503;
    await failed(0);
    await retry();
    assert.equal(feed.returning, true, 'it is about to come');
    state.status = 401;
    await retry();
    await retry();
    assert.equal(feed.returning, false);
  },
);

test(
  'other addresses: the feed begins anew for these, without a cursor or a point',
  limit,
  async (context) => {
    const { feed, asked, answers, notices, records, connected, failed, retry, until, tick } = await helper(
      context,
      {
        resume: { instance: 'a', after: 7, since: T0 },
      },
    );
    await connected();
    assert.match(asked[0]!.url!, /after=7/);
    answers[0]!.write(tick(9));
    await until(() => records.length === 1);
    feed.subscribe(['10.244.0.70', '10.244.0.71']);
    await failed(1);
    assert.deepEqual(feed.addresses, ['10.244.0.70', '10.244.0.71']);
    assert.match(
      notices[1]!,
      /\(nginx has other addresses now: 10.244.0.70, 10.244.0.71; restarting the feed\)/,
    );
    await retry();
    await connected();
    assert.doesNotMatch(asked[1]!.url!, /after=/);
    assert.match(asked[1]!.url!, /src=10.244.0.70&src=10.244.0.71$/);
    answers[1]!.write(tick(12));
    await until(() => records.length === 2);
    answers[1]!.destroy();
    await failed(2);
    await retry();
    assert.match(asked[2]!.url!, /after=12&instance=a&watermark=\d+&compact=1&src/);
  },
);

test('a damaged feed, and one dated ahead, is begun anew without its cursor', limit, async (context) => {
  const { feed, asked, answers, records, connected, failed, retry, until, tick } = await helper(context);
  await connected();
  answers[0]!.write(tick(5));
  await until(() => records.length === 1);
  assert.notEqual(feed.resumePoint, undefined);
  answers[0]!.write(`${tick(6)}noise\n`);
  await failed(1);
  assert.deepEqual(records, [5, 6], 'what came before is good');
  assert.equal(feed.resumePoint, undefined);
  await retry();
  assert.doesNotMatch(asked[1]!.url!, /after=/);
  await connected();
  answers[1]!.write(tick(6));
  await until(() => records.length === 3);
  answers[1]!.write(tick(7, T0 + 11));
  await failed(2);
  await retry();
  assert.doesNotMatch(asked[2]!.url!, /after=/);
  await connected();
  answers[2]!.write(tick(8, T0 + 10));
  await until(() => records.length === 4);
  assert.deepEqual(records, [5, 6, 6, 8], '10 ms are no more than clocks may differ');
});

test(
  'a cursor is the youngest number, whatever the order; those outside the sequence are none',
  limit,
  async (context) => {
    const { asked, answers, records, connected, failed, retry, until, tick } = await helper(context);
    await connected();
    answers[0]!.write(tick(9) + tick(8) + tick(0));
    await until(() => records.length === 3);
    answers[0]!.destroy();
    await failed(1);
    await retry();
    assert.match(asked[1]!.url!, /after=9&/);
  },
);

test('a watermark is asked for while a feed is there, one at a time', limit, async (context) => {
  const { feed, asked, answers, settle, connected, failed, until } = await helper(context);
  feed.requestTick();
  await connected();
  assert.equal(asked.length, 1, 'there was no feed yet');
  feed.requestTick();
  feed.requestTick();
  await until(() => asked.length === 2);
  await settle();
  assert.equal(asked.length, 2);
  assert.equal(asked[1]!.url, '/base/v1/watermark?src=10.244.0.70');
  answers[1]!.end();
  await until(() => {
    feed.requestTick();
    return asked.length === 3;
  });
  answers[2]!.destroy();
  await until(() => {
    feed.requestTick();
    return asked.length === 4;
  });
  assert.equal(feed.stats.failures, 0, 'the feed goes on');
  answers[0]!.destroy();
  await failed(1);
  answers[3]!.end();
  await settle();
  feed.requestTick();
  await settle();
  assert.equal(asked.length, 4);
});

test(
  'a pause after a failure is half of the back-off at least, doubles up to two seconds, and ends with the reader',
  limit,
  async (context) => {
    context.mock.method(Math, 'random', () => 0);
    const { feed, asked, state, settle, waited, failed } = await helper(context);
    state.status = 503;
    const waits: number[] = [];
    for (let n = 1; n <= 7; n++) {
      await failed(n);
      waits.push(await waited());
    }
    assert.deepEqual(waits, [50, 100, 200, 400, 800, 1_000, 1_000]);
    await failed(8);
    feed.stop();
    context.mock.timers.tick(10_000);
    await settle();
    assert.equal(asked.length, 8);
  },
);
