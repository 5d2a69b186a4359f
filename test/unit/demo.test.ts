import assert from 'node:assert/strict';
import { test } from 'node:test';
import { expectedLines, movedInTime, RecordedNames, readRecording } from '../../src/demo/recording.ts';
import { ReplayedCapture } from '../../src/demo/replay.ts';
import { resultOf, resultText } from '../../src/demo/show.ts';
import { servedDemo } from './serve-app.ts';
import { demoLines, parseDemo } from './serve-demo.ts';

const DEMO = new URL('../../demo/', import.meta.url);
const endOf = (bytes: Buffer, start: number, end: number): number | undefined => {
  const line = parseDemo(bytes, start, end);
  return typeof line === 'string' ? undefined : line.endMs;
};

test('a recording that is moved in time differs in times alone, and in all of them by the same', async () => {
  const recording = await readRecording(DEMO, endOf);
  const by = 40 * 24 * 3_600_000 + 12_345;
  const moved = movedInTime(recording, by);
  assert.equal(moved.lines.length, demoLines);
  moved.lines.forEach(({ at, bytes }, i) => {
    const before = recording.lines[i]!;
    assert.equal(at, before.at + by);
    assert.equal(endOf(bytes, 0, bytes.length - 1), at);
    const local = /\[(.*?)\]/.exec(bytes.toString())![1]!;
    assert.equal(
      Date.parse(local.replace(':', ' ')),
      Math.floor(at / 1000) * 1000,
      'both times say the same',
    );
    const timeless = (text: Buffer) => text.toString().replace(/\[.*?\]| \d{10}\.\d{3} /g, '');
    assert.equal(timeless(bytes), timeless(before.bytes));
  });
  moved.records.forEach((record, i) => {
    const before = recording.records[i]!;
    assert.deepEqual({ ...record, t: 0 }, { ...before, t: 0 });
    assert.equal(record.t, before.t + by);
  });
});

test('the recording shows what the page is for: every pod has a name, one is slow, one fails', async () => {
  const { records } = await readRecording(DEMO, endOf);
  const names = new RecordedNames(records);
  const { pods } = (await servedDemo().app.inject({ url: '/pods' })).json() as {
    pods: { ip: string; pod: string; outlier: { kind: string }[] }[];
  };
  for (const { ip, pod } of pods) assert.equal(pod, names.lookup(ip)?.pod);
  assert.deepEqual(pods.flatMap(({ outlier }) => outlier.map(({ kind }) => kind)).sort(), [
    'errors',
    'latency',
  ]);
});

test('the last watermark reaches a reader that asks for it after the recording has ended', async () => {
  const { records } = await readRecording(DEMO, endOf);
  const watermarks: number[] = [];
  const capture = new ReplayedCapture(records, { batch: (_, watermark) => watermarks.push(watermark) });
  capture.advance(Infinity);
  assert.ok(capture.finished);
  const last = records.findLast((record) => record.kind === 'tick')!.t;
  await capture.flush();
  assert.deepEqual(watermarks.slice(-2), [last, last]);
});

test('a recording that is played again has other request ids, and its connections end before', async () => {
  const recording = await readRecording(DEMO, endOf);
  const ids = (each: typeof recording) =>
    each.records.flatMap((record) => (record.kind === 'request' ? (record.id ?? []) : []));
  const later = movedInTime(recording, 60_000, 1);
  const both = [...ids(recording), ...ids(later)];
  assert.equal(new Set(both).size, both.length);
  assert.equal(expectedLines(later).filter(Boolean).length, demoLines);
  const open = new Set<number>();
  const capture = new ReplayedCapture(recording.records, {
    batch(observations) {
      for (const each of observations) {
        if (each.kind === 'open') open.add(each.sport);
        else if (each.kind === 'close') open.delete(each.sport);
      }
    },
  });
  for (const { sport } of (await capture.subscribe()).flows) open.add(sport);
  capture.advance(Infinity);
  assert.ok(open.size > 0);
  capture.closeAll(recording.records.at(-1)!.t + 1);
  assert.equal(open.size, 0);
});

test('a line with another pod, or as it was, is counted as such', async () => {
  const recording = await readRecording(DEMO, endOf);
  const expected = expectedLines(recording);
  const right = expected as string[];
  const none = {
    read: demoLines,
    written: demoLines,
    nameable: demoLines,
    right: demoLines,
    wrong: 0,
    missing: 0,
  };
  assert.deepEqual(resultOf(recording, expected, right), none);
  const before = recording.lines[0]!.bytes.toString().trimEnd();
  const spoilt = [before, right[1]!.replace(/10\.244\.1\.\d+/, '10.244.9.9'), ...right.slice(2)];
  const result = resultOf(recording, expected, spoilt);
  assert.deepEqual(result, { ...none, right: demoLines - 2, wrong: 1, missing: 1 });
  assert.match(resultText(result), /398 now name it, 1 do not, 1 name another pod/);
});
