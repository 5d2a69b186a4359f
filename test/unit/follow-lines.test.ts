import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LineBuffer } from '../../src/follow/line-buffer.ts';

/** nginx's own line, and the same with text of two, three and four bytes a character. */
const LINES = [
  '10.244.0.1 - - [04/Dec/2025:07:27:17 +0000] "GET /test HTTP/1.1" 200 10.105.148.194:10000 40 "-" "curl/7.81.0" "-"\n',
  '10.244.0.1 - - [04/Dec/2025:07:27:17 +0000] "GET /é/€/😀 HTTP/1.1" 200 10.105.148.194:10000 40 "-" "ü" "-"\n',
  '\n',
  '{"a":"b"}\r\n',
];

function feed(buffer: LineBuffer, bytes: Buffer, step: number): { bytes: Buffer; oversized: boolean }[] {
  const taken: { bytes: Buffer; oversized: boolean }[] = [];
  for (let at = 0; at < bytes.length; ) {
    const room = buffer.room();
    const n = bytes.copy(room, 0, at, Math.min(bytes.length, at + Math.min(step, room.length)));
    buffer.filled(n);
    at += n;
    for (let block = buffer.take(); block; block = buffer.take()) taken.push(block);
  }
  return taken;
}

test('the same bytes come out in whole lines whatever the size of the pieces they came in', () => {
  const text = Buffer.from(LINES.join('').repeat(3));
  for (let step = 1; step <= text.length; step++) {
    for (const read of [16, 64, 1024]) {
      const blocks = feed(new LineBuffer({ maxLine: 10_000, read }), text, step);
      assert.deepEqual(Buffer.concat(blocks.map((block) => block.bytes)), text);
      for (const { bytes, oversized } of blocks) {
        assert.equal(bytes.at(-1), 0x0a);
        assert.equal(oversized, false);
      }
    }
  }
});

test('blocks handed out keep their bytes while later reads go on in the same slab', () => {
  const buffer = new LineBuffer({ maxLine: 1000, read: 256 });
  const lines = Array.from({ length: 200 }, (_, n) => Buffer.from(`line ${n}\n`));
  const blocks = lines.flatMap((line) => feed(buffer, line, 256));
  assert.deepEqual(
    blocks.map((block) => block.bytes.toString()),
    lines.map(String),
  );
});

test('a line over the limit comes in marked pieces, and the next line is whole again', () => {
  const long = Buffer.from(`${'x'.repeat(5000)}\n`);
  const after = Buffer.from('short\n');
  const blocks = feed(new LineBuffer({ maxLine: 1000, read: 64 }), Buffer.concat([long, after]), 64);
  const pieces = blocks.filter((block) => block.oversized);
  assert.deepEqual(Buffer.concat(pieces.map((piece) => piece.bytes)), long);
  assert.deepEqual(blocks.at(-1), { bytes: after, oversized: false });
  assert.ok(pieces.every((piece) => piece.bytes.length < 1200));
});

test('an unfinished line is completed with a newline, a finished one is not touched', () => {
  const buffer = new LineBuffer({ maxLine: 1000, read: 64 });
  assert.equal(feed(buffer, Buffer.from('whole\nhalf'), 64).length, 1);
  assert.equal(buffer.unfinished, true);
  assert.equal(buffer.finish().toString(), 'half\n');
  assert.equal(buffer.unfinished, false);
});
