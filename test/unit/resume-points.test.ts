import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ResumePoints } from '../../src/feed/resume-points.ts';
import type { FeedRecord } from '../../src/model/feed.ts';
import { parseResumePoint } from '../../src/model/resume-point.ts';

const T0 = 1_764_837_843_000;
const tick = (seq: number, t: number): FeedRecord => ({ kind: 'tick', seq, t });
const name = (seq: number, t: number): FeedRecord => ({
  kind: 'name',
  seq,
  t,
  ip: '',
  pod: '',
  namespace: '',
  node: '',
  service: '',
});

test('there is no point before a helper has said which it is and a record has come', () => {
  const points = new ResumePoints();
  points.read([tick(7, T0)], 7, T0);
  assert.equal(points.oldest, undefined);
  points.connected('a');
  assert.equal(points.oldest, undefined);
  points.read([tick(0, T0)], 0, T0);
  assert.equal(points.oldest, undefined);
});

test('the point is ten seconds old where the feed was read for so long', () => {
  const points = new ResumePoints();
  points.connected('a');
  for (let s = 0; s <= 30; s++) points.read([tick(100 + s, T0 + 1_000 * s)], 100 + s, T0 + 1_000 * s);
  assert.deepEqual(points.oldest, { instance: 'a', after: 120, since: T0 + 20_000.001 });
});

test('of places less than a second apart one is kept', () => {
  const points = new ResumePoints();
  points.connected('a');
  for (const at of [0, 500, 1_000, 10_500]) points.read([tick(100 + at, T0 + at)], 100 + at, T0 + at);
  assert.equal(points.oldest?.after, 100, 'the next one, of one second, is not ten seconds old');
});

test('the point lies behind the latest time of all records before it, not behind the last one', () => {
  const points = new ResumePoints();
  points.connected('a');
  // A record may be a little later than the watermark after it; a name is no event.
  const gap: FeedRecord = { kind: 'gap', seq: 0, t: T0 + 4, source: 'tap' };
  points.read([gap, name(0, T0 + 99), tick(5, T0)], 5, T0);
  assert.deepEqual(points.oldest, { instance: 'a', after: 5, since: T0 + 4.001 });
});

test('names alone make no point: they say nothing of time', () => {
  const points = new ResumePoints();
  points.connected('a');
  points.read([name(5, T0)], 5, T0);
  assert.equal(points.oldest, undefined);
});

test('another helper has points of its own', () => {
  const points = new ResumePoints();
  points.connected('a');
  points.read([tick(5, T0)], 5, T0);
  points.connected('b');
  assert.equal(points.oldest, undefined);
});

test('what is no point in a state file is none', () => {
  const good = { instance: 'a-1', after: 5, since: T0 };
  assert.deepEqual(parseResumePoint({ ...good, more: 1 }), good);
  for (const bad of [
    undefined,
    null,
    'x',
    { ...good, after: 0 },
    { ...good, since: '1' },
    { ...good, instance: 'a&b' },
  ])
    assert.equal(parseResumePoint(bad), undefined);
});
