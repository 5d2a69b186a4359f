/** The compact feed: what a reader gets of it is what it would get of NDJSON, and damage is noticed wherever it is. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeRecord, RecordDecoder } from '../../src/feed/codec.ts';
import { Feed, type Reader } from '../../src/feed/feed.ts';
import { closeFrame, FRAME_HEAD_BYTES, FrameDecoder, MAX_FRAME_BYTES } from '../../src/feed/frames.ts';
import { FrameOutbox, type Outbox, TextOutbox } from '../../src/feed/outbox.ts';
import { Ring } from '../../src/feed/ring.ts';
import type { FeedRecord, Observation } from '../../src/model/feed.ts';
import { testSeed } from '../model/seed.ts';

const RECORDED = readFileSync(new URL('../../demo/feed.ndjson', import.meta.url), 'utf8')
  .split('\n')
  .map((line) => decodeRecord(line))
  .filter((record): record is FeedRecord => typeof record === 'object');
const observed = ({ seq: _, ...record }: FeedRecord): Observation => record as Observation;
/** The recorded addresses as IPv6. */
const widened = (record: Observation): Observation =>
  JSON.parse(JSON.stringify(record).replaceAll(/"(\d+)\.(\d+)\.(\d+)\.(\d+)"/g, '"fd00:$1:$2:$3::$4"'));

/** A reader of each form, and what each of them has read. */
async function both(feed: Feed, address: string, from?: number) {
  const text = { records: [] as FeedRecord[], decoder: new RecordDecoder() };
  const frames = { records: [] as FeedRecord[], decoder: new FrameDecoder() };
  const readers: Reader[] = [];
  for (const [{ records, decoder }, compact] of [
    [text, false],
    [frames, true],
  ] as const) {
    const write = (some: string | Buffer): void => {
      assert.equal(typeof some === 'string', !compact);
      const decoded = decoder.push(Buffer.from(some as Buffer));
      assert.equal(decoded.error, undefined);
      records.push(...decoded.records);
    };
    const opened = await feed.open([address], from, write, { compact, clients: true, batchMs: 100 });
    assert.ok('reader' in opened);
    readers.push(opened.reader);
  }
  return { text: text.records, frames: frames.records, readers };
}

test('a recorded feed is the same in both forms: live, after a return, and with IPv6', async () => {
  for (const change of [(record: Observation) => record, widened]) {
    let now = RECORDED[0]!.t;
    const feed = new Feed(() => now);
    const facts = RECORDED.filter((record) => record.kind === 'name').map(observed) as never[];
    feed.connect(
      {
        subscribe: async () => ({ flows: [], completeSince: { tap: now, conntrack: now } }),
        unsubscribe() {},
        readPromptly() {},
        gather() {},
        async flush() {},
      },
      { lookup: () => undefined, history: (ip) => facts.filter((each: { ip: string }) => each.ip === ip) },
    );
    const observations = RECORDED.filter(({ kind }) => !['tick', 'name', 'endpoint', 'gap'].includes(kind))
      .slice(0, 3_000)
      .map((record) => change(observed(record)));
    const { src } = observations.find((each) => 'src' in each) as { src: string };
    feed.batch([], now);
    const first = await both(feed, src);
    const cursor = first.frames.reduce((seq, each) => Math.max(seq, each.seq), 0);
    for (let i = 0; i < observations.length; i += 50) {
      const some = observations.slice(i, i + 50);
      now = some.at(-1)!.t;
      // What has no packed form, between what has one.
      if (i % 100 === 0) some.splice(7, 0, { kind: 'gap', t: now, source: 'tap', lost: 1 });
      feed.batch(some, now);
    }
    await feed.flush([src]);
    feed.batch([], now);
    assert.deepEqual(first.frames, first.text);
    assert.ok(first.frames.filter(({ kind }) => kind === 'request').length > 300);
    assert.ok(first.frames.some(({ kind }) => kind === 'gap'));
    const again = await both(feed, src, cursor);
    assert.deepEqual(again.frames, again.text);
    assert.equal(again.frames.filter(({ kind }) => kind === 'request').length > 300, true);
    feed.close();
  }
});

const FLOW = {
  src: '10.0.0.1',
  sport: 40_001,
  vip: '10.96.0.1',
  vport: 80,
  ip: '10.1.0.7',
  port: 8_000,
} as const;
const SOME: Observation[] = [
  {
    kind: 'request',
    t: 1_764_837_843_000.5,
    ...FLOW,
    via: 'tap',
    id: 'ab'.repeat(16),
    method: 'GET',
    path: '/a',
  },
  { kind: 'gap', t: 1_764_837_843_001, source: 'tap', lost: 3 },
  { kind: 'request', t: 1_764_837_843_002, ...FLOW, sport: 40_002, via: 'tap', bytes: 90 },
  { kind: 'tick', t: 1_764_837_843_003 },
];

/** Some records in one frame. */
function frame(records: readonly Observation[] = SOME): Buffer {
  const ring = new Ring(100_000, 0);
  const outbox = new FrameOutbox();
  for (const [i, record] of records.entries()) outbox.record(ring.push(i + 1, 'a', record));
  return outbox.take();
}

test('a byte that changed anywhere is noticed before a record is made of it', () => {
  const good = frame();
  const decoded = new FrameDecoder().push(good);
  assert.deepEqual([decoded.records.length, decoded.error], [SOME.length, undefined]);
  const next = frame([{ kind: 'tick', t: 5 }]);
  for (let at = 0; at < good.length; at++) {
    for (const bits of [1, 2, 4, 8, 16, 32, 64, 128, 255]) {
      const bad = Buffer.from(good);
      bad[at]! ^= bits;
      const { records, error } = new FrameDecoder().push(Buffer.concat([bad, next]));
      assert.notEqual(error, undefined, `byte ${at} ^ ${bits}`);
      assert.deepEqual(records, [], `byte ${at} ^ ${bits}`);
    }
  }
});

