import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  lstatSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import type { LogPosition } from '../../src/follow/position.ts';
import { LogReader } from '../../src/follow/reader.ts';
import type { Sink, SinkError, SinkOptions } from '../../src/write/sink.ts';
import { sinkPlace } from './sink-place.ts';

let now: number;
let place: ReturnType<typeof sinkPlace>;
let dir: string;
let log: string;
let out: string;
let state: string;

beforeEach(() => {
  now = Date.now();
  place = sinkPlace(() => now);
  ({ dir, log, out, state } = place);
});

afterEach(() => place.remove());

const open = (options?: Partial<SinkOptions>): Promise<Sink> => place.open(options);

/** Appends `lines` to the log and takes them through reader and sink, a block at a time. */
async function pass(sink: Sink, lines: string, from: LogPosition = sink.resume): Promise<LogPosition> {
  appendFileSync(log, lines);
  const reader = new LogReader(log, { resume: from, readBytes: 64 });
  let end = from;
  for (let block = await reader.look(true); block; block = await reader.look(true)) {
    await sink.write([Buffer.from(block.bytes)], block.end);
    end = block.end;
  }
  reader.close();
  return end;
}

/** kill -9: what a last checkpoint at a clean end would have changed is put back. */
async function kill(sink: Sink): Promise<void> {
  copyFileSync(state, `${state}.kept`);
  await sink.close();
  renameSync(`${state}.kept`, state);
}

test('what was written after the last checkpoint is cut off at the restart and written again', async () => {
  let sink = await open();
  await pass(sink, 'one\ntwo\n');
  await kill(sink);
  appendFileSync(out, 'half of a li');
  sink = await open();
  assert.equal(readFileSync(out, 'utf8').startsWith('one\n'), true);
  await pass(sink, 'three\n');
  await sink.close();
  assert.equal(readFileSync(out, 'utf8'), 'one\ntwo\nthree\n');
  assert.deepEqual(place.notices, []);
});

test('a crash before anything was written leaves an older output as it was', async () => {
  writeFileSync(out, 'from before\n');
  await kill(await open());
  appendFileSync(out, 'not checkpointed\n');
  await (await open()).close();
  assert.equal(readFileSync(out, 'utf8'), 'from before\n');
});

test('a crash between the renaming of the output and the signal cuts the renamed file', async () => {
  let sink = await open();
  const end = await pass(sink, 'one\n');
  sink.checkpoint();
  await pass(sink, 'two\n', end);
  await kill(sink);
  renameSync(out, `${out}.1`);
  sink = await open();
  await pass(sink, '');
  await sink.close();
  assert.equal(readFileSync(`${out}.1`, 'utf8') + readFileSync(out, 'utf8'), 'one\ntwo\n');
});

test('reopening splits the output between two writes, and a crash right after it repeats nothing', async () => {
  let sink = await open();
  const end = await pass(sink, 'one\n');
  renameSync(out, `${out}.1`);
  await sink.reopen();
  await pass(sink, 'two\n', end);
  await kill(sink);
  sink = await open();
  await pass(sink, 'three\n');
  await sink.close();
  assert.equal(readFileSync(`${out}.1`, 'utf8'), 'one\n');
  assert.equal(readFileSync(out, 'utf8'), 'two\nthree\n');
});

test('reopening in the middle of a block waits for its end, so that a crash cuts all of it', async () => {
  let sink = await open();
  appendFileSync(log, 'one\ntwo\n');
  await sink.write([Buffer.from('one\n')]);
  renameSync(out, `${out}.1`);
  const reopened = sink.reopen();
  await sink.write([Buffer.from('two')]);
  assert.equal(sink.stats.reopens, 0);
  await kill(sink);
  await reopened;
  sink = await open();
  await pass(sink, '');
  const again = sink.reopen();
  await sink.write([Buffer.from('three\n')], sink.resume);
  await again;
  await sink.close();
  assert.equal(readFileSync(`${out}.1`, 'utf8') + readFileSync(out, 'utf8'), 'one\ntwo\nthree\n');
});

