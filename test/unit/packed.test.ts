/** The short form of the ring: what comes out is what went in, to the last character of its text. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { encodeRecord } from '../../src/feed/codec.ts';
import { Ring } from '../../src/feed/ring.ts';
import type { Observation } from '../../src/model/feed.ts';
import { testSeed } from '../model/seed.ts';

const T0 = 1_764_837_843_000.125;

/** The text that a ring gives back, and the bytes that it kept. */
function through(record: Observation, seq = 1): { text: string | undefined; bytes: number; written: string } {
  const ring = new Ring(1_000_000, 0);
  const { src = '', ip = '' } = record as { src?: string; ip?: string };
  const written = encodeRecord(record, seq);
  // Others before and behind it, of other addresses: the numbers and ends of this one are its own.
  ring.push({ seq: seq - 0.5, src: 'b', ip: 'c', t: 1, text: '{"other"}\n' });
  const before = ring.bytes;
  ring.push({ seq, src, ip, t: record.t, text: written, record });
  const bytes = ring.bytes - before;
  ring.push({ seq: seq + 0.5, src: 'd', ip: 'e', t: 1, text: '{"other"}\n' });
  const [entry] = ring.after(seq - 0.5, new Set([src]));
  return { text: entry?.text, bytes, written };
}

const FLOW = { src: '10.0.0.1', sport: 40_001, ip: '10.1.0.7', port: 8_000 } as const;
const DIALED = { ...FLOW, vip: '10.96.0.1', vport: 80 } as const;
const ID = '00ff12ab34cd56ef00ff12ab34cd56e0';
const REQUEST = { kind: 'request', t: T0, via: 'tap', ...DIALED, id: ID } as const;

test('the usual records take few bytes', () => {
  const usual: [Observation, number][] = [
    [{ ...REQUEST, idBeforeHost: true, bytes: 311, singleSegment: true }, 36],
    [{ ...REQUEST, method: 'GET', path: '/orders/132', bytes: 311 }, 60],
    [{ ...REQUEST, content: [1, 2, 4_294_967_295], cut: true, afterChunks: true }, 48],
    [{ kind: 'open', t: T0, via: 'conntrack', ...DIALED }, 16],
    [{ kind: 'close', t: T0, via: 'conntrack', ...DIALED, end: 'fin' }, 16],
    [{ kind: 'response', t: T0, via: 'tap', ...FLOW, kernelTime: true }, 16],
  ];
  for (const [record, most] of usual) {
    const { text, bytes, written } = through(record);
    assert.equal(text, written);
    assert.ok(bytes <= most, `${bytes} bytes for ${written}`);
  }
});

test('what has no place in the short form is kept as text', () => {
  const odd: Observation[] = [
    { ...REQUEST, id: ID.toUpperCase() },
    { ...REQUEST, id: `${ID}0` },
    { ...REQUEST, id: ID.replace('0', 'ı') },
    { ...REQUEST, id: '' },
    { ...REQUEST, path: '/été/日本' },
    { ...REQUEST, bytes: 2 ** 32 },
    { ...REQUEST, midStream: true },
    { ...REQUEST, sent: 5, received: 7, update: true },
    { kind: 'open', t: T0, via: 'conntrack', ...DIALED, openedAfter: T0 - 1 },
    { kind: 'close', t: T0, via: 'conntrack', ...DIALED, end: 'refused' },
    { kind: 'unreadable', t: T0, via: 'tap', ...DIALED, protocol: 'tls' },
    { kind: 'gap', t: T0, source: 'tap' },
    { ...REQUEST, via: 'of-a-later-version' } as unknown as Observation,
  ];
  for (const record of odd) {
    const { text, bytes, written } = through(record);
    assert.equal(text, written);
    assert.ok(bytes >= written.length);
  }
});

test('a field that this form does not know is not lost', () => {
  const later = { ...REQUEST, later: true } as Observation;
  const ring = new Ring(1_000_000, 0);
  ring.push({ seq: 1, src: FLOW.src, ip: FLOW.ip, t: T0, text: '{"later":true}\n', record: later });
  assert.equal([...ring.after(0, new Set([FLOW.src]))][0]?.text, '{"later":true}\n');
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
    optional('close', { end: fc.constantFrom('fin', 'refused'), endedBefore: fc.constant(5), update: yes }),
    optional('response', { kernelTime: yes }),
    optional('unreadable', { protocol: fc.constantFrom('tls', 'http2') }),
  );
  fc.assert(
    fc.property(record, fc.integer({ min: 1, max: 2 ** 52 }), (each, seq) => {
      const { text: read, written } = through(each, seq);
      assert.equal(read, written);
    }),
    { seed, numRuns: 3_000 },
  );
});
