import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Subscription, Wishes } from '../../src/capture/capture.ts';
import { RecordDecoder } from '../../src/feed/codec.ts';
import { FEED_LIMITS, Feed } from '../../src/feed/feed.ts';
import { Names } from '../../src/join/index/names.ts';
import type { FeedRecord, Flow, Observation } from '../../src/model/feed.ts';
import type { ResumePoint } from '../../src/model/resume-point.ts';

const NGINX = '10.244.0.70';
const OTHER = '10.244.0.71';
const BACKEND = '10.244.0.64';
const CART = { pod: 'cart-0', namespace: 'shop', node: 'n1', service: 'cart' };
const T0 = 1_764_837_843_000;

const request = (src: string, t: number, id: string): Observation => ({
  kind: 'request',
  t,
  via: 'tap',
  src,
  sport: 33454,
  vip: '10.105.148.194',
  vport: 10000,
  ip: '10.244.0.64',
  port: 10000,
  id,
  method: 'GET',
  path: '/a"b\\c\u00e9',
  bytes: 120,
});

const flow = (sport: number): Flow => ({
  src: NGINX,
  sport,
  vip: '10.105.148.194',
  vport: 10000,
  ip: BACKEND,
  port: 10000,
});

const open = (src: string, sport: number): Subscription['flows'][number] => ({
  kind: 'open',
  t: T0,
  via: 'conntrack',
  preexisting: true,
  src,
  sport,
  vip: '10.105.148.194',
  vport: 10000,
  ip: '10.244.0.64',
  port: 10000,
});

/** A feed over a capture of the test's own, and a clock that the test moves. */
function start(limits: Partial<typeof FEED_LIMITS> = {}) {
  const state = {
    now: T0,
    subscribed: [] as string[],
    wishes: {} as Wishes,
    unsubscribed: [] as string[],
    prompt: [] as boolean[],
    flushes: 0,
  };
  const feed = new Feed(() => state.now, { ...FEED_LIMITS, ...limits });
  feed.connect(
    {
      async subscribe(addresses, { answers = false, content = false } = {}) {
        state.subscribed.push(...addresses);
        state.wishes = { answers, content };
        return { flows: [open(addresses[0]!, 40_000)], completeSince: { conntrack: T0 - 5, tap: T0 - 1 } };
      },
      unsubscribe: (addresses) => void state.unsubscribed.push(...addresses),
      readPromptly: (prompt) => void state.prompt.push(prompt),
      gather() {},
      async flush() {
        state.flushes++;
        feed.batch([], state.now);
      },
    },
    {
      lookup: (ip) => (ip === BACKEND ? CART : undefined),
      history: (ip) => (ip === BACKEND ? [{ kind: 'name', t: T0 - 60_000, ip, ...CART }] : []),
    },
  );
  const read = async (addresses: string[], after?: number | ResumePoint) => {
    const records: FeedRecord[] = [];
    const decoder = new RecordDecoder();
    const opened = await feed.open(addresses, after, (text) => {
      const { records: decoded, error } = decoder.push(Buffer.from(text));
      assert.equal(error, undefined);
      records.push(...decoded);
    });
    assert.ok('reader' in opened);
    return { records, reader: opened.reader };
  };
  return { feed, state, read };
}

const kinds = (records: readonly FeedRecord[]): string => records.map(({ kind }) => kind).join(' ');

test('a new reader gets a gap for each source and the connections that are open, named', async () => {
  const { feed, read } = start();
  feed.batch([], T0);
  const { records } = await read([NGINX]);
  assert.equal(kinds(records), 'gap gap name name open tick');
  const [gap, , backend, clusterIp, held] = records;
  const { seq } = gap!;
  assert.deepEqual(gap, { kind: 'gap', seq, t: T0, source: 'conntrack' });
  assert.deepEqual(backend, { kind: 'name', seq, t: T0 - 60_000, ip: BACKEND, ...CART });
  const none = { pod: '', namespace: '', node: '', service: '' };
  assert.deepEqual(clusterIp, { kind: 'name', seq, t: T0, ip: '10.105.148.194', ...none });
  assert.ok(held?.kind === 'open' && held.preexisting);
});