test('an output that somebody else changed is not cut, and it is said', async () => {
  const cases: [name: string, change: () => void, said: RegExp][] = [
    ['truncated', () => truncateSync(out, 2), /is shorter than at the last checkpoint/],
    ['rewritten', () => writeFileSync(out, 'something else entirely\n'), /other content/],
    [
      'replaced',
      () => [writeFileSync(`${out}.new`, 'new file\n'), renameSync(`${out}.new`, out)],
      /another file/,
    ],
  ];
  for (const [name, change, said] of cases) {
    for (const path of [out, log, state]) rmSync(path, { force: true });
    place.notices.length = 0;
    const sink = await open();
    await pass(sink, 'one\ntwo\n');
    await sink.close();
    change();
    const before = readFileSync(out, 'utf8');
    await (await open()).close();
    assert.ok(readFileSync(out, 'utf8').startsWith(before), name);
    assert.match(place.notices.join('\n'), said, name);
  }
});

test('when the log cannot be read on from the checkpoint, nothing is cut', async () => {
  let sink = await open();
  await pass(sink, 'one\n');
  await kill(sink);
  appendFileSync(out, 'two\n');
  rmSync(log);
  sink = await open();
  assert.equal(readFileSync(out, 'utf8'), 'one\ntwo\n');
  await sink.close();
});

test('a checkpoint that cannot be used is set aside with a clear line, and the start goes on', async () => {
  const sink = await open();
  await pass(sink, 'one\n');
  await sink.close();
  const good = readFileSync(state, 'utf8');
  const cases: [text: string, said: RegExp][] = [
    [good.slice(0, 40), /is damaged \(not JSON\)/],
    ['', /is damaged \(not JSON\)/],
    ['null', /is no checkpoint of realpod/],
    ['[1]', /is no checkpoint of realpod/],
    [good.replace('"version":1', '"version":2'), /written by a newer realpod \(format 2, this one knows 1\)/],
    [good.replace(resolve(log), '/var/log/other.log'), /belongs to another log, \/var\/log\/other.log/],
    [good.replace(/"offset":\d+/, '"offset":-1'), /is damaged \(a field is missing or wrong\)/],
    [good.replace(/"length":\d+/, '"length":"x"'), /is damaged \(a field is missing or wrong\)/],
  ];
  for (const [text, said] of cases) {
    place.notices.length = 0;
    writeFileSync(state, text);
    const again = await open();
    assert.equal(again.resume.ino, '');
    await again.close();
    assert.match(place.notices.join('\n'), said);
    assert.equal(readFileSync(`${state}.unusable`, 'utf8'), text);
  }
});

test('a full device: the write is tried again until it is taken, and said once a minute', async () => {
  const waits: number[] = [];
  const stop = new Error('seen enough');
  const sink = await open({
    outputs: ['/dev/full'],
    state: undefined,
    delay: (ms) => {
      waits.push(ms);
      now += ms;
      if (waits.length === 40) return Promise.reject(stop);
      return Promise.resolve();
    },
  });
  await assert.rejects(sink.write([Buffer.from('line\n')]), stop);
  assert.equal(sink.stats.stalled, 1);
  assert.equal(sink.stats.retries, 40);
  assert.deepEqual([waits[0], waits[1], waits.at(-1)], [100, 200, 5000]);
  assert.equal(place.notices.length, Math.ceil(waits.slice(0, 39).reduce((sum, ms) => sum + ms) / 60_000));
  assert.match(
    place.notices[0]!,
    /^warn: \/dev\/full: cannot be written \(ENOSPC\); nothing is lost, trying again. Free space/,
  );
  await sink.close();
});

test('closing gives up on an output that takes nothing', async () => {
  const sink = await open({ outputs: ['/dev/full'], state: undefined });
  const write = assert.rejects(sink.write([Buffer.from('line\n')]), { code: 'CLOSED' });
  while (sink.stats.stalled === 0) await new Promise(setImmediate);
  await sink.close();
  await write;
});

