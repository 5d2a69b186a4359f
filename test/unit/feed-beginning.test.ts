import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FeedBeginning } from '../../src/join/index/feed-beginning.ts';
import { type FeedRecord, NO_CURSOR, type Source } from '../../src/model/feed.ts';

const T0 = 1_764_837_843_000;
const begins = (source: Source, more: { seq?: number; from?: number } = {}): FeedRecord => ({
  kind: 'gap',
  seq: NO_CURSOR,
  t: T0,
  source,
  ...more,
});
const tick: FeedRecord = { kind: 'tick', seq: 9, t: T0 };
/** The sources that each of the records returns. */
const after = (...records: FeedRecord[]): (string | undefined)[] => {
  const beginning = new FeedBeginning();
  return records.map((record) => {
    const sources = beginning.after(record);
    return sources && [...sources].join(' ');
  });
};

test('the helper has the sources that its feed names at the beginning, once the feed goes on', () => {
  assert.deepEqual(after(begins('conntrack'), begins('tap'), tick, tick), [
    undefined,
    undefined,
    'conntrack tap',
    undefined,
  ]);
});

test('a source that is named again is the beginning of the next feed, of another helper perhaps', () => {
  assert.deepEqual(after(begins('conntrack'), begins('tap'), begins('tap'), tick).at(-1), 'tap');
});

test('a loss, and a record that begins anew within the feed, name no sources', () => {
  assert.deepEqual(after(begins('tap', { from: T0 - 5 }), begins('tap', { seq: 8 }), tick), [
    undefined,
    undefined,
    undefined,
  ]);
  assert.deepEqual(after(begins('conntrack'), begins('tap', { from: T0 - 5 })), [undefined, 'conntrack']);
});