test('what was read behind the last watermark, before a reader came, is in its gap', async () => {
  const { feed, state, read } = start();
  await read([NGINX]);
  // A reading may be long on a busy machine, and finds what happens meanwhile.
  feed.batch([request(NGINX, T0 + 40, 'read'), request(NGINX, T0 + 70, 'read last')], T0 + 5);
  state.now = T0 + 71;
  const gap = async () =>
    (await read([NGINX])).records.filter(({ kind }) => kind === 'gap').map(({ t }) => t - T0);
  assert.deepEqual(await gap(), [70, 70]);
  feed.batch([], T0 + 72);
  assert.deepEqual(await gap(), [72, 72]);
  // The clock was set back within this batch.
  state.now = T0 - 3_000;
  feed.batch([request(NGINX, T0 + 73, 'before')], T0 - 3_001);
  assert.deepEqual(await gap(), [-5, -1], 'since when the capture has the address');
});

test('a reader gets the records of its own addresses only, and each batch ends in a watermark', async () => {
  const { feed, read } = start();
  const mine = await read([NGINX]);
  mine.records.length = 0;
  feed.batch([request(NGINX, T0 + 1, 'mine'), request(OTHER, T0 + 1, 'other')], T0 + 1);
  assert.equal(kinds(mine.records), 'request tick');
  const [record] = mine.records;
  assert.deepEqual(record, { ...request(NGINX, T0 + 1, 'mine'), seq: record!.seq });
});

test('what a reader wishes of its addresses is asked of the capture', async () => {
  const { feed, state } = start();
  await feed.open([NGINX], undefined, () => {}, { answers: true, content: true });
  assert.deepEqual(state.wishes, { answers: true, content: true });
  await feed.open([OTHER], undefined, () => {});
  assert.deepEqual(state.wishes, { answers: false, content: false });
  feed.close();
});

test('a gap goes to everyone, before the watermark that it precedes', async () => {
  const { feed, read } = start();
  const { records } = await read([NGINX]);
  records.length = 0;
  feed.batch([{ kind: 'gap', t: T0 + 9, from: T0 + 2, source: 'tap', lost: 3 }], T0 + 9);
  assert.equal(kinds(records), 'gap tick');
});

test('a reader that comes back in time goes on where it was, without a gap', async () => {
  const { feed, read, state } = start();
  const first = await read([NGINX]);
  feed.batch([request(NGINX, T0 + 1, 'one')], T0 + 1);
  const cursor = first.records.at(-1)!.seq;
  first.reader.close();
  feed.batch([request(NGINX, T0 + 2, 'two'), request(OTHER, T0 + 2, 'not mine')], T0 + 2);
  const again = await read([NGINX], cursor);
  // The names come again: one may have changed meanwhile.
  assert.equal(kinds(again.records), 'name request tick');
  assert.ok(again.records[1]?.kind === 'request' && again.records[1].id === 'two');
  assert.deepEqual(state.unsubscribed, []);
  again.reader.close();
  feed.close();
});

test('a reader that remembers nothing goes on from a point: a gap up to it, what was open there, what followed', async () => {
  const { feed, read } = start();
  const first = await read([NGINX]);
  feed.batch([request(NGINX, T0 + 1, 'one')], T0 + 1);
  const after = first.records.at(-1)!.seq;
  first.reader.close();
  const t = T0 + 2;
  const followed: Observation[] = [
    { kind: 'close', t, via: 'conntrack', ...flow(40_001) },
    { kind: 'open', t, via: 'conntrack', ...flow(40_002) },
    request(NGINX, T0 + 3, 'two'),
  ];
  feed.batch(followed, T0 + 3);
  const point = { instance: feed.instance, after, since: T0 + 1.5 };
  const again = await read([NGINX], point);
  assert.equal(kinds(again.records), 'gap gap name name open open open close open request tick');
  const gaps = again.records.filter((record) => record.kind === 'gap');
  assert.deepEqual(
    gaps.map(({ source, t, from }) => [source, t, from]),
    [
      ['conntrack', T0 + 1.5, undefined],
      ['tap', T0 + 1.5, undefined],
    ],
  );
  const opens = again.records.filter((record) => record.kind === 'open');
  // 40001 ended since then, 33454 carried a request, 40000 is open now. 40002 was opened since then: only its record comes.
  assert.deepEqual(
    opens.map(({ sport, preexisting }) => [sport, preexisting]),
    [
      [40_001, true],
      [33_454, true],
      [40_000, true],
      [40_002, undefined],
    ],
  );
  again.reader.close();
  feed.close();
});

