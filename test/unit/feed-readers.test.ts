/** Who gets what of a feed, who is refused, and how long addresses stay watched. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { Subscription, Wishes } from '../../src/capture/capture.ts';
import { FEED_LIMITS, Feed, type FeedLimits } from '../../src/feed/feed.ts';
import { FrameDecoder } from '../../src/feed/frames.ts';
import type { ReaderWishes } from '../../src/feed/readers.ts';
import type { FeedRecord, Observation } from '../../src/model/feed.ts';
import type { ResumePoint } from '../../src/model/resume-point.ts';

const T0 = 1_764_837_843_000;
const [A, B] = ['10.244.0.70', '10.244.0.71'];
const VIP = '10.96.0.1';
const request = (src: string, t: number, ip = '10.244.1.1'): Observation => ({
  kind: 'request',
  t: T0 + t,
  via: 'tap',
  src,
  sport: 1,
  vip: VIP,
  vport: 80,
  ip,
  port: 8000,
});
const nameOf = (ip: string, pod: string) =>
  ({ kind: 'name', t: T0, ip, pod, namespace: '', node: '', service: '' }) as const;

function start(limits: Partial<FeedLimits> = {}, names = true) {
  const state = {
    now: T0,
    asked: [] as string[],
    answered: [] as boolean[],
    left: [] as string[],
    flushes: 0,
    prompt: [] as boolean[],
  };
  let answer: Promise<Subscription> = Promise.resolve({
    flows: [],
    completeSince: { conntrack: T0, tap: T0 },
  });
  const feed = new Feed(() => state.now, { ...FEED_LIMITS, ...limits });
  const capture = {
    subscribe(addresses: readonly string[], { answers = false }: Wishes = {}) {
      state.asked.push(addresses.join());
      state.answered.push(answers);
      return answer;
    },
    unsubscribe: (addresses: readonly string[]) => void state.left.push(addresses.join()),
    readPromptly: (prompt: boolean) => void state.prompt.push(prompt),
    gather() {},
    flush: async () => void state.flushes++,
  };
  feed.connect(
    capture,
    names
      ? {
          lookup: () => undefined,
          history: (ip) => (ip.startsWith('10.244.1.') ? [nameOf(ip, `pod-${ip.split('.')[3]}`)] : []),
        }
      : undefined,
  );
  const read = async (addresses: string[], from?: number | ResumePoint, wishes: ReaderWishes = {}) => {
    const records: FeedRecord[] = [];
    const decoder = new FrameDecoder();
    let writes = 0;
    const write = (some: string | Buffer): void => {
      writes++;
      records.push(...decoder.push(some as Buffer).records);
    };
    const opened = await feed.open(addresses, from, write, { ...wishes, compact: true });
    if (!('reader' in opened))
      return { refused: opened.refused, take: () => '', close() {}, writes: () => 0, last: 0 };
    return {
      refused: undefined,
      /** What has come since the last call. */
      take: (): string =>
        records
          .splice(0)
          .map((each) => (each.kind === 'name' ? `name ${each.ip} ${each.pod}` : each.kind))
          .join(', '),
      close: () => opened.reader.close(),
      writes: () => writes,
      get last() {
        return records.at(-1)?.seq ?? 0;
      },
    };
  };
  return {
    feed,
    state,
    read,
    subscription(next: Promise<Subscription>) {
      answer = next;
    },
  };
}

test('names come ahead of the first record that is about an address, once for each reader', async () => {
  const { feed, read } = start();
  const a = await read([A]);
  a.take();
  feed.batch([request(A, 1)], T0 + 1);
  assert.equal(a.take(), 'name 10.244.1.1 pod-1, name 10.96.0.1 , request, tick');
  feed.batch([request(A, 2), request(A, 2, '10.244.1.2')], T0 + 2);
  assert.equal(a.take(), 'request, name 10.244.1.2 pod-2, request, tick');
  feed.close();
});

