/** The smaller parts of the feed: what was open at a point, texts that come again, the embedded reader, points in time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { SnapshotObservation, Subscription } from '../../src/capture/capture.ts';
import { decodeRecord, encodeRecord } from '../../src/feed/codec.ts';
import { readEmbeddedFeed } from '../../src/feed/embedded.ts';
import { FEED_LIMITS, Feed } from '../../src/feed/feed.ts';
import { lastingOf, openedBefore } from '../../src/feed/replay.ts';
import { ResumePoints } from '../../src/feed/resume-points.ts';
import { KeptRecord } from '../../src/feed/ring.ts';
import { RecordScanner } from '../../src/feed/scanner.ts';
import { TextCache } from '../../src/feed/text-cache.ts';
import type { FeedRecord, Flow, Observation } from '../../src/model/feed.ts';

const T0 = 1_764_837_843_000;
const NGINX = '10.244.0.70';
const flow = (sport: number): Flow => ({
  src: NGINX,
  sport,
  vip: '10.96.0.1',
  vport: 80,
  ip: '10.244.1.1',
  port: 8000,
});
const open = (sport: number, more: object = {}): SnapshotObservation =>
  ({
    kind: 'open',
    t: T0,
    via: 'conntrack',
    preexisting: true,
    ...flow(sport),
    ...more,
  }) as SnapshotObservation;
const line = (text: string): KeptRecord => {
  const bytes = Buffer.from(text);
  return new KeptRecord(1, bytes, 0, bytes.length);
};
const written = (observation: Observation): string => encodeRecord(observation, 1);
const text = (observation: Observation): KeptRecord => line(written(observation));
const record = (kind: 'open' | 'close', sport: number, more: object = {}): KeptRecord =>
  text({ kind, t: T0, via: 'conntrack', ...flow(sport), ...more } as Observation);

test('open at a point is what is open now, and what ended or was seen since, but for what was opened since', () => {
  const texts = [
    text({ kind: 'tick', t: T0 }),
    text({ kind: 'gap', t: T0, source: 'tap' }),
    text({ kind: 'name', t: T0, ip: NGINX, pod: '', namespace: '', node: '', service: '' }),
    line('{"kind":"later","seq":1,"t":2}'),
    line('no record'),
    record('close', 1),
    record('open', 2),
    record('close', 2),
    record('open', 3, { preexisting: true }),
    record('open', 4, { via: 'kernel-log' }),
    record('close', 7, { update: true }),
    // Ended, and its tuple opened again: the one before was open at the point.
    record('close', 5),
    record('open', 5),
  ];
  const unreadable = { kind: 'unreadable', t: T0, via: 'tap', protocol: 'tls' } as const;
  const flows = [
    open(2),
    open(6, { t: T0 + 7 }),
    { ...unreadable, ...flow(6) },
    { ...unreadable, ...flow(2) },
  ];
  const found = openedBefore(texts, flows as SnapshotObservation[], T0 - 9);
  assert.deepEqual(
    found.map(({ kind, sport, t }) => [kind, sport, t - T0]),
    [
      ['open', 1, -9],
      ['open', 3, -9],
      ['open', 5, -9],
      ['open', 6, -9],
      ['unreadable', 6, 0],
    ],
  );
  for (const each of found.slice(0, 4))
    assert.ok(each.kind === 'open' && each.preexisting && each.via === 'conntrack');
});

test('a connection without a VIP has none at the point either, and equal ports to other ends are other connections', () => {
  const { vip: _, vport: __, ...bare } = flow(1);
  const unread = openedBefore(
    [record('close', 1, { protocol: 'tls' }), record('open', 1), record('close', 1)],
    [],
    T0,
  );
  assert.deepEqual(
    unread.map(({ kind, ...each }) => ('protocol' in each ? `${kind} ${each.protocol}` : kind)),
    ['open', 'unreadable tls'],
    'the record that it could not be read is older than all that is kept',
  );
  const [found] = openedBefore([text({ kind: 'close', t: T0, via: 'conntrack', ...bare })], [], T0);
  assert.deepEqual(found, { kind: 'open', t: T0, via: 'conntrack', preexisting: true, ...bare });
  const ends = [
    {},
    { vport: 81 },
    { vip: '10.96.0.2' },
    { ip: '10.244.1.2' },
    { port: 8001 },
    { src: '10.244.0.71' },
  ];
  assert.equal(
    openedBefore(
      ends.map((other) => record('close', 1, other)),
      [],
      T0,
    ).length,
    ends.length,
  );
  assert.equal(openedBefore([record('close', 1), record('close', 1)], [open(1)], T0).length, 1);
});

test('only that a connection cannot be read lasts until its end', () => {
  const unreadable = text({ kind: 'unreadable', t: T0, via: 'tap', protocol: 'tls', ...flow(1) });
  const some = [unreadable, record('open', 1), line('{"kind":"unreadable"')];
  assert.deepEqual([...lastingOf(some, [flow(1)])], [unreadable]);
  assert.deepEqual([...lastingOf(some, [flow(2)])], []);
});

test('equal bytes give the same text, others their own, and long ones are made anew', () => {
  const cache = new TextCache();
  const of = (value: string, before = '', after = ''): string => {
    const bytes = Buffer.from(before + value + after);
    return cache.text(bytes, before.length, before.length + value.length);
  };
  for (const value of ['', 'a', '10.244.0.1', 'x'.repeat(64), 'x'.repeat(65)]) {
    assert.equal(of(value), value);
    assert.equal(of(value, 'before', 'after'), value);
  }
  // More texts than there are slots: those that share one replace each other.
  for (let n = 0; n < 20_000; n++) assert.equal(of(`10.${n >> 8}.${n & 255}.1`), `10.${n >> 8}.${n & 255}.1`);
  for (let n = 0; n < 20_000; n++) assert.equal(of(`10.${n >> 8}.${n & 255}.1`), `10.${n >> 8}.${n & 255}.1`);
});

test('texts of one slot that differ in every character are told apart', () => {
  const cache = new TextCache();
  const of = (value: string): string => cache.text(Buffer.from(value), 0, value.length);
  const texts = Array.from({ length: 20_000 }, (_, n) => n.toString(10).padStart(6, '0'));
  // Of two alphabets that share nothing.
  const other = (text: string): string => text.replace(/\d/g, (digit) => 'abcdefghij'[Number(digit)]!);
  for (const text of texts) assert.equal(of(text), text);
  for (const text of texts) assert.equal(of(other(text)), other(text));
});

test('a scanner that met what it cannot read reads the next line', () => {
  const scanner = new RecordScanner();
  const good = Buffer.from(written({ kind: 'tick', t: T0 }));
  for (const bad of ['{"kind":"tick","seq":01,"t":1}\n', '{"kind":"tick","seq":1,"t":x}\n']) {
    const bytes = Buffer.from(bad);
    assert.equal(scanner.scan(bytes, 0, bytes.length), undefined);
    assert.deepEqual(scanner.scan(good, 0, good.length), { kind: 'tick', seq: 1, t: T0 });
  }
});

test('numbers of the feed: ports, whole numbers and times at their bounds', () => {
  const tick = (seq: string, t: string): unknown => {
    const bytes = Buffer.from(`{"kind":"tick","seq":${seq},"t":${t}}\n`);
    return new RecordScanner().scan(bytes, 0, bytes.length);
  };
  assert.deepEqual(tick('0', '0'), { kind: 'tick', seq: 0, t: 0 });
  assert.deepEqual(tick('9007199254740991', '1.5'), { kind: 'tick', seq: Number.MAX_SAFE_INTEGER, t: 1.5 });
  assert.deepEqual(tick('1', '1764837843000.123'), { kind: 'tick', seq: 1, t: 1_764_837_843_000.123 });
  for (const [seq, t] of [
    ['9007199254740992', '1'],
    ['00', '1'],
    ['1', '1.'],
    ['1', '1.1234'],
    ['1', '9007199254740.999'],
    ['', '1'],
    ['1', ''],
  ])
    assert.equal(tick(seq!, t!), undefined, `${seq} ${t}`);
  const port = (value: number): boolean =>
    typeof decodeRecord(
      JSON.stringify({ kind: 'open', seq: 1, t: 1, via: 'tap', ...flow(1), sport: value }),
    ) === 'object';
  assert.deepEqual([0, 65_535, 65_536, -1, 1.5].map(port), [true, true, false, false, false]);
  const scanned = (value: number): boolean => {
    const bytes = Buffer.from(written({ kind: 'open', t: T0, via: 'tap', ...flow(value) }));
    return new RecordScanner().scan(bytes, 0, bytes.length) !== undefined;
  };
  assert.deepEqual([0, 65_535, 65_536].map(scanned), [true, true, false]);
});

test('addresses of the feed have 2 to 45 characters, of digits, a to f, points and colons', () => {
  const scanned = (src: string): boolean => {
    const bytes = Buffer.from(written({ kind: 'open', t: T0, via: 'tap', ...flow(1), src }));
    const record = new RecordScanner().scan(bytes, 0, bytes.length);
    if (record) assert.deepEqual(record, decodeRecord(bytes.toString().trimEnd()));
    return record !== undefined;
  };
  const cases: [string, boolean][] = [
    ['::', true],
    [':', false],
    ['1'.repeat(45), true],
    ['1'.repeat(46), false],
    ...[...'/09:;`afg.,AF'].map((each): [string, boolean] => [`1${each}`, /[0-9a-f:.]/.test(each)]),
  ];
  for (const [address, good] of cases) {
    assert.equal(scanned(address), good, address);
    const decoded = decodeRecord(written({ kind: 'open', t: T0, via: 'tap', ...flow(1), src: address }));
    assert.equal(typeof decoded === 'object', good, address);
  }
});

test('every field of a record is checked for its type', () => {
  const of = (kind: string, more: object): boolean =>
    typeof decodeRecord(JSON.stringify({ kind, seq: 1, t: 1, via: 'conntrack', ...flow(1), ...more })) ===
    'object';
  const counts = { sentPackets: 1, sentBytes: 1, receivedPackets: 1, receivedBytes: 1 };
  const good: Record<string, unknown> = {
    id: 'a',
    method: 'GET',
    path: '/',
    bytes: 1,
    sent: 1,
    received: 1,
    openedAfter: 1,
    endedBefore: 1,
    counts,
  };
  assert.equal(of('request', good), true);
  for (const field of Object.keys(good))
    for (const bad of [null, true, [], typeof good[field] === 'string' ? 1 : '1'])
      assert.equal(of('request', { ...good, [field]: bad }), false, `${field} ${bad}`);
  for (const field of Object.keys(counts))
    assert.equal(of('close', { counts: { ...counts, [field]: '1' } }), false, field);
  for (const field of ['src', 'ip', 'vip', 'sport', 'port', 'vport', 'via'])
    for (const kind of ['open', 'close', 'request', 'response'])
      assert.equal(of(kind, { [field]: null }), false, field);
  assert.equal(of('request', { vip: undefined, vport: undefined }), true);
  for (const via of ['conntrack', 'tap', 'kernel-log']) assert.equal(of('open', { via }), true);
  assert.equal(of('unreadable', { protocol: 'http2' }), true);
  assert.equal(of('unreadable', { protocol: 'http9' }), false);
  assert.equal(of('unreadable', { protocol: 'tls', src: 1 }), false);
  for (const more of [{ seq: '1' }, { t: null }, { t: '1' }]) assert.equal(of('tick', more), false);
  const gap = (more: object): boolean =>
    typeof decodeRecord(JSON.stringify({ kind: 'gap', seq: 1, t: 1, source: 'tap', ...more })) === 'object';
  assert.deepEqual([{}, { from: 1 }, { lost: 1 }, { from: '1' }, { lost: null }, { source: 'x' }].map(gap), [
    true,
    true,
    true,
    false,
    false,
    false,
  ]);
  const name = { ip: NGINX, pod: '', namespace: '', node: '', service: '' };
  const named = (more: object): boolean =>
    typeof decodeRecord(JSON.stringify({ kind: 'name', seq: 1, t: 1, ...name, ...more })) === 'object';
  assert.equal(named({}), true);
  for (const field of Object.keys(name)) assert.equal(named({ [field]: undefined }), false, field);
});

const tick = (seq: number, t: number): FeedRecord => ({ kind: 'tick', seq, t });

test('points are a second apart at least, and the oldest that is handed out is ten seconds old at least', () => {
  const points = new ResumePoints();
  points.connected('a');
  const read = (after: number, at: number): number => {
    points.read([tick(after, T0 + at)], after, T0 + at);
    return points.oldest!.after;
  };
  assert.equal(read(1, 0), 1);
  assert.equal(read(2, 999), 1);
  assert.equal(read(3, 1_000), 1);
  assert.equal(read(4, 10_000), 1);
  assert.equal(read(5, 11_000), 3, 'the next one is ten seconds old');
  assert.equal(read(6, 40_000), 5, 'the youngest that is as old');
  // The clock was set back: times apart count, whichever way.
  assert.equal(read(7, 39_500), 5);
  assert.equal(read(8, 30_000), 6);
});

/** A feed over a capture of the test's own. */
function embedded(
  subscribe = async (): Promise<Subscription> => ({ flows: [], completeSince: { tap: T0 - 1 } }),
) {
  const state = { flushes: 0, done: () => {}, prompt: [] as boolean[], asked: [] as string[] };
  const feed = new Feed(() => T0, FEED_LIMITS);
  feed.connect({
    subscribe(addresses) {
      state.asked.push(addresses.join());
      return subscribe();
    },
    unsubscribe: () => {},
    readPromptly: (prompt) => state.prompt.push(prompt),
    gather() {},
    flush: () => {
      state.flushes++;
      return new Promise((done) => {
        state.done = done;
      });
    },
  });
  return { feed, state };
}