test('a reader that remembers nothing gets to know which of its connections cannot be read', async () => {
  const { feed, read } = start();
  const first = await read([NGINX]);
  feed.batch([{ kind: 'unreadable', t: T0 + 1, via: 'tap', protocol: 'http2', ...flow(40_000) }], T0 + 1);
  const after = first.records.at(-1)!.seq;
  first.reader.close();
  const again = await read([NGINX], { instance: feed.instance, after, since: T0 + 1 });
  assert.equal(kinds(again.records), 'gap gap name name open unreadable tick');
  feed.close();
});

test('that a connection could not be read is told as long as it was open at the point, and not of one that had ended', async () => {
  const { feed, read } = start();
  const first = await read([NGINX]);
  const unreadable = (sport: number, of: Flow = flow(sport)): Observation => {
    return { kind: 'unreadable', t: T0 + 1, via: 'tap', protocol: 'tls', ...of };
  };
  const bare: Flow = { src: NGINX, sport: 41_003, ip: BACKEND, port: 10000 };
  const close = (sport: number): Observation => ({
    kind: 'close',
    t: T0 + 2,
    via: 'conntrack',
    ...flow(sport),
  });
  feed.batch([unreadable(41_001), unreadable(41_002), unreadable(41_003, bare), close(41_001)], T0 + 2);
  const after = first.records.at(-1)!.seq;
  feed.batch([close(41_002), close(41_003)], T0 + 3);
  first.reader.close();
  const again = await read([NGINX], { instance: feed.instance, after, since: T0 + 2 });
  const told = again.records.flatMap((each) => (each.kind === 'unreadable' ? [each.sport] : []));
  assert.deepEqual(told, [41_002, 41_003]);
  feed.close();
});

test('a point of another helper, or one that is no longer held, is answered with a fresh start', async () => {
  const { feed, read } = start({ ringBytes: 600 });
  const first = await read([NGINX]);
  const after = first.records.at(-1)!.seq;
  const other = await read([NGINX], { instance: 'another', after, since: T0 - 9 });
  assert.ok(other.records[0]?.kind === 'gap' && other.records[0].t >= T0 - 5);
  for (let i = 0; i < 10; i++) feed.batch([request(NGINX, T0 + i, `id-${i}`)], T0 + i);
  const late = await read([NGINX], { instance: feed.instance, after, since: T0 - 9 });
  assert.ok(late.records[0]?.kind === 'gap' && late.records[0].t === T0 + 9);
  assert.equal(feed.stats.resumed, 0);
  feed.close();
});

test('records outside the sequence have no cursor, so that a feed cut among them is not taken up behind them', async () => {
  const { feed, read } = start();
  const { records } = await read([NGINX]);
  assert.deepEqual(
    records.map(({ kind, seq }) => [kind, seq > 0]),
    [
      ['gap', false],
      ['gap', false],
      ['name', false],
      ['name', false],
      ['open', false],
    ],
  );
  feed.batch([request(NGINX, T0 + 1, 'one')], T0 + 1);
  assert.ok(records.at(-1)!.seq > 0);
  feed.close();
});

test('a cursor that is no longer held, of an earlier helper, or from before the watch begins anew', async () => {
  const { feed, read } = start({ ringBytes: 600 });
  const first = await read([NGINX]);
  const cursor = first.records.at(-1)!.seq;
  for (let i = 0; i < 10; i++) feed.batch([request(NGINX, T0 + i, `id-${i}`)], T0 + i);
  assert.equal(kinds((await read([NGINX], cursor)).records).startsWith('gap gap'), true);
  assert.equal(kinds((await read([NGINX], 12)).records).startsWith('gap gap'), true);
  assert.equal(kinds((await read([NGINX], cursor + 1e9)).records).startsWith('gap gap'), true);
  assert.equal(kinds((await read([OTHER], feed.stats.records + cursor)).records).startsWith('gap gap'), true);
  feed.close();
});

