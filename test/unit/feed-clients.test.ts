/** The connections of clients in the feed: for readers that request them, from the beginning of their record on. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ClientObservation, Wishes } from '../../src/capture/capture.ts';
import { decodeRecord, encodeRecord, RecordDecoder } from '../../src/feed/codec.ts';
import { FEED_LIMITS, Feed, type ReaderWishes } from '../../src/feed/feed.ts';
import type { FeedRecord, Observation } from '../../src/model/feed.ts';
import type { ResumePoint } from '../../src/model/resume-point.ts';

const T0 = 1_764_837_843_000;
const NGINX = '10.244.0.70';
const pair = { dst: NGINX, dport: 80, peer: '10.244.0.1', client: '192.0.2.1' };
const client = (peerPort: number, more: object = {}): ClientObservation =>
  ({
    kind: 'client',
    t: T0,
    ...pair,
    peerPort,
    clientPort: 50_000,
    via: 'conntrack',
    ...more,
  }) as ClientObservation;
const begins: ClientObservation = {
  kind: 'clients',
  t: T0 - 9,
  dst: NGINX,
  complete: true,
  nodes: ['10.244.1.0'],
};

function start() {
  const wishes: Wishes[] = [];
  const feed = new Feed(() => T0, FEED_LIMITS);
  feed.connect({
    async subscribe(_, wished = {}) {
      wishes.push(wished);
      const base = { flows: [], completeSince: { conntrack: T0 - 5 } };
      return wished.clients ? { ...base, clients: [begins, client(1, { preexisting: true })] } : base;
    },
    unsubscribe() {},
    readPromptly() {},
    gather() {},
    async flush() {},
  });
  const read = async (wished: ReaderWishes, from?: number | ResumePoint) => {
    const records: FeedRecord[] = [];
    const decoder = new RecordDecoder();
    const write = (text: string | Buffer): void => {
      const { records: decoded, error } = decoder.push(Buffer.from(text as string));
      assert.equal(error, undefined);
      records.push(...decoded);
    };
    const opened = await feed.open([NGINX], from, write, wished);
    assert.ok('reader' in opened);
    return { records, reader: opened.reader };
  };
  return { feed, read, wishes };
}

const kinds = (records: readonly FeedRecord[]): string => records.map(({ kind }) => kind).join(' ');

test('a reader that requests clients gets those that are connected, from the watermark on', async () => {
  const { feed, read, wishes } = start();
  feed.batch([], T0);
  const { records } = await read({ clients: true });
  assert.equal(wishes[0]?.clients, true);
  assert.equal(kinds(records), 'gap clients client tick');
  assert.deepEqual(records[1], { ...begins, t: T0, seq: 0 });
  assert.deepEqual(records[2], { ...client(1, { preexisting: true }), seq: 0 });
  records.length = 0;
  feed.batch([client(2), client(2, { end: 'fin' }), { ...client(3), dst: '10.244.0.71' }], T0 + 1);
  assert.equal(kinds(records), 'client client tick');
});

test('other readers of the address get none', async () => {
  const { feed, read } = start();
  await read({ clients: true });
  const { records } = await read({});
  records.length = 0;
  feed.batch([client(2), begins, { kind: 'gap', t: T0, from: T0, source: 'tap' }], T0 + 1);
  assert.equal(kinds(records), 'gap tick');
});

test('a reader that comes back goes on where it was; one that had requested no clients begins anew', async () => {
  const { feed, read } = start();
  feed.batch([], T0);
  const first = await read({});
  feed.batch([client(2)], T0 + 1);
  const { seq } = first.records.at(-1)!;
  assert.ok(seq > 0);
  assert.equal(kinds((await read({}, seq)).records), 'client tick', 'it could go on without them');
  first.reader.close();
  feed.batch([client(3)], T0 + 2);
  assert.equal(kinds((await read({ clients: true }, seq)).records), 'gap clients client tick');
  const { records } = await read({ clients: true });
  feed.batch([client(4)], T0 + 3);
  const last = records.at(-1)!.seq;
  feed.batch([client(5)], T0 + 4);
  const again = await read({ clients: true }, last);
  assert.equal(kinds(again.records), 'client tick');
});

test('a sidecar that starts again has the record of clients from now on', async () => {
  const { feed, read } = start();
  const { records } = await read({ clients: true });
  feed.batch([client(4)], T0 + 3);
  const after = records.at(-1)!.seq;
  feed.batch([client(5)], T0 + 4);
  const point = { instance: feed.instance, after, since: T0 + 3 };
  const again = await read({ clients: true }, point);
  assert.equal(kinds(again.records), 'gap client clients client tick');
  assert.equal(again.records[2]!.t, T0 + 4);
});

test('the records of clients survive the wire, and damaged ones do not', () => {
  const observations: Observation[] = [
    client(1),
    client(1, { preexisting: true }),
    client(1, { kernelTime: true }),
    client(1, { end: 'fin' }),
    client(1, { end: 'gone' }),
    begins,
    { kind: 'clients', t: T0, dst: NGINX, complete: false, nodes: [] },
    { kind: 'clients', t: T0, dst: NGINX, nodes: ['fd00::1'] },
  ];
  for (const observation of observations)
    assert.deepEqual(decodeRecord(encodeRecord(observation, 7).trimEnd()), { ...observation, seq: 7 });
  const damaged: [Observation, object][] = [
    [client(1), { peer: 'x y' }],
    [client(1), { client: '1\n2' }],
    [client(1), { dst: undefined }],
    [client(1), { peerPort: 70_000 }],
    [client(1), { end: 'other' }],
    [client(1), { via: 'other' }],
    [begins, { nodes: ['a b'] }],
    [begins, { nodes: 'none' }],
    [begins, { complete: 1 }],
    [begins, { dst: '' }],
  ];
  for (const [observation, change] of damaged) {
    const decoded = decodeRecord(JSON.stringify({ ...observation, seq: 1, ...change }));
    assert.match(String(decoded), /^incomplete client/, JSON.stringify(change));
  }
});
