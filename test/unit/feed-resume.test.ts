import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { readFeed } from '../../src/feed/client.ts';
import type { ResumePoint } from '../../src/model/resume-point.ts';

/** A helper that tells what it is asked, and answers with what the test writes. */
async function helper(context: TestContext) {
  const asked: string[] = [];
  const answers: ServerResponse[] = [];
  const names = { instance: 'a' };
  const server = createServer((request, response) => {
    asked.push(new URL(request.url ?? '/', 'http://helper').search);
    response.writeHead(200, { 'realpod-instance': names.instance });
    response.flushHeaders();
    answers.push(response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  context.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const until = async (condition: () => boolean): Promise<void> => {
    while (!condition()) {
      await turn();
      context.signal.throwIfAborted();
    }
  };
  const start = (resume?: ResumePoint) => {
    let records = 0;
    const feed = readFeed({
      url,
      addresses: ['10.244.0.70'],
      tokenFile: undefined,
      resume,
      clock: () => 1_000,
      onRecords: (some) => {
        records += some.length;
      },
      onNotice: () => {},
    });
    context.after(() => feed.stop());
    return { feed, count: () => records };
  };
  return { asked, answers, names, start, until };
}

// Against a hang; a busy machine may take long.
const limit = { timeout: 120_000 };

test(
  'a sidecar that is started again asks for what followed its point, and from then on for its cursor',
  limit,
  async (context) => {
    const { asked, answers, start, until } = await helper(context);
    const { count } = start({ instance: 'a', after: 7, since: 500.5 });
    await until(() => answers.length === 1);
    assert.equal(asked[0], '?after=7&instance=a&since=500.5&compact=1&src=10.244.0.70');
    answers[0]!.write('{"kind":"gap","seq":0,"t":500.5,"source":"tap"}\n');
    await until(() => count() === 1);
    // Cut among the first records: none of them is a place to go on from.
    answers[0]!.destroy();
    await until(() => answers.length === 2);
    assert.equal(asked[1], asked[0]);
    answers[1]!.write('{"kind":"tick","seq":9,"t":600}\n{"kind":"gap","seq":0,"t":600,"source":"tap"}\n');
    await until(() => count() === 3);
    answers[1]!.destroy();
    await until(() => answers.length === 3);
    assert.equal(asked[2], '?after=9&instance=a&watermark=600&compact=1&src=10.244.0.70');
  },
);

test('the cursor of one helper is not taken to another', limit, async (context) => {
  const { asked, answers, names, start, until } = await helper(context);
  const { feed, count } = start();
  await until(() => answers.length === 1);
  assert.equal(asked[0], '?compact=1&src=10.244.0.70');
  answers[0]!.write('{"kind":"tick","seq":900,"t":600}\n');
  await until(() => count() === 1);
  assert.deepEqual(feed.resumePoint, { instance: 'a', after: 900, since: 600.001 });
  names.instance = 'b';
  answers[0]!.destroy();
  await until(() => answers.length === 2);
  // The clock of its node was set back: its numbers are smaller.
  answers[1]!.write('{"kind":"tick","seq":5,"t":700}\n');
  await until(() => count() === 2);
  assert.deepEqual(feed.resumePoint, { instance: 'b', after: 5, since: 700.001 });
  answers[1]!.destroy();
  await until(() => answers.length === 3);
  assert.equal(asked[2], '?after=5&instance=b&watermark=700&compact=1&src=10.244.0.70');
});

test('addresses that come while the feed is about to be asked for are asked for', limit, async (context) => {
  const { asked, start, until } = await helper(context);
  const { feed } = start();
  feed.subscribe(['10.244.0.70', '10.244.0.71']);
  await until(() => feed.stats.connected);
  assert.equal(asked.at(-1), '?compact=1&src=10.244.0.70&src=10.244.0.71');
});
