import assert from 'node:assert/strict';
import { test } from 'node:test';
import { movedInTime, RecordedNames, readRecording } from '../../src/demo/recording.ts';
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
