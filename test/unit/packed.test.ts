/** The packed form: what comes out is what a reader of NDJSON gets, to the last character of its text. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeRecord, encodeRecord } from '../../src/feed/codec.ts';
import { PACKED, pack, packedEnd, Unpacker } from '../../src/feed/packed.ts';
import { Ring } from '../../src/feed/ring.ts';
import type { Observation } from '../../src/model/feed.ts';
import { testSeed } from '../model/seed.ts';

const T0 = 1_764_837_843_000.125;

const unpacker = new Unpacker();

/** Where the record is kept in the ring between others, its text, and what it is to a reader of either form. */
function through(record: Observation, seq = 2) {
  const ring = new Ring(1_000_000, 0);
  const { src = '' } = record as { src?: string };
  const other: Observation = {
    kind: 'open',
    t: 1,
    via: 'tap',
    src: '9.9.9.9',
    sport: 9,
    ip: '9.9.9.8',
    port: 9,
  };
  ring.push(seq - 1, 'b', other);
  const kept = ring.push(seq, src, record);
  ring.push(seq + 1, 'd', other);
  const [entry] = ring.after(seq - 1, new Set([src]));
  const written = encodeRecord(record, seq);
  assert.equal(entry?.text, written);
  const decoded = decodeRecord(written);
  assert.deepEqual(
    entry?.record,
    typeof decoded === 'string' ? undefined : decoded,
    'both forms say the same',
  );
  return { bytes: kept.end - kept.begin, isPacked: kept.isPacked, kept, written };
}

const FLOW = { src: '10.0.0.1', sport: 40_001, ip: '10.1.0.7', port: 8_000 } as const;
const DIALED = { ...FLOW, vip: '10.96.0.1', vport: 80 } as const;
const COUNTS = { sentPackets: 1, sentBytes: 2, receivedPackets: 3, receivedBytes: 4 };
const ID = '00ff12ab34cd56ef00ff12ab34cd56e0';
const REQUEST = { kind: 'request', t: T0, via: 'tap', ...DIALED, id: ID } as const;

test('the usual records take few bytes', () => {
  const usual: [Observation, number][] = [
    [{ ...REQUEST, idBeforeHost: true, bytes: 311, singleSegment: true }, 59],
    [{ ...REQUEST, method: 'GET', path: '/orders/132', bytes: 311 }, 74],
    [{ ...REQUEST, content: [1, 2, 4_294_967_295], cut: true, afterChunks: true }, 67],
    [{ kind: 'open', t: T0, via: 'conntrack', ...DIALED }, 39],
    [{ kind: 'close', t: T0, via: 'conntrack', ...DIALED, end: 'fin' }, 39],
    [{ kind: 'response', t: T0, via: 'tap', ...FLOW, kernelTime: true }, 33],
    [{ ...REQUEST, src: 'fd00::1', vip: 'fd00:1::a', ip: 'fd00:2::b' }, 91],
  ];
  for (const [record, bytes] of usual) assert.deepEqual(pick(through(record)), { bytes, isPacked: true });
});

const pick = ({ bytes, isPacked }: ReturnType<typeof through>) => ({ bytes, isPacked });

test('what has no place in the packed form is kept as text', () => {
  const odd: Observation[] = [
    { ...REQUEST, id: ID.toUpperCase() },
    { ...REQUEST, id: `${ID}0` },
    { ...REQUEST, id: ID.replace('0', 'ı') },
    { ...REQUEST, id: '' },
    { ...REQUEST, path: '/été/日本' },
    { ...REQUEST, path: '/'.repeat(40_000) },
    { ...REQUEST, method: 'M'.repeat(256) },
    { ...REQUEST, bytes: 2 ** 32 },
    { ...REQUEST, midStream: true },
    { ...REQUEST, received: 7 },
    { ...REQUEST, sent: 5, received: 7, update: true, reset: true },
    { kind: 'open', t: T0, via: 'conntrack', ...DIALED, openedAfter: T0 - 1 },
    { kind: 'close', t: T0, via: 'conntrack', ...DIALED, end: 'refused' },
    { kind: 'close', t: T0, via: 'conntrack', ...DIALED, end: 'fin', endedBefore: T0 },
    { kind: 'close', t: T0, via: 'conntrack', ...DIALED, update: true, counts: COUNTS },
    { kind: 'unreadable', t: T0, via: 'tap', ...DIALED, protocol: 'tls' },
    { kind: 'gap', t: T0, source: 'tap' },
    { ...REQUEST, via: 'trace' },
  ];
  for (const record of odd) {
    const { isPacked, bytes, written } = through(record);
    assert.equal(isPacked, false, written.slice(0, 200));
    assert.equal(bytes, Buffer.byteLength(written));
  }
});