test('a name that changes goes to the readers that have met its address, with their next watermark', async () => {
  const { feed, read } = start();
  const [a, b] = [await read([A]), await read([B])];
  feed.batch([request(A, 1)], T0 + 1);
  feed.batch([request(B, 1, '10.244.1.2')], T0 + 1);
  a.take();
  b.take();
  feed.name(nameOf('10.244.1.1', 'new'));
  assert.equal(a.take(), '');
  feed.batch([], T0 + 2);
  assert.deepEqual([a.take(), b.take()], ['name 10.244.1.1 new, tick', '']);
  feed.close();
});

test('what an address is an endpoint of comes behind its name, and changes likewise', async () => {
  const { feed, read } = start();
  const of = (t: number) => ({ kind: 'endpoint', t, ip: '10.244.1.1', of: [] }) as const;
  feed.connect(
    {
      subscribe: async () => ({ flows: [], completeSince: {} }),
      unsubscribe() {},
      readPromptly() {},
      gather() {},
      flush: async () => {},
    },
    {
      lookup: () => undefined,
      history: () => [],
      endpoints: (ip) => (ip === VIP ? [] : [of(T0), of(T0 + 1)]),
    },
  );
  const a = await read([A]);
  a.take();
  feed.batch([request(A, 1)], T0 + 1);
  assert.equal(a.take(), 'name 10.244.1.1 , endpoint, endpoint, name 10.96.0.1 , request, tick');
  feed.name(of(T0 + 2));
  feed.batch([], T0 + 2);
  assert.equal(a.take(), 'endpoint, tick');
  feed.close();
});

test('a reader that has met more addresses than are told apart gets their names again', async () => {
  const { feed, read } = start({ namesPerReader: 3 });
  const a = await read([A]);
  a.take();
  feed.batch([request(A, 1), request(A, 1, '10.244.1.2')], T0 + 1);
  assert.match(a.take(), /pod-1.*pod-2/);
  feed.batch([request(A, 2)], T0 + 2);
  assert.equal(a.take(), 'request, tick');
  feed.batch([request(A, 3, '10.244.1.3'), request(A, 3)], T0 + 3);
  assert.equal(
    a.take(),
    'name 10.244.1.3 pod-3, name 10.96.0.1 , request, name 10.244.1.1 pod-1, request, tick',
  );
  feed.close();
});

test('without names there are none', async () => {
  const { feed, read } = start({}, false);
  const a = await read([A]);
  feed.batch([request(A, 1)], T0 + 1);
  assert.equal(a.take(), 'gap, gap, request, tick');
  feed.close();
});

test('before the first watermark none is sent, and a batch without anything for a reader sends nothing', async () => {
  const { feed, read, state } = start();
  const a = await read([A]);
  assert.deepEqual([a.take(), feed.watermark], ['gap, gap', -Infinity]);
  const before = a.writes();
  state.now = T0 + 899;
  feed.batch([request(B, 1)], T0 + 1);
  assert.equal(a.writes(), before);
  state.now = T0 + 900;
  feed.batch([], T0 + 2);
  assert.equal(a.take(), 'tick');
  assert.equal(feed.watermark, T0 + 2);
  feed.close();
});

test('readers beyond the limits are refused: of all, and of one address', async () => {
  const { feed, read } = start({ readers: 4, readersPerAddress: 2 });
  const first = await read([A]);
  await read([A, B]);
  assert.equal((await read([A])).refused, 'readers');
  assert.equal((await read([B, A])).refused, 'readers', 'one of its addresses is full');
  assert.equal((await read([B])).refused, undefined);
  assert.equal((await read([B])).refused, 'readers');
  first.close();
  assert.equal((await read([A])).refused, undefined);
  assert.equal((await read(['10.244.0.72'])).refused, undefined);
  assert.equal((await read(['10.244.0.73'])).refused, 'readers');
  assert.equal(feed.stats.readers, 4);
  feed.close();
  assert.equal(feed.stats.readers, 0);
});

