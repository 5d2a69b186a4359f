/** When the sink writes its checkpoint, and what becomes of outputs and positions around it. */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, mock, type TestContext, test } from 'node:test';
import type { LogPosition } from '../../src/follow/position.ts';
import type { Sink, SinkOptions } from '../../src/write/sink.ts';
import { sinkPlace } from './sink-place.ts';

let now: number;
let place: ReturnType<typeof sinkPlace>;
let dir: string;
let log: string;
let out: string;
let state: string;
let notices: string[];

beforeEach(() => {
  // Checkpoints take no time, however busy the machine is: what they take decides how often they come.
  mock.method(performance, 'now', () => 0);
  now = 1_764_837_843_000;
  place = sinkPlace(() => now);
  ({ dir, log, out, state, notices } = place);
});

afterEach(() => {
  mock.restoreAll();
  place.remove();
});

const open = (options?: Partial<SinkOptions>): Promise<Sink> => place.open(options);
/** The reader hands out the same list as long as no file was finished. */
const NONE: LogPosition['older'] = [];
const at = (offset: number, more: Partial<LogPosition> = {}): LogPosition => ({
  dev: '1',
  ino: '2',
  offset,
  fingerprint: 'f',
  since: 0,
  older: NONE,
  ...more,
});
const block = (sink: Sink, end?: LogPosition, text = 'line\n'): Promise<void> =>
  sink.write([Buffer.from(text)], end);
const saved = (): { source: LogPosition; outputs: { length: number }[] } =>
  JSON.parse(readFileSync(state, 'utf8'));

/** Takes everything, and cannot be cut back. */
const STREAM = '/dev/null';

/** A sink whose last checkpoint is at offset 10 and is 0 ms old. */
async function begun(options: Partial<SinkOptions> = {}): Promise<Sink> {
  const sink = await open(options);
  await block(sink, at(5));
  now += 1_000;
  await block(sink, at(10));
  return sink;
}

test('the first checkpoint stands before the first byte, and tells how long the outputs are', async () => {
  writeFileSync(out, 'before\n');
  const sink = await open();
  assert.equal(sink.stats.checkpoints, 1);
  assert.deepEqual([saved().source.offset, saved().outputs[0]!.length], [0, 7]);
  await sink.close();
  assert.equal(sink.stats.checkpoints, 1, 'there was nothing new');
});

test('the first position in a file is recorded at once, and so is one in a file after a rotation', async () => {
  const sink = await open();
  await block(sink, at(5));
  assert.deepEqual([sink.stats.checkpoints, saved().source.offset], [2, 5]);
  await block(sink, at(10));
  assert.equal(sink.stats.checkpoints, 2);
  await block(sink, at(5, { ino: '3' }));
  assert.deepEqual([sink.stats.checkpoints, saved().source.ino], [3, '3']);
  const older = [at(9)];
  await block(sink, at(10, { ino: '3', older }));
  assert.equal(sink.stats.checkpoints, 4, 'another file was finished');
  await block(sink, at(15, { ino: '3', older }));
  assert.equal(sink.stats.checkpoints, 4);
  await sink.close();
  assert.deepEqual([sink.stats.checkpoints, saved().source.offset, saved().outputs[0]!.length], [5, 15, 25]);
});

test('to files a checkpoint comes with the first write a second after the last one, and without one 125 ms later', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const sink = await begun();
  const { checkpoints } = sink.stats;
  now += 999;
  await block(sink, at(15));
  assert.equal(sink.stats.checkpoints, checkpoints);
  now += 1;
  await block(sink, at(20));
  assert.equal(sink.stats.checkpoints, checkpoints + 1);
  await block(sink, at(25));
  context.mock.timers.tick(1_124);
  assert.equal(sink.stats.checkpoints, checkpoints + 1);
  context.mock.timers.tick(1);
  assert.equal(saved().source.offset, 25);
  await sink.close();
});

test('with a stream it comes with the first write 200 ms after the last one, and without one 125 ms later', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const sink = await begun({ outputs: [out, STREAM] });
  const { checkpoints } = sink.stats;
  now += 199;
  await block(sink, at(15));
  assert.equal(sink.stats.checkpoints, checkpoints);
  now += 1;
  await block(sink, at(20));
  assert.equal(sink.stats.checkpoints, checkpoints + 1);
  now += 150;
  await block(sink, at(25));
  now += 20;
  await block(sink, at(30));
  context.mock.timers.tick(174);
  assert.equal(sink.stats.checkpoints, checkpoints + 1);
  context.mock.timers.tick(1);
  assert.equal(sink.stats.checkpoints, checkpoints + 2);
  assert.equal(saved().source.offset, 30);
  context.mock.timers.tick(10_000);
  assert.equal(sink.stats.checkpoints, checkpoints + 2, 'with nothing new there is none');
  now += 100;
  await block(sink, at(35));
  context.mock.timers.tick(225);
  assert.equal(saved().source.offset, 35, 'a timer is set again');
  const closed = sink.close();
  await closed;
});

