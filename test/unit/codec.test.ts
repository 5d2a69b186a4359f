/** Records as text and back: what survives the way, and what is no record. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeRecord, encodeRecord, RecordDecoder } from '../../src/feed/codec.ts';
import type { FeedRecord, Flow, Observation } from '../../src/model/feed.ts';

const NGINX = '10.244.0.70';
const T0 = 1_764_837_843_000;
const flow = (sport: number): Flow => ({
  src: NGINX,
  sport,
  vip: '10.105.148.194',
  vport: 10000,
  ip: '10.244.0.64',
  port: 10000,
});
const request = (t: number, id: string): Observation => ({
  kind: 'request',
  t,
  via: 'tap',
  ...flow(33_454),
  id,
  method: 'GET',
  path: '/a"b\\c\u00e9',
  bytes: 120,
});
const open = (sport: number): Extract<Observation, { kind: 'open' }> => ({
  kind: 'open',
  t: T0,
  via: 'conntrack',
  preexisting: true,
  ...flow(sport),
});

test('every kind of record survives the way over the wire', () => {
  const records: Observation[] = [
    request(T0 + 0.123, 'x'),
    { ...request(T0, 'x'), cut: true, singleSegment: true } as Observation,
    open(1),
    { ...open(65_535), src: 'fd00::46', kind: 'close' } as Observation,
    { kind: 'gap', t: T0, source: 'kernel-log', from: T0 - 1, lost: 7 },
    { kind: 'gap', t: T0, source: 'tap' },
    { kind: 'tick', t: T0 },
    { kind: 'name', t: T0, ip: '10.244.0.64', pod: 'a"b', namespace: '', node: '', service: '' },
    { kind: 'untraced', t: T0, src: NGINX, via: 'trace', why: 'it "is" Angie 1.8.0' },
  ];
  for (const record of records) {
    const { preexisting, ...expected } = { preexisting: undefined, ...record, seq: 7 };
    const decoded = decodeRecord(encodeRecord(record, 7));
    assert.deepEqual(
      decoded,
      record.kind === 'close' || preexisting === undefined ? expected : { ...expected, preexisting },
    );
  }
});

test('an address or a name that could break a line is no record', () => {
  const opened = { ...open(1), seq: 1 };
  assert.equal(typeof decodeRecord(JSON.stringify(opened)), 'object');
  for (const ip of ['10.244.0.64\n10.0.0.1', '', 'pod-7', '10.244.0.64 x', '1'.repeat(46)])
    assert.match(String(decodeRecord(JSON.stringify({ ...opened, ip }))), /^incomplete open/);
  const name = { kind: 'name', seq: 1, t: T0, ip: NGINX, pod: 'a', namespace: 'b', node: 'c', service: '' };
  assert.equal(typeof decodeRecord(JSON.stringify(name)), 'object');
  for (const pod of ['a\nb', 'a b', '\u0000'])
    assert.match(String(decodeRecord(JSON.stringify({ ...name, pod }))), /^incomplete name/);
});

test('a feed cut anywhere decodes to the same records', () => {
  const text = Buffer.from([1, 2, 3].map((n) => encodeRecord(request(T0 + n, `é-${n}`), n)).join(''));
  const whole = new RecordDecoder().push(text).records;
  assert.equal(whole.length, 3);
  for (let size = 1; size < text.length; size++) {
    const decoder = new RecordDecoder();
    const records: FeedRecord[] = [];
    for (let i = 0; i < text.length; i += size)
      records.push(...decoder.push(text.subarray(i, i + size)).records);
    assert.deepEqual(records, whole, `in pieces of ${size}`);
  }
});

test('what is to be read by people is one short line', () => {
  const untraced = { kind: 'untraced', seq: 1, t: T0, src: NGINX, via: 'trace' };
  for (const why of ['two\nlines', '\u001b[2J', 'x'.repeat(201), 7])
    assert.match(String(decodeRecord(JSON.stringify({ ...untraced, why }))), /^incomplete untraced/);
});

test('text that is no record stops the feed with one line, and unknown kinds are passed over', () => {
  assert.deepEqual(new RecordDecoder().push(Buffer.from('{"kind":"later","seq":1,"t":2}\n')).records, []);
  for (const bad of [
    'nonsense',
    '[]',
    '{"kind":"open","seq":1,"t":2}',
    '{"kind":"tick"}',
    '{"kind":"gap","seq":1,"t":2,"source":"x"}',
  ]) {
    const { records, error } = new RecordDecoder().push(
      Buffer.from(`${encodeRecord({ kind: 'tick', t: 1 }, 1)}${bad}\n`),
    );
    assert.equal(records.length, 1);
    assert.equal(typeof error, 'string', bad);
  }
  const endless = new RecordDecoder();
  let error: string | undefined;
  for (let i = 0; i < 40 && error === undefined; i++) ({ error } = endless.push(Buffer.alloc(65_536, 0x61)));
  assert.match(error ?? '', /more than/);
});

test('how a connection ended and whose time its opening has travel with the record', () => {
  const { preexisting: _, ...plain } = open(40_001);
  const opened: Observation = { ...plain, kernelTime: true };
  const closed: Observation[] = (['fin', 'refused'] as const).map((end) => ({
    ...plain,
    kind: 'close',
    end,
    endedBefore: T0 + 0.25,
  }));
  const unreadable: Observation[] = (['http2', 'tls', 'other', 'offloaded'] as const).map((protocol) => {
    return { ...plain, kind: 'unreadable', via: 'tap', protocol };
  });
  unreadable.push({ ...plain, kind: 'unreadable', via: 'tap', protocol: 'http2', idsRead: true });
  for (const observation of [opened, ...closed, ...unreadable]) {
    assert.deepEqual(decodeRecord(encodeRecord(observation, 7)), { ...observation, seq: 7 });
  }
});

test('empty lines are passed over, and a line of more than a MiB ends the feed, not one of a MiB', () => {
  const tick = encodeRecord({ kind: 'tick', t: T0 }, 1);
  const { records, error } = new RecordDecoder().push(Buffer.from(`\n\n${tick}\n${tick}`));
  assert.deepEqual([records.length, error], [2, undefined]);
  const decoder = new RecordDecoder();
  assert.equal(decoder.push(Buffer.alloc(1024 * 1024, 0x20)).error, undefined);
  assert.match(decoder.push(Buffer.from(' ')).error ?? '', /a line of more than 1048576 bytes/);
});
