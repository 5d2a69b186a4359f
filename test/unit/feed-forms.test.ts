/** Which form of the feed a reader gets, and that helpers and sidecars of different ages understand each other. */
import assert from 'node:assert/strict';
import http from 'node:http';
import { type TestContext, test } from 'node:test';
import { CAPTURE_DEFAULTS } from '../../src/capture/capture.ts';
import { createCapture } from '../../src/capture/create.ts';
import { createAuthorizer } from '../../src/cluster/authorize.ts';
import { readFeed } from '../../src/feed/client.ts';
import { encodeRecord } from '../../src/feed/codec.ts';
import { Feed } from '../../src/feed/feed.ts';
import { COMPACT_TYPE } from '../../src/feed/frames.ts';
import { FrameOutbox } from '../../src/feed/outbox.ts';
import { Ring } from '../../src/feed/ring.ts';
import { createHelperHttp } from '../../src/http/helper/app.ts';
import type { FeedRecord, Observation } from '../../src/model/feed.ts';
import { limit, helper as playedHelper, T0 } from './feed-helper.ts';

const SRC = '127.0.0.1';
const FLOW = { src: SRC, sport: 40_000, vip: '10.96.0.1', vport: 80, ip: '10.244.1.64', port: 80 } as const;
const REQUEST: Observation = { kind: 'request', t: T0, via: 'tap', ...FLOW, id: '0f'.repeat(16), path: '/é' };

/** A helper of this version. */
async function realHelper(context: TestContext) {
  const { stats } = createCapture({ ...CAPTURE_DEFAULTS, log: () => {} }, { batch: () => {} });
  const feed = new Feed(() => T0);
  const capture = {
    stats,
    subscribe: async () => ({ flows: [], completeSince: { tap: T0 } }),
    unsubscribe() {},
    readPromptly() {},
    gather() {},
    flush: async () => feed.batch([], T0),
    addressesBeside: async () => ({ addresses: [], answered: [] }),
    lookup: async () => [],
    start: async () => {},
    close: async () => {},
  };
  feed.connect(capture);
  const authorizer = createAuthorizer({ mode: 'none', isLocal: () => false });
  const { server } = createHelperHttp(
    { feed, capture },
    { authorizer, names: undefined, reviewer: undefined },
    () => {},
  );
  const port = await server.listen('127.0.0.1', 0);
  context.after(async () => {
    feed.close();
    await server.close();
  });
  return { feed, url: new URL(`http://127.0.0.1:${port}`) };
}

/** What a program that asks with these parameters gets: the type, and text until a record is in it. */
function ask(url: URL, more: string): Promise<{ type: string | undefined; text: string }> {
  return new Promise((resolve, reject) => {
    const request = http.get(new URL(`/v1/feed?src=${SRC}${more}`, url), (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (piece: string) => {
        text += piece;
        if (!text.includes('\n')) return;
        request.destroy();
        resolve({ type: response.headers['content-type'], text });
      });
    });
    request.on('error', reject);
  });
}

test('who asks for nothing, or for a form that this helper does not know, gets NDJSON', limit, async (t) => {
  const { url } = await realHelper(t);
  for (const more of ['', '&compact=0', '&compact=2', '&later=1']) {
    const { type, text } = await ask(url, more);
    assert.equal(type, 'application/x-ndjson', more);
    assert.equal(text, encodeRecord({ kind: 'gap', t: T0, source: 'tap' }, 0), more);
  }
});

test('a sidecar of this version gets frames of a helper of this version', limit, async (t) => {
  const { feed, url } = await realHelper(t);
  const records: FeedRecord[] = [];
  const notices: string[] = [];
  let wake = (): void => {};
  const reader = readFeed({
    url,
    addresses: [SRC],
    tokenFile: undefined,
    clock: () => T0,
    onRecords(some) {
      records.push(...some);
      wake();
    },
    onNotice: (_, text) => notices.push(text),
  });
  t.after(() => reader.stop());
  const until = async (count: number): Promise<void> => {
    while (records.length < count)
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
  };
  await until(1);
  feed.batch([REQUEST, { ...REQUEST, src: SRC, path: '/日本' } as Observation], T0);
  await until(4);
  assert.deepEqual(
    records.map(({ kind }) => kind),
    ['gap', 'request', 'request', 'tick'],
  );
  const { seq: _, ...read } = records[1]!;
  assert.deepEqual(read, REQUEST);
  // Some 90 bytes for the first request, 300 as text for each of the others.
  assert.ok(reader.stats.bytes < 600, `${reader.stats.bytes} bytes`);
  assert.equal(notices.length, 1);
});

/** Records as the body of a compact answer. */
function frames(...records: Observation[]): Buffer {
  const ring = new Ring(100_000, 4);
  const outbox = new FrameOutbox();
  for (const [i, record] of records.entries()) outbox.record(ring.push(i + 5, SRC, record));
  return outbox.take();
}

test('the type of the answer says its form, each time anew', limit, async (context) => {
  const { state, answers, asked, records, connected, failed, retry, until, tick } =
    await playedHelper(context);
  // A helper of before: it does not say the type of frames.
  await connected();
  answers[0]!.write(tick(3));
  await until(() => records.length === 1);
  state.type = COMPACT_TYPE;
  answers[0]!.destroy();
  await failed(1);
  await retry();
  await connected();
  assert.match(asked[1]!.url!, /after=3&.*&compact=1&/);
  answers[1]!.write(frames(REQUEST, { kind: 'tick', t: T0 }));
  await until(() => records.length === 3);
  assert.deepEqual(records, [3, 5, 6]);
});

test('a damaged frame ends the feed, and it is begun anew without its cursor', limit, async (context) => {
  const { feed, state, answers, asked, notices, records, connected, failed, retry, until } =
    await playedHelper(context);
  state.type = COMPACT_TYPE;
  await connected();
  answers[0]!.write(frames(REQUEST));
  await until(() => records.length === 1);
  const damaged = frames(REQUEST);
  damaged[60]! ^= 4;
  answers[0]!.write(damaged);
  await failed(1);
  assert.equal(records.length, 1);
  assert.match(notices.at(-1)!, /the feed is damaged: the check value of a frame is wrong/);
  assert.equal(feed.resumePoint, undefined);
  await retry();
  assert.doesNotMatch(asked.at(-1)!.url!, /after=/);
});
