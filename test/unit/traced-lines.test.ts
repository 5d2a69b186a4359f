import assert from 'node:assert/strict';
import { test } from 'node:test';
import { placeOf, TracedLines } from '../../src/join/index/traced-lines.ts';
import type { LineRecord } from '../../src/model/feed.ts';

const TEXT = Buffer.from('a line\n');
const place = (offset: number, ino = '7', text = TEXT) => placeOf(text, 0, text.length, ino, offset);

function record(offset: number, more: Partial<LineRecord> = {}): LineRecord {
  const { length, check } = place(0);
  return {
    kind: 'line',
    seq: 1,
    t: 1_000,
    src: '10.0.0.1',
    via: 'trace',
    ino: '7',
    offset,
    length,
    check,
    states: 1,
    ...more,
  };
}

test('a line has the record with its bytes, in its file, that begins where it does', () => {
  const lines = new TracedLines();
  const [own, next] = [record(0), record(7)];
  lines.add(own);
  lines.add(next);
  lines.add(record(0, { ino: '8' }));
  lines.add(record(0, { check: 5 }));
  lines.add(record(0, { length: 8 }));
  assert.deepEqual(lines.of(place(0)), [own]);
  lines.spend(place(0));
  assert.deepEqual(lines.of(place(7)), [next]);
  lines.spend(place(7));
  assert.deepEqual(lines.of(place(14)), []);
});

test('what lies behind a line is not its own', () => {
  const lines = new TracedLines();
  lines.add(record(7));
  assert.deepEqual(lines.of(place(0)), []);
  lines.spend(place(0));
  assert.equal(lines.of(place(7)).length, 1);
});

test('a line that another worker overtook has the record from before', () => {
  const lines = new TracedLines();
  const held = record(0);
  lines.add(held);
  assert.deepEqual(lines.of(place(500)), [held]);
});

test('equal bytes written at the same time: either record may be of either line, until both are spent', () => {
  const lines = new TracedLines();
  const both = [record(0), record(0)];
  for (const each of both) lines.add(each);
  assert.deepEqual(lines.of(place(0)), both);
  lines.spend(place(0));
  assert.deepEqual(lines.of(place(7)), both, 'the one that is left may be the first line’s');
  const third = record(14);
  lines.add(third);
  assert.deepEqual(lines.of(place(7)), both);
  lines.spend(place(7));
  assert.deepEqual(lines.of(place(14)), [third]);
});

test('with a record of two forgotten, the other is not taken for certain', () => {
  const lines = new TracedLines();
  lines.add(record(0));
  lines.add(record(0));
  lines.spend(place(0));
  // The first is too old now.
  lines.add(record(900, { t: 1_000_000, check: 5 }));
  assert.deepEqual(lines.of(place(7)), []);
  assert.equal(lines.size, 1);
});

test('the number of records has a limit, and the oldest go', () => {
  const lines = new TracedLines();
  for (let i = 0; i < 140_000; i++) lines.add(record(7 * i));
  assert.equal(lines.size, 100_000);
  assert.equal(lines.of(place(0)).length, 0);
  assert.equal(lines.of(place(7 * 40_000)).length, 1);
});
