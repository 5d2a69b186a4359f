/** One helper takes over from another: both read the kernel for a while, and a reader changes from one to the other. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { SnapshotObservation } from '../../src/capture/capture.ts';
import { Feed, type Successor } from '../../src/feed/feed.ts';
import { FrameDecoder } from '../../src/feed/frames.ts';
import { Takeover } from '../../src/feed/takeover.ts';
import { FlowIndex } from '../../src/join/index/flow-index.ts';
import { matchLine } from '../../src/join/match.ts';
import type { FeedRecord, Observation } from '../../src/model/feed.ts';
import { isResolved } from '../../src/model/outcome.ts';
import { lineOf, NGINX, podIp, T0, VIP } from '../model/wire.ts';

const flow = (sport: number, pod: number) =>
  ({ src: NGINX, sport, vip: VIP, vport: 80, ip: podIp(pod), port: 8000 }) as const;
const open = (sport: number, pod: number, at: number): Observation & SnapshotObservation => ({
  kind: 'open',
  t: T0 + at,
  ...flow(sport, pod),
  via: 'conntrack',
});
const request = (sport: number, pod: number, at: number): Observation => ({
  kind: 'request',
  t: T0 + at,
  ...flow(sport, pod),
  singleSegment: true,
  via: 'tap',
});

/** A node with its kernel's open connections; each helper has a feed of its own, and a sidecar reads one after another. */
function node(context: TestContext) {
  const time = { now: T0 };
  const connections = new Map<number, SnapshotObservation>();
  const index = new FlowIndex();
  const feeds: Feed[] = [];
  const subscribed: string[][] = [];
  context.after(() => {
    for (const feed of feeds) feed.close();
  });
  const helper = (): Feed => {
    const feed = new Feed(() => time.now);
    feeds.push(feed);
    feed.connect({
      subscribe: async (addresses) => {
        subscribed.push([...addresses]);
        return {
          flows: [...connections.values()].map((each) => ({ ...each, preexisting: true as const })) as never,
          completeSince: { conntrack: time.now, tap: time.now },
        };
      },
      unsubscribe() {},
      readPromptly() {},
      gather() {},
      flush: async () => {},
    });
    return feed;
  };
  return {
    helper,
    index,
    subscribed,
    at(ms: number) {
      time.now = T0 + ms;
    },
    /** What happened since the last call, up to `at`: every helper reads it. */
    happens(at: number, ...observations: Observation[]) {
      time.now = T0 + at;
      for (const each of observations) {
        if (each.kind === 'open') connections.set(each.sport, each);
        if (each.kind === 'close') connections.delete(each.sport);
      }
      for (const feed of feeds) feed.batch([...observations], T0 + at);
    },
    async read(feed: Feed, from?: Successor, addresses = [NGINX], wishes = {}) {
      const records: FeedRecord[] = [];
      const decoder = new FrameDecoder();
      const opened = await feed.open(
        addresses,
        from,
        (some) => {
          for (const record of decoder.push(some as Buffer).records) {
            records.push(record);
            index.apply(record);
          }
        },
        { ...wishes, compact: true },
      );
      assert.ok('reader' in opened);
      return { records, end: () => opened.reader.close() };
    },
    /** The helper reads a last time for its readers, and ends. */
    async ends(feed: Feed, at: number) {
      time.now = T0 + at;
      const flushed = feed.flush([NGINX]);
      feed.batch([], T0 + at);
      await flushed;
      feed.close();
      feeds.splice(feeds.indexOf(feed), 1);
    },
    /** Of a line whose request took from 5 ms before `end` to `end`. */
    says(end: number): string {
      const [outcome] = matchLine(lineOf({ end, took: 5 }), T0 + end + 1, index).outcomes;
      return isResolved(outcome!) ? `pod ${outcome.ip.split('.')[3]}` : outcome!.reason;
    },
  };
}

const told = (records: readonly FeedRecord[]): string[] =>
  records.map((record) =>
    'sport' in record
      ? `${record.kind} ${record.sport}${'preexisting' in record ? ' preexisting' : ''}`
      : `${record.kind} ${(record.t - T0).toFixed(0)}`,
  );

