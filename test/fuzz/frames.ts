/** The compact feed: any bytes as a feed, and as the body of a frame whose check values are right. */
import assert from 'node:assert/strict';
import { decodeRecord, encodeRecord } from '../../src/feed/codec.ts';
import { closeFrame, FRAME_HEAD_BYTES, FrameDecoder } from '../../src/feed/frames.ts';
import { FrameOutbox } from '../../src/feed/outbox.ts';
import { pack } from '../../src/feed/packed.ts';
import { Ring } from '../../src/feed/ring.ts';
import type { Observation } from '../../src/model/feed.ts';
import type { Target } from './target.ts';

function inFrame(body: Buffer): Buffer {
  const bytes = Buffer.concat([Buffer.alloc(FRAME_HEAD_BYTES), body]);
  closeFrame(bytes, 0, bytes.length);
  return bytes;
}

const into = Buffer.alloc(40_000);

function compact(input: Buffer): void {
  for (const bytes of [Buffer.from(input), inFrame(input)]) {
    const whole = new FrameDecoder().push(bytes);
    const decoder = new FrameDecoder();
    const cut = bytes.length >> 1;
    const parts = [decoder.push(Buffer.from(bytes.subarray(0, cut)))];
    if (parts[0]!.error === undefined) parts.push(decoder.push(Buffer.from(bytes.subarray(cut))));
    assert.deepEqual(
      parts.flatMap(({ records }) => records),
      whole.records,
      'the chunks matter',
    );
    for (const { seq, ...record } of whole.records) {
      const end = pack(record as Observation, seq, into, 0);
      if (end === 0) continue;
      const again = new FrameDecoder().push(inFrame(into.subarray(0, end))).records[0];
      const read = decodeRecord(encodeRecord(record as Observation, seq));
      assert.deepEqual(again, read, 'a packed record and its line differ');
    }
  }
}

const FLOW = { src: '10.244.0.70', sport: 33_454, ip: '10.244.1.64', port: 8080, via: 'tap' } as const;
const RECORDS: Observation[] = [
  { kind: 'request', t: 1_795_418_146_480.25, ...FLOW, vip: '10.96.0.1', vport: 80, id: '0f'.repeat(16) },
  { kind: 'request', t: 5, ...FLOW, method: 'GET', path: '/a', content: [1, 2, 3], bytes: 9, cut: true },
  { kind: 'open', t: 6, ...FLOW, via: 'conntrack', src: 'fd00::1', ip: 'fd00::2', kernelTime: true },
  { kind: 'close', t: 7, ...FLOW, end: 'fin' },
  { kind: 'response', t: 8, ...FLOW },
  { kind: 'tick', t: 9 },
];

function framed(records: readonly Observation[]): Buffer {
  const ring = new Ring(100_000, 0);
  const outbox = new FrameOutbox();
  for (const [i, record] of records.entries()) outbox.record(ring.push(i + 1, 'a', record));
  return outbox.take();
}

const frames = [framed(RECORDS), ...RECORDS.map((record) => framed([record]))];

export const framesTarget: Target = {
  name: 'compact feed',
  // Whole feeds, and bodies, which are put into a frame.
  corpus: [...frames, ...frames.map((bytes) => bytes.subarray(FRAME_HEAD_BYTES))],
  words: ['\x01', '\x02\x01', '\0\0', '\xff\xff', '\n', '{"kind":"tick","seq":1,"t":2}\n', '\x19\0'],
  weight: 3,
  run: compact,
};