test('bytes that are missing or too many are noticed, and what came before them is good', () => {
  const [first, second] = [frame(), frame([{ kind: 'tick', t: 5 }])];
  for (let at = 0; at < first.length; at++) {
    const missing = Buffer.concat([second, first.subarray(0, at), first.subarray(at + 1), second, second]);
    const more = Buffer.concat([second, first.subarray(0, at), Buffer.of(0x37), first.subarray(at), second]);
    for (const bytes of [missing, more]) {
      const { records, error } = new FrameDecoder().push(bytes);
      assert.notEqual(error, undefined, `byte ${at}`);
      assert.deepEqual(
        records.map(({ kind }) => kind),
        ['tick'],
      );
    }
  }
});

test('frames come in pieces of any size', () => {
  const bytes = Buffer.concat([frame(), frame([]), frame(SOME.slice(1)), frame([{ kind: 'tick', t: 5 }])]);
  const whole = new FrameDecoder().push(bytes).records;
  assert.equal(whole.length, 2 * SOME.length);
  for (let size = 1; size < bytes.length; size++) {
    const decoder = new FrameDecoder();
    const records: FeedRecord[] = [];
    for (let at = 0; at < bytes.length; at += size) {
      const decoded = decoder.push(Buffer.from(bytes.subarray(at, at + size)));
      assert.equal(decoded.error, undefined);
      records.push(...decoded.records);
    }
    assert.deepEqual(records, whole, `pieces of ${size}`);
  }
});

/** A frame with this body, whose check values are right. */
function framed(body: Buffer): Buffer {
  const bytes = Buffer.concat([Buffer.alloc(FRAME_HEAD_BYTES), body]);
  closeFrame(bytes, 0, bytes.length);
  return bytes;
}

test('a frame of another kind is skipped, and one of a bad length, or with a bad record, ends the feed', () => {
  const other = frame();
  // A frame's head is checked: it is written with another kind by writing it anew.
  const remade = framed(other.subarray(FRAME_HEAD_BYTES));
  assert.deepEqual(remade, other);
  const errorOf = (bytes: Buffer): string | undefined => new FrameDecoder().push(bytes).error;
  assert.match(errorOf(framed(Buffer.from('noise\n')))!, /neither packed nor a line/);
  assert.match(errorOf(framed(Buffer.from('{"kind":"tick"')))!, /neither packed nor a line/);
  assert.match(errorOf(framed(Buffer.from('{"kind":"tick"}\n')))!, /without seq or t/);
  assert.match(errorOf(framed(Buffer.of(1, 200, 0, 0, 0)))!, /ends behind its frame/);
  const packed = Buffer.from(other.subarray(FRAME_HEAD_BYTES));
  packed.writeUInt16LE(0xffff, 3);
  assert.match(errorOf(framed(packed))!, /not of this form/);
  assert.match(errorOf(framed(Buffer.alloc(MAX_FRAME_BYTES + 1)))!, /a frame of \d+ bytes/);
  assert.equal(errorOf(framed(Buffer.from('{"kind":"later","seq":1,"t":2}\n'))), undefined);
  assert.match(errorOf(Buffer.from('{"kind":"tick","seq":1,"t":1}\n'))!, /no frame begins with 123/);
});

test('a feed of any records and texts is the same in both forms, in frames of bounded length', () => {
  const seed = testSeed();
  const step = fc.oneof(
    {
      arbitrary: fc.record({ record: fc.integer({ min: 0, max: 2 }), path: fc.nat({ max: 30_000 }) }),
      weight: 3,
    },
    fc.record({ lines: fc.integer({ min: 0, max: 3_000 }) }),
    fc.constant({ take: true }),
    // Of another reader: what follows does not stand behind what was before.
    fc.constant({ other: true }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const ring = new Ring(400_000, 0);
      const boxes: [Outbox, RecordDecoder | FrameDecoder, FeedRecord[]][] = [
        [new TextOutbox(), new RecordDecoder(), []],
        [new FrameOutbox(), new FrameDecoder(), []],
      ];
      let seq = 0;
      const take = (): void => {
        for (const [box, decoder, records] of boxes) {
          const size = box.size;
          const taken = Buffer.from(box.take() as Buffer);
          assert.equal(size === 0, taken.length === 0);
          assert.equal(box.size, 0);
          const decoded = decoder.push(taken);
          assert.equal(decoded.error, undefined);
          records.push(...decoded.records);
        }
      };
      for (const each of steps) {
        if ('take' in each) take();
        else if ('other' in each) ring.push(++seq, 'b', SOME[0]!);
        else if ('lines' in each) {
          const text = `{"kind":"tick","seq":${++seq},"t":1}\n`.repeat(each.lines);
          for (const [box] of boxes) box.lines(text);
        } else {
          const record = {
            ...SOME[each.record]!,
            ...(each.record === 0 ? { path: 'x'.repeat(each.path) } : {}),
          };
          const kept = ring.push(++seq, 'a', record as Observation);
          for (const [box] of boxes) {
            const before = box.size;
            box.record(kept);
            assert.ok(box.size > before);
          }
        }
      }
      take();
      assert.deepEqual(boxes[1]![2], boxes[0]![2]);
    }),
    { seed, numRuns: 100 },
  );
});