test('addresses come out as the text that they went in as, or the record stays text', () => {
  const same = ['1.2.3.4', '0.2.3.4', '255.255.255.255', '::1', '::', 'fd00::a:1', '2001:db8::1:0:0:1'];
  // Read as bytes, these would be an address that is written otherwise: 1.2.3.4 above all is no 0.2.3.4.
  const other = [
    '::ffff:1.2.3.4',
    '::ffff:102:304',
    '::ffff:0:0',
    '::1.2.3.4',
    'fd00:0::1',
    'FD00::1',
    '01.2.3.4',
  ];
  for (const ip of [...same, ...other]) {
    const packed = same.includes(ip);
    for (const field of ['src', 'ip', 'vip'] as const) {
      const alike = packed && ip.includes(':') ? { src: 'fd00::9', ip: 'fd00::8', vip: 'fd00::7' } : {};
      const { isPacked, kept } = through({ ...REQUEST, ...alike, [field]: ip });
      assert.equal(isPacked, packed, `${field} ${ip}`);
      assert.ok(kept.text.includes(`"${field}":"${ip}"`));
    }
  }
  // Addresses of two lengths in one record.
  assert.equal(through({ ...REQUEST, ip: 'fd00::1' }).isPacked, false);
});

test('bytes that were not packed by this form are no record', () => {
  const packed = (record: Observation): Buffer => {
    const bytes = Buffer.alloc(1_000);
    return bytes.subarray(0, pack(record, 5, bytes, 0));
  };
  const read = (bytes: Buffer) => unpacker.unpack(bytes, 0, bytes.length);
  const whole = packed({ ...REQUEST, content: [1, 2, 3], bytes: 9, method: 'GET' });
  assert.equal(whole[0], PACKED);
  assert.ok(read(whole));
  for (let length = 25; length < whole.length; length++)
    assert.equal(read(whole.subarray(0, length)), undefined);
  for (let length = 0; length < whole.length; length++) assert.equal(packedEnd(whole, 0, length), -1);
  assert.equal(packedEnd(whole, 0, whole.length), whole.length);
  assert.equal(read(Buffer.concat([whole, Buffer.of(0)])), undefined, 'more than it says');
  const flag = (record: Observation, bit: number): Buffer => {
    const bytes = packed(record);
    bytes.writeUInt16LE(bytes.readUInt16LE(3) | (1 << bit), 3);
    return bytes;
  };
  const close: Observation = { kind: 'close', t: T0, via: 'conntrack', ...FLOW };
  assert.equal(read(flag({ ...close, via: 'tap' }, 3))?.kind, 'close', 'from the kernel log');
  assert.equal(read(flag(close, 3)), undefined, 'a source of its own');
  for (const bit of [5, 6, 8, 11, 12, 14]) assert.equal(read(flag(close, bit)), undefined, `flag ${bit}`);
  const timeless = Buffer.from(packed(close));
  timeless.writeDoubleLE(Number.NaN, 5);
  assert.equal(read(timeless), undefined);
  const halved = Buffer.from(packed(close));
  halved.writeDoubleLE(1.5, 13);
  assert.equal(read(halved), undefined);
});

test('any record comes out as its text', () => {
  const seed = testSeed();
  const address = fc.oneof(
    fc.ipV4(),
    fc.constantFrom('::ffff:1.2.3.4', '0.2.3.4', '::1', 'fd00::a:1', '255.255.255.255', '0.0.0.0'),
  );
  const port = fc.oneof(fc.integer({ min: 0, max: 65_535 }), fc.constantFrom(0, 255, 256, 65_535));
  const hex = fc.stringMatching(/^[0-9a-f]{32}$/);
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.string(),
    fc.constantFrom('', '/', 'ÿ', '€', '\u0100'),
  );
  const yes = fc.constant(true as const);
  const u32 = fc.integer({ min: 0, max: 0xffffffff });
  const flow = fc
    .record({ src: address, sport: port, ip: address, port, vip: fc.option(address, { nil: undefined }) })
    .chain((each) =>
      each.vip === undefined ? fc.constant(each) : port.map((vport) => ({ ...each, vport })),
    );
  const optional = (kind: string, fields: Record<string, fc.Arbitrary<unknown>>) =>
    fc
      .tuple(
        flow,
        fc.constantFrom('tap', 'conntrack', 'kernel-log'),
        fc.double({ min: 0, max: 2e12, noNaN: true }),
        fc.record(fields, { requiredKeys: [] }),
      )
      .map(([of, via, t, more]) => ({ kind, t, via, ...of, ...more }) as Observation);
  const record = fc.oneof(
    {
      arbitrary: optional('request', {
        id: fc.oneof(hex, text),
        idBeforeHost: yes,
        afterChunks: yes,
        method: text,
        path: text,
        cut: yes,
        content: fc.oneof(fc.tuple(u32), fc.tuple(u32, u32, u32)),
        bytes: fc.oneof(u32, fc.maxSafeNat()),
        singleSegment: yes,
      }),
      weight: 4,
    },
    optional('request', { id: hex, midStream: yes, received: u32, sent: u32, reset: yes, update: yes }),
    optional('open', { preexisting: yes, kernelTime: yes, openedAfter: fc.constant(5) }),
    optional('close', {
      end: fc.constantFrom('fin', 'refused'),
      endedBefore: fc.constant(5),
      update: yes,
      protocol: fc.constantFrom('tls', 'http2'),
    }),
    optional('response', { kernelTime: yes }),
    optional('unreadable', { protocol: fc.constantFrom('tls', 'http2') }),
  );
  fc.assert(
    fc.property(record, fc.integer({ min: 2, max: 2 ** 52 }), (each, seq) => {
      through(each, seq);
    }),
    { seed, numRuns: 3_000 },
  );
});