test('a quiet reader gets a watermark when one is asked for, and otherwise once a second', async () => {
  const { feed, read, state } = start();
  const { records } = await read([NGINX]);
  records.length = 0;
  state.now += 10;
  feed.batch([], state.now);
  assert.equal(kinds(records), '');
  await feed.flush([NGINX]);
  assert.equal(kinds(records), 'tick');
  state.now += 1_000;
  feed.batch([], state.now);
  assert.equal(kinds(records), 'tick tick');
});

test('one reader more than the limit is refused', async () => {
  const { feed, read } = start({ readers: 1 });
  await read([NGINX]);
  assert.deepEqual(await feed.open([OTHER], undefined, () => {}), { refused: 'readers' });
});

test('what was recorded while a reader was away comes with the names of then and of now', async () => {
  let now: { pod: string; since: number }[] = [{ pod: 'cart-0', since: T0 - 1000 }];
  const feed = new Feed(() => T0);
  const record = ({ pod, since }: { pod: string; since: number }) =>
    ({ kind: 'name', t: since, ip: BACKEND, pod, namespace: 'shop', node: '', service: '' }) as const;
  feed.connect(
    {
      subscribe: async () => ({ flows: [], completeSince: {} }),
      unsubscribe: () => {},
      readPromptly: () => {},
      gather() {},
      flush: async () => {},
    },
    {
      lookup: () => undefined,
      history: (ip) => (ip === BACKEND ? now.map(record) : []),
    },
  );
  const names = new Names();
  const read = async (after?: number) => {
    const decoder = new RecordDecoder();
    let last = 0;
    const opened = await feed.open([NGINX], after, (text) => {
      for (const each of decoder.push(Buffer.from(text)).records) {
        last = each.seq;
        if (each.kind === 'name') names.set(each);
      }
    });
    assert.ok('reader' in opened);
    return { reader: opened.reader, cursor: () => last };
  };
  const first = await read();
  feed.batch([request(NGINX, T0 + 1, 'one')], T0 + 1);
  first.reader.close();
  const old = T0 + 2;
  feed.batch([request(NGINX, old, 'two')], T0 + 2);
  now = [...now, { pod: 'cart-9', since: T0 + 50 }];
  feed.name(record(now[1]!));
  await read(first.cursor());
  assert.equal(names.of(BACKEND, old, old, T0 + 100)?.pod, 'cart-0');
  assert.equal(names.of(BACKEND, T0 + 60, T0 + 60, T0 + 100)?.pod, 'cart-9');
  feed.close();
});

test('conntrack is read promptly as long as a reader wants event times', async () => {
  const { feed, state } = start();
  const plain = await feed.open([NGINX], undefined, () => {});
  assert.equal(state.prompt.at(-1), false);
  const wanting = await feed.open([OTHER], undefined, () => {}, { prompt: true });
  assert.equal(state.prompt.at(-1), true);
  assert.ok('reader' in plain && 'reader' in wanting);
  plain.reader.close();
  assert.equal(state.prompt.at(-1), true);
  wanting.reader.close();
  assert.equal(state.prompt.at(-1), false);
});

test('a new reader of an address that is watched already is told of a gap up to now, as it gets nothing older', async () => {
  const { feed } = start();
  await feed.open([NGINX], undefined, () => {});
  feed.batch([request(NGINX, T0 + 500, 'before')], T0 + 1_000);
  let text = '';
  await feed.open([NGINX], undefined, (piece) => {
    text += piece;
  });
  const { records } = new RecordDecoder().push(Buffer.from(text));
  const gaps = records.filter((record) => record.kind === 'gap');
  assert.equal(gaps.length, 2);
  for (const gap of gaps) assert.equal(gap.t, T0 + 1_000);
  assert.ok(!text.includes('before'));
});

test('a cursor of before its address was watched is answered with a fresh start', async () => {
  const { feed, read } = start();
  const begun = Math.floor(T0 * 1000);
  feed.batch([request(OTHER, T0, 'x')], T0);
  await read([NGINX]);
  await read([NGINX], begun + 2);
  assert.deepEqual([feed.stats.freshStarts, feed.stats.resumed], [1, 1]);
  await read([NGINX], begun + 1);
  assert.deepEqual([feed.stats.freshStarts, feed.stats.resumed], [2, 1]);
});