test('a feed in the same process brings its records, counts them, and is there until it is stopped', async () => {
  const { feed, state } = embedded();
  const kinds: string[] = [];
  const source = await readEmbeddedFeed({
    feed,
    addresses: [NGINX],
    prompt: true,
    clock: () => T0 + 5,
    onRecords: (records) => kinds.push(...records.map(({ kind }) => kind)),
    onNotice: (_, text) => assert.fail(text),
  });
  assert.equal(state.prompt.at(-1), true);
  assert.deepEqual(kinds, ['gap']);
  feed.batch([{ kind: 'open', t: T0, via: 'conntrack', ...flow(1) }], T0);
  assert.deepEqual(kinds, ['gap', 'open', 'tick']);
  const { bytes, ...stats } = source.stats;
  assert.deepEqual(stats, { connected: true, connects: 1, failures: 0, records: 3, lastAt: T0 + 5 });
  assert.ok(bytes > 100);
  assert.deepEqual([source.returning, source.resumePoint, source.addresses], [false, undefined, [NGINX]]);
  source.requestTick();
  source.requestTick();
  assert.equal(state.flushes, 1, 'one at a time');
  state.done();
  await turn();
  source.requestTick();
  assert.equal(state.flushes, 2);
  source.stop();
  assert.equal(source.stats.connected, false);
  feed.batch([], T0 + 10_000);
  assert.equal(kinds.length, 3);
  feed.close();
});

