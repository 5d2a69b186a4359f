import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { decodeRecord, encodeRecord } from '../../src/feed/codec.ts';
import { RecordScanner } from '../../src/feed/scanner.ts';
import type { Observation } from '../../src/model/feed.ts';

const T0 = 1_764_837_843_123;
const FLOW = {
  src: '10.244.0.70',
  sport: 33_454,
  vip: '10.105.148.194',
  vport: 80,
  ip: '10.244.1.65',
  port: 8000,
};
const { vip: _, vport: __, ...UNDIALLED } = FLOW;
const RECORDS: Observation[] = [
  { kind: 'tick', t: T0 },
  { kind: 'tick', t: T0 + 0.5 },
  { kind: 'open', t: T0 + 0.001, ...FLOW, via: 'conntrack', preexisting: true },
  { kind: 'open', t: T0 + 0.999, ...UNDIALLED, src: 'fd00:10:244::70', via: 'kernel-log' },
  { kind: 'close', t: 0, ...FLOW, via: 'conntrack' },
  { kind: 'response', t: T0 + 0.125, ...FLOW, via: 'tap' },
  { kind: 'response', t: T0, ...UNDIALLED, via: 'tap' },
  { kind: 'request', t: T0 + 0.25, ...UNDIALLED, via: 'tap' },
  { kind: 'request', t: T0, ...FLOW, path: '/long', cut: true, bytes: 1_024, via: 'tap' },
  { kind: 'request', t: T0, ...FLOW, path: '/a', cut: true, content: [7], bytes: 9, via: 'tap' },
  { kind: 'request', t: T0, ...FLOW, content: [0, 4_294_967_295, 7], singleSegment: true, via: 'tap' },
  {
    kind: 'request',
    t: T0 + 0.07,
    ...FLOW,
    id: '0af7',
    idBeforeHost: true,
    afterChunks: true,
    method: 'GET',
    path: '/a?b=c d~',
    bytes: 312,
    singleSegment: true,
    via: 'tap',
  },
  {
    kind: 'request',
    t: T0 + 0.7,
    ...FLOW,
    id: 'é"\\',
    method: 'PUT',
    path: '/\u0001',
    cut: true,
    bytes: 0,
    via: 'tap',
  },
];

function scan(line: string): unknown {
  const bytes = Buffer.from(`before${line}\nafter`);
  const scanner = new RecordScanner();
  const end = bytes.length - 'after'.length;
  const record = scanner.scan(bytes, 'before'.length, end);
  if (record) assert.equal(scanner.end, end, line);
  return record;
}

test('a recorded feed is scanned as JSON.parse reads it', () => {
  const lines = readFileSync(new URL('../../demo/feed.ndjson', import.meta.url), 'utf8')
    .trimEnd()
    .split('\n');
  let scanned = 0;
  for (const line of lines) {
    const record = scan(line);
    if (record === undefined) continue;
    scanned++;
    assert.deepEqual(record, JSON.parse(line));
  }
  const rare = lines.filter((line) => /^\{"kind":"(?:name|gap)"/.test(line)).length;
  assert.equal(scanned, lines.length - rare);
});

test('what the encoder writes without escapes is scanned, and is what was meant', () => {
  for (const record of RECORDS.slice(0, -1)) {
    const line = encodeRecord(record, 1_795_412_619_310_000).trimEnd();
    assert.deepEqual(scan(line), decodeRecord(line), line);
    assert.notEqual(scan(line), undefined, line);
  }
});

test('a line that differs in any byte is read as JSON.parse would, or left to it', () => {
  for (const record of RECORDS) {
    const line = Buffer.from(encodeRecord(record, 7).trimEnd());
    for (let at = 0; at < line.length; at++) {
      for (const byte of [0x22, 0x5c, 0x30, 0x39, 0x2e, 0x2d, 0x2c, 0x7d, 0x20, 0x00, 0x0a, 0x65, 0x80, -1]) {
        const changed =
          byte < 0
            ? Buffer.concat([line.subarray(0, at), line.subarray(at + 1)])
            : Buffer.concat([line.subarray(0, at), Buffer.of(byte), line.subarray(at + 1)]);
        const bytes = Buffer.concat([changed, Buffer.from('\n')]);
        const scanned = new RecordScanner().scan(bytes, 0, bytes.length);
        if (scanned === undefined) continue;
        assert.deepEqual(scanned, decodeRecord(changed.toString('utf8')), changed.toString('latin1'));
      }
    }
  }
});

test('a record that goes on beyond what is there is not read', () => {
  for (const record of RECORDS) {
    const bytes = Buffer.from(encodeRecord(record, 7));
    for (let end = 0; end < bytes.length; end++) {
      assert.equal(new RecordScanner().scan(bytes, 0, end), undefined);
    }
  }
});