test('a stdout pipe without reader: going on with the file, or an error when it was the only output', async () => {
  const script = `
    import { openSink } from ${JSON.stringify(resolve('src/write/open-sink.ts'))};
    const sink = await openSink({ outputs: process.argv.slice(1), log: ${JSON.stringify(log)}, onNotice: (level, text) => console.error(level, text) });
    process.stdin.once('data', async () => {
      try {
        for (const line of ['one', 'two']) await sink.write([Buffer.from(line + '\\n')]);
      } catch (error) {
        console.error(error.name, error.code, error.message);
      }
      process.exit(0);
    });
    console.error('ready');
  `;
  for (const outputs of [['-'], ['-', out]]) {
    const child = spawn(process.execPath, [
      '--import',
      'tsx',
      '--input-type=module',
      '-e',
      script,
      '--',
      ...outputs,
    ]);
    let said = '';
    child.stderr.on('data', (text: Buffer) => {
      said += text;
      if (!said.endsWith('ready\n')) return;
      child.stdout.destroy();
      child.stdout.once('close', () => child.stdin.write('go\n'));
    });
    await new Promise((done) => child.on('close', done));
    assert.match(
      said,
      outputs.length === 1 ? /EPIPE stdout: its reader is gone, and there is no other/ : /going on with/,
    );
  }
  assert.equal(readFileSync(out, 'utf8'), 'one\ntwo\n');
});

test('many small chunks in one write arrive whole and in order', async () => {
  const sink = await open();
  const chunks = Array.from({ length: 3000 }, (_, n) => Buffer.from(`line ${n}\n`));
  await sink.write(chunks);
  await sink.close();
  assert.equal(readFileSync(out, 'utf8'), chunks.join(''));
  assert.equal(statSync(out).mode & 0o777 & ~process.umask(), 0o644 & ~process.umask());
});

test('paths that cannot be an output or a state file are refused with a clear line', async () => {
  writeFileSync(log, '');
  const cases: [Partial<SinkOptions>, RegExp][] = [
    [{ outputs: [log] }, /is the access log itself/],
    [{ outputs: [`${log}.1`] }, /has the name of a rotated access log/],
    [{ outputs: [out, out] }, /is given twice/],
    [{ outputs: [join(dir, 'none', 'out')] }, /cannot be opened/],
    [{ outputs: [dir] }, /cannot be opened/],
    [{ state: out }, /is the log or an output/],
    [{ state: join(dir, 'none', 'state') }, /cannot be written \(ENOENT\)/],
  ];
  for (const [options, said] of cases) {
    await assert.rejects(
      open(options),
      (error: SinkError) => error.code === 'OPEN' && said.test(error.message),
    );
  }
  assert.equal(existsSync(join(dir, 'none')), false);
});

test('a state file where this process may not write: it is said, lines are written, and no checkpoint is', async () => {
  // Nobody may create files there, root included: a log volume that belongs to another user.
  const sink = await open({ state: '/sys/kernel/realpod-state' });
  assert.match(
    place.notices.join('\n'),
    /cannot be written \(E(ACCES|PERM|ROFS)\); going on without a checkpoint/,
  );
  await pass(sink, 'one\ntwo\n');
  await sink.close();
  assert.equal(readFileSync(out, 'utf8'), 'one\ntwo\n');
  assert.equal(sink.stats.checkpoints, 0);
});

test('a link where the checkpoint is written is replaced, not followed', async () => {
  const victim = join(dir, 'victim');
  writeFileSync(victim, 'precious');
  symlinkSync(victim, `${state}.new`);
  symlinkSync(victim, state);
  const sink = await open();
  await pass(sink, 'one\n');
  await sink.close();
  assert.equal(readFileSync(victim, 'utf8'), 'precious');
  assert.equal(lstatSync(state).isFile(), true);
});

test('the place in the feed is kept with the place in the log', async () => {
  const point = { instance: 'a', after: 7, since: 1_764_837_843_000.5 };
  const sink = await open({ feed: () => point });
  await pass(sink, 'one\n');
  await sink.close();
  const again = await open();
  assert.deepEqual(again.resumeFeed, point);
  await again.close();
  writeFileSync(state, readFileSync(state, 'utf8').replace('"after":7', '"after":-7'));
  const damaged = await open();
  assert.equal(damaged.resumeFeed, undefined);
  assert.notEqual(damaged.resume.ino, '');
  await damaged.close();
});

test('what is written within 200 ms of a checkpoint waits for the next one', async () => {
  const sink = await open();
  const at = await pass(sink, 'one\n');
  const before = sink.stats.checkpoints;
  now += 100;
  await sink.write([Buffer.from('two\n')], { ...at, offset: 8 });
  assert.equal(sink.stats.checkpoints, before);
  now += 5_000;
  await sink.write([Buffer.from('three\n')], { ...at, offset: 14 });
  assert.equal(sink.stats.checkpoints, before + 1);
  await sink.close();
});