test('a feed in the same process takes up other addresses, and one that was stopped meanwhile takes up none', async () => {
  const { feed, state } = embedded();
  const notices: string[] = [];
  const options = { feed, addresses: [NGINX], clock: () => T0, onRecords: () => {} };
  const source = await readEmbeddedFeed({ ...options, onNotice: (_, text) => notices.push(text) });
  source.subscribe([NGINX, '10.244.0.71']);
  await turn();
  assert.deepEqual(source.addresses, [NGINX, '10.244.0.71']);
  assert.deepEqual(state.asked, [NGINX, `${NGINX},10.244.0.71`]);
  assert.equal(feed.stats.readers, 1, 'the reader before is gone');
  source.subscribe([NGINX]);
  source.stop();
  await turn();
  assert.equal(feed.stats.readers, 0);
  feed.close();
});

test('in the same process a feed of addresses that are no longer asked for brings nothing', async () => {
  const answers: (() => void)[] = [];
  const { feed } = embedded(async () => {
    await new Promise<void>((done) => answers.push(done));
    return { flows: [], completeSince: { tap: T0 } };
  });
  const kinds: string[] = [];
  const reading = readEmbeddedFeed({
    feed,
    addresses: [NGINX],
    clock: () => T0,
    onRecords: (records) => kinds.push(...records.map(({ kind }) => kind)),
    onNotice: (_, text) => assert.fail(text),
  });
  answers.shift()!();
  const source = await reading;
  source.subscribe([NGINX, '10.244.0.71']);
  source.subscribe([NGINX, '10.244.0.71', '10.244.0.72']);
  feed.batch([], T0 + 1);
  kinds.length = 0;
  answers.shift()!();
  await turn();
  assert.deepEqual([kinds, feed.stats.readers], [[], 0]);
  answers.shift()!();
  await turn();
  assert.deepEqual([kinds, feed.stats.readers], [['gap', 'tick'], 1]);
  source.stop();
  assert.equal(feed.stats.readers, 0);
  feed.close();
});

test('a capture that refuses other addresses is said', async () => {
  let refuse = false;
  const { feed } = embedded(async () => {
    if (refuse) throw new Error('no more sockets');
    return { flows: [], completeSince: {} };
  });
  const notices: string[] = [];
  const options = { feed, addresses: [NGINX], clock: () => T0, onRecords: () => {} };
  const source = await readEmbeddedFeed({
    ...options,
    onNotice: (level, text) => notices.push(`${level}: ${text}`),
  });
  refuse = true;
  source.subscribe(['10.244.0.71']);
  await turn();
  assert.deepEqual(notices, ['warn: no more sockets; no records until the next start']);
  assert.equal(feed.stats.readers, 0);
  feed.close();
});