test('a wall clock that was set back delays no checkpoint by more than its interval and 125 ms', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  for (const [outputs, ms] of [
    [[out, STREAM], 325],
    [[out], 1_125],
  ] as const) {
    const sink = await begun({ outputs });
    now -= 3_600_000;
    await block(sink, at(15));
    context.mock.timers.tick(ms);
    assert.equal(saved().source.offset, 15);
    await sink.close();
    rmSync(state);
  }
});

/** A sink whose checkpoints take `ms` each. */
async function slow(context: TestContext, ms: number): Promise<Sink> {
  let time = 0;
  const sink = await open({ outputs: [out, STREAM] });
  context.mock.method(performance, 'now', () => {
    time += ms;
    return time;
  });
  await block(sink, at(5));
  return sink;
}

test('with a stream checkpoints take a hundredth of the time at most, and come once a second at least', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  for (const [ms, every] of [
    [0.5, 200],
    [2, 200],
    [4, 400],
    [500, 1_000],
  ] as const) {
    const sink = await slow(context, ms);
    const { checkpoints } = sink.stats;
    now += every - 1;
    await block(sink, at(10));
    assert.equal(sink.stats.checkpoints, checkpoints, `${ms}`);
    now += 1;
    await block(sink, at(15));
    assert.equal(sink.stats.checkpoints, checkpoints + 1, `${ms}`);
    await sink.close();
    rmSync(state);
    context.mock.restoreAll();
  }
});

test('a checkpoint that cannot be written is said once a minute and tried again after five seconds', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const sink = await begun();
  mkdirSync(join(dir, 'elsewhere'));
  rmSync(state);
  mkdirSync(state);
  now += 1_000;
  await block(sink, at(15));
  const complaints = (): number =>
    notices.filter((text) => /the checkpoint cannot be written/.test(text)).length;
  assert.deepEqual([sink.stats.checkpointFailures, complaints()], [1, 1]);
  context.mock.timers.tick(4_999);
  assert.equal(sink.stats.checkpointFailures, 1);
  context.mock.timers.tick(1);
  assert.deepEqual([sink.stats.checkpointFailures, complaints()], [2, 1]);
  now += 59_999;
  context.mock.timers.tick(5_000);
  assert.deepEqual([sink.stats.checkpointFailures, complaints()], [3, 1]);
  now += 1;
  context.mock.timers.tick(5_000);
  assert.deepEqual([sink.stats.checkpointFailures, complaints()], [4, 2]);
  rmSync(state, { recursive: true });
  context.mock.timers.tick(5_000);
  assert.equal(saved().source.offset, 15, 'nothing was lost of it');
  await sink.close();
});

test('a close with a checkpoint that cannot be written leaves no timer behind', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const sink = await begun();
  rmSync(state);
  mkdirSync(state);
  await block(sink, at(15));
  await sink.close();
  assert.equal(sink.stats.checkpointFailures, 1);
  context.mock.timers.tick(60_000);
  assert.equal(sink.stats.checkpointFailures, 1);
});

test('after each checkpoint it is told what is not needed any more; without a state file after each block', async () => {
  const told: number[] = [];
  const onCheckpoint = ({ offset }: LogPosition) => told.push(offset);
  const sink = await begun({ onCheckpoint });
  await block(sink, at(15));
  assert.deepEqual(told, [0, 5, 10]);
  await sink.close();
  assert.deepEqual(told, [0, 5, 10, 15]);
  told.length = 0;
  const without = await open({ state: undefined, onCheckpoint });
  await block(without, at(5));
  await block(without);
  await block(without, at(10));
  await without.close();
  assert.deepEqual(told, [5, 10]);
});

test('bytes and writes are counted', async () => {
  const sink = await open();
  await sink.write([Buffer.from('one\n'), Buffer.alloc(0), Buffer.from('three\n')]);
  await sink.write([], at(5));
  assert.deepEqual([sink.stats.bytes, sink.stats.writes], [10, 2]);
  assert.equal(readFileSync(out, 'utf8'), 'one\nthree\n');
  await sink.close();
});