test('addresses stay watched for half a minute after their last reader, and as long as another one is there', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const { feed, read, state } = start();
  const [one, two] = [await read([A]), await read([A, B])];
  one.close();
  one.close();
  context.mock.timers.tick(60_000);
  assert.deepEqual([state.left, feed.addresses], [[], [A, B]]);
  two.close();
  context.mock.timers.tick(29_999);
  assert.deepEqual(state.left, []);
  const again = await read([A]);
  context.mock.timers.tick(1);
  assert.deepEqual([state.left, feed.addresses], [[B], [A]]);
  again.close();
  context.mock.timers.tick(30_000);
  assert.deepEqual([state.left, feed.addresses], [[B, A], []]);
});

test('addresses that are expected stay watched for half a minute after they were listed last', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const { feed, state } = start();
  await feed.expect([A], []);
  context.mock.timers.tick(29_999);
  await feed.expect([A], []);
  context.mock.timers.tick(29_999);
  assert.deepEqual(state.left, []);
  context.mock.timers.tick(1);
  assert.deepEqual([state.asked, state.left], [[A], [A]]);
  feed.close();
});

test('the kernel is asked for answers where a reader wishes for them', async () => {
  const { feed, state } = start();
  await feed.open([A], undefined, () => {});
  await feed.open([B], undefined, () => {}, { answers: true });
  assert.deepEqual(state.answered, [false, true]);
  feed.close();
});

test('a cursor of before an address was unwatched is not good for it any more', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const { feed, read } = start();
  const one = await read([A]);
  feed.batch([request(A, 1)], T0 + 1);
  const cursor = one.last;
  one.close();
  context.mock.timers.tick(30_000);
  feed.batch([request(A, 2)], T0 + 2);
  assert.match((await read([A], cursor)).take(), /^gap, gap/);
  assert.deepEqual([feed.stats.resumed, feed.stats.freshStarts], [0, 2]);
  feed.close();
});

test('a closed feed watches nothing, and no timer is left', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const { feed, read, state } = start();
  const one = await read([A]);
  await read([B]);
  one.close();
  feed.close();
  assert.deepEqual([feed.addresses, feed.stats.readers], [[], 0]);
  const { length } = state.left;
  context.mock.timers.tick(29_000);
  assert.equal(state.left.length, length);
});

test('a subscription that fails is the reader’s error, and its addresses are let go', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const { feed, read, state, subscription } = start();
  subscription(Promise.reject(new Error('no sockets')));
  await assert.rejects(read([A]), /no sockets/);
  context.mock.timers.tick(30_000);
  assert.deepEqual([state.left, feed.addresses, feed.stats.readers], [[A], [], 0]);
});

test('while the kernel is asked a reader gets nothing, and what is recorded meanwhile is within its gap', async () => {
  const { feed, read, state, subscription } = start();
  let answer = (_: Subscription): void => {};
  subscription(
    new Promise((done) => {
      answer = done;
    }),
  );
  const opening = read([A]);
  await turn();
  assert.deepEqual([state.asked, feed.addresses], [[A], [A]]);
  feed.batch([request(A, 5)], T0 + 9);
  answer({ flows: [], completeSince: { tap: T0 + 3 } });
  const reader = await opening;
  assert.equal(reader.take(), 'gap, tick');
  feed.close();
});

test('a point is taken up if nothing was dropped while the kernel was asked', async () => {
  const { feed, read, subscription } = start({ ringBytes: 200 });
  const one = await read([A]);
  feed.batch([request(A, 1)], T0 + 1);
  const point = { instance: feed.instance, after: one.last, since: T0 + 1 };
  assert.equal((await read([A], point)).take(), 'gap, gap, tick');
  assert.equal(feed.stats.resumed, 1);
  let answer = (_: Subscription): void => {};
  subscription(
    new Promise((done) => {
      answer = done;
    }),
  );
  const opening = read([A], point);
  await turn();
  for (let n = 0; n < 20; n++) feed.batch([request(A, 2)], T0 + 2);
  answer({ flows: [], completeSince: { tap: T0 } });
  await opening;
  assert.deepEqual([feed.stats.resumed, feed.stats.freshStarts], [1, 2]);
  feed.close();
});