test('a reader goes on behind its last watermark, whatever passed until it came', async (context) => {
  const { helper, read, ends, happens, says, index } = node(context);
  const old = helper();
  await read(old);
  happens(100, open(1, 1, 90));
  happens(200, request(1, 1, 190));
  const next = helper();
  await next.expect([NGINX], []);
  happens(300, open(2, 2, 290), request(2, 2, 291));
  happens(303, { kind: 'close', t: T0 + 302, ...flow(2, 2), via: 'conntrack', end: 'fin' });
  assert.deepEqual([says(195), says(295)], ['pod 1', 'pod 2']);
  await ends(old, 305);
  const { watermark } = index.coverage;
  happens(325);
  happens(350, request(1, 1, 335));
  happens(4_980);
  happens(5_000, open(3, 3, 4_990), request(3, 3, 4_991));
  const after = await read(next, { watermark });
  const gaps = ['gap 325', 'gap 325'];
  assert.deepEqual(
    told(after.records).filter((text) => !text.startsWith('name')),
    [
      ...gaps,
      'open 1 preexisting',
      'tick 325',
      'request 1',
      'tick 350',
      'tick 4980',
      'open 3',
      'request 3',
      'tick 5000',
    ],
  );
  assert.equal(says(307), 'gap', 'a request that ran at the change belongs to neither record');
  assert.equal(says(338), 'pod 1', 'it passed before the reader came');
  assert.equal(says(4_995), 'pod 3');
});

test('the place is the first that is not before the reader’s watermark', async (context) => {
  const { helper, read, happens, at } = node(context);
  const next = helper();
  at(1_000);
  await next.expect([NGINX], []);
  for (const ms of [1_000, 1_050, 1_100, 1_150, 1_200]) happens(ms, request(1, 1, ms - 5));
  const gapOf = async (watermark: number) => {
    const { records, end } = await read(next, { watermark: T0 + watermark });
    end();
    return told(records)[0];
  };
  assert.equal(await gapOf(1_100), 'gap 1100');
  assert.equal(await gapOf(1_101), 'gap 1150');
  // Before it was complete: from its first place on.
  assert.equal(await gapOf(500), 'gap 1000');
  // None is late enough: the reader begins anew.
  assert.equal(await gapOf(1_201), 'gap 1200');
});

test('it begins anew: with an address that was not expected, with exact times, with answers that were not', async (context) => {
  const { helper, read, happens, at } = node(context);
  const next = helper();
  at(1_000);
  await next.expect([NGINX], []);
  happens(1_100);
  happens(2_000);
  const gapOf = async (addresses: string[], wishes = {}) => {
    const { records, end } = await read(next, { watermark: T0 + 1_050 }, addresses, wishes);
    end();
    return told(records)[0];
  };
  assert.equal(await gapOf([NGINX]), 'gap 1100');
  assert.equal(await gapOf([NGINX, '10.244.0.99']), 'gap 2000');
  assert.equal(await gapOf([NGINX], { prompt: true }), 'gap 2000');
  assert.equal(await gapOf([NGINX], { answers: true }), 'gap 2000');
  const other = helper();
  await other.expect([NGINX], [NGINX]);
  happens(2_100);
  happens(3_000);
  const { records } = await read(other, { watermark: T0 + 2_050 }, [NGINX], { answers: true });
  assert.equal(told(records)[0], 'gap 2100');
});

test('after the clock was set a reader begins anew', async (context) => {
  const { helper, read, happens } = node(context);
  const next = helper();
  await next.expect([NGINX], []);
  happens(10_000);
  // One second back, and by the time that the reader comes it is later than before.
  happens(
    9_000,
    { kind: 'gap', t: T0 + 9_000, source: 'tap' },
    { kind: 'gap', t: T0 + 9_000, source: 'conntrack' },
  );
  happens(10_100);
  happens(10_200);
  const { records } = await read(next, { watermark: T0 + 10_010 });
  assert.equal(told(records)[0], 'gap 10200');
  assert.deepEqual([next.stats.freshStarts, next.stats.resumed], [1, 0]);
});

test('the takeover subscribes what the helper before has, also what is new, until its readers have come', async (context) => {
  const { helper, subscribed } = node(context);
  const next = helper();
  const beside = { addresses: [NGINX, '10.244.0.71'], answered: ['10.244.0.71'] };
  let flushes = 0;
  const takeover = new Takeover(next, {
    addressesBeside: async () => beside,
    flush: async () => {
      flushes++;
      if (flushes === 1) takeover.end();
    },
  });
  await takeover.begin();
  assert.deepEqual(subscribed, [['10.244.0.71'], [NGINX]]);
  assert.deepEqual(next.addresses.sort(), [NGINX, '10.244.0.71'].sort());
  beside.addresses.push('10.244.0.72');
  await takeover.begin();
  assert.deepEqual(subscribed.at(-1), ['10.244.0.72']);
  // The takeover keeps no process alive.
  const alive = setInterval(() => {}, 1_000);
  await takeover.run();
  clearInterval(alive);
  assert.equal(flushes, 1);
});