test('a reopening has a checkpoint of the old file before it and one of the new file behind it', async () => {
  const sink = await begun();
  await block(sink, at(15));
  const { checkpoints } = sink.stats;
  renameSync(out, `${out}.1`);
  await sink.reopen();
  assert.equal(sink.stats.checkpoints, checkpoints + 2);
  assert.deepEqual([saved().source.offset, saved().outputs[0]!.length], [15, 0]);
  await sink.reopen();
  assert.equal(sink.stats.reopens, 2);
  await sink.close();
});

test('an output that cannot be reopened goes on in its old file, and that is said', async () => {
  const sink = await begun();
  renameSync(out, `${out}.1`);
  mkdirSync(out);
  await sink.reopen();
  assert.match(
    notices.join('\n'),
    /^warn: .*out.log: cannot be reopened \(EISDIR.*\); going on in the file that was open$/m,
  );
  await block(sink, at(15));
  await sink.close();
  assert.equal(readFileSync(`${out}.1`, 'utf8'), 'line\nline\nline\n');
});

test('a reopening without a state file waits for no end of a block', async () => {
  const sink = await open({ state: undefined });
  await block(sink);
  await sink.reopen();
  assert.equal(sink.stats.reopens, 1);
  await sink.close();
});

test('a reopening that is still wanted at the end is over with it', async () => {
  const sink = await open();
  await block(sink);
  const reopened = sink.reopen();
  await sink.write([]);
  await sink.close();
  await reopened;
  assert.equal(sink.stats.reopens, 0);
  await assert.rejects(sink.reopen(), { code: 'CLOSED' });
  await assert.rejects(block(sink), { code: 'CLOSED' });
});

test('an output that ends in the middle of a line gets a newline, unless the source stands in one too', async () => {
  writeFileSync(out, 'half');
  await (await open()).close();
  assert.equal(readFileSync(out, 'utf8'), 'half\n');
  assert.match(notices.join(), /^warn: .*out.log: ends in the middle of a line; a newline is added$/);
  for (const more of [{ midLine: true }, { older: [at(5, { midLine: true })] }] as const) {
    writeFileSync(out, 'half');
    writeFileSync(
      state,
      JSON.stringify({ realpod: 'checkpoint', version: 1, log, source: at(5, more), outputs: [] }),
    );
    await (await open()).close();
    assert.equal(readFileSync(out, 'utf8'), 'half', JSON.stringify(more));
  }
});

test('bytes that are cut at the start are counted', async () => {
  writeFileSync(log, 'line\n');
  const sink = await open();
  await sink.close();
  appendFileSync(out, 'three\n');
  const again = await open();
  assert.equal(again.stats.cutBytes, 6);
  await again.close();
});

test('a checkpoint that may not be set aside leaves the state file alone, and lines are written without one', async (context) => {
  const path = '/sys/kernel/uevent_seqnum';
  const sink = await open({ state: path });
  assert.match(
    notices.join(),
    /^warn: --state \/sys\/kernel\/uevent_seqnum is no checkpoint of realpod and cannot be set aside; going on without/,
  );
  await block(sink, at(5));
  assert.equal(sink.stats.checkpoints, 0);
  await sink.close();
  context.after(() => assert.equal(existsSync(path), true));
});

test('a state file that may not be written is tried once, and nothing waits for its checkpoint', async () => {
  const sink = await open({ state: '/sys/kernel/realpod-state' });
  await block(sink, at(5));
  now += 60_000;
  await block(sink, at(10));
  assert.deepEqual([sink.stats.checkpoints, sink.stats.checkpointFailures, notices.length], [0, 1, 2]);
  await block(sink);
  await sink.reopen();
  assert.equal(sink.stats.reopens, 1, 'a reopening waits for no end of a block');
  await sink.close();
});

test('a checkpoint that is given up is not written later either', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const sink = await begun();
  await block(sink, at(15));
  await block(sink);
  sink.dropCheckpoint();
  await sink.reopen();
  assert.equal(sink.stats.reopens, 1, 'it waits for no end of a block');
  const { checkpoints } = sink.stats;
  context.mock.timers.tick(10_000);
  await block(sink, at(20));
  assert.deepEqual([sink.stats.checkpoints, saved().source.offset], [checkpoints, 10]);
  await sink.close();
});