test('a cursor of the future, or of an address that is not watched, is answered with a fresh start', async () => {
  const { feed, read } = start();
  const one = await read([A]);
  feed.batch([request(A, 1)], T0 + 1);
  assert.equal((await read([A], one.last)).take(), 'tick', 'nothing was missed');
  assert.match((await read([A], one.last + 1)).take(), /^gap/);
  assert.match((await read([A, B], one.last)).take(), /^gap/);
  assert.match((await read([A], { instance: feed.instance, after: one.last + 1, since: T0 })).take(), /^gap/);
  feed.close();
});

test('a cursor of before its address was watched for answers is not good for a reader that wishes for them', async () => {
  const { feed, read } = start({}, false);
  const one = await read([A]);
  feed.batch([request(A, 1)], T0 + 1);
  const { last } = one;
  const answers = { answers: true };
  const two = await read([A], last, answers);
  assert.match(two.take(), /^gap/);
  feed.batch([request(A, 2)], T0 + 2);
  assert.equal((await read([A], last, answers)).take(), 'request, tick', 'they are read since then');
  feed.close();
});

test('a watermark that is asked for goes to the readers of those addresses, when the kernel was read', async () => {
  const { feed, read, state } = start();
  const [a, b] = [await read([A]), await read([B])];
  a.take();
  b.take();
  await feed.flush([A, '10.244.0.99']);
  assert.equal(state.flushes, 1);
  feed.batch([], T0 + 1);
  assert.deepEqual([a.take(), b.take()], ['tick', '']);
  feed.batch([], T0 + 2);
  assert.equal(a.take(), '', 'once');
  feed.close();
});

test('what is counted of a feed', async () => {
  const { feed, read } = start();
  await read([A]);
  feed.batch([request(A, 1), request(B, 1), { kind: 'gap', t: T0 + 1, source: 'tap', from: T0 }], T0 + 1);
  assert.deepEqual(
    { ...feed.stats, bytes: feed.stats.bytes > 100 },
    { records: 3, bytes: true, readers: 1, freshStarts: 1, resumed: 0, gaps: 1 },
  );
  assert.equal(feed.ringBytes, feed.stats.bytes);
  feed.close();
});

test('after a time without a subscription no cursor of before is good, whatever becomes of the first reader', async (context) => {
  for (const outcome of ['refused', 'hangs', 'gone'] as const) {
    context.mock.timers.enable({ apis: ['setTimeout'] });
    const { feed, read, state, subscription } = start({}, false);
    const one = await read([A]);
    feed.batch([request(A, 1)], T0 + 1);
    const { last } = one;
    one.close();
    context.mock.timers.tick(FEED_LIMITS.lingerMs);
    assert.deepEqual(state.left, [A]);
    const whole = { flows: [], completeSince: { tap: T0 + 5 } };
    if (outcome === 'refused') {
      subscription(Promise.reject(new Error('the listing failed')));
      await assert.rejects(read([A], last));
    } else if (outcome === 'gone') {
      subscription(Promise.resolve(whole));
      (await read([A], last)).close();
    } else {
      subscription(new Promise(() => {}));
      void read([A], last);
      await turn();
    }
    subscription(Promise.resolve(whole));
    const again = await read([A], last);
    const { last: now } = again;
    assert.equal(again.take(), 'gap, tick', outcome);
    assert.equal((await read([A], now)).take(), 'tick', 'nothing is missed from then on');
    feed.close();
    context.mock.timers.reset();
  }
});
