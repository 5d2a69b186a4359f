/** One output as a file: what a checkpoint can tell of it, and how it is cut back. */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  closeSync,
  fstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import {
  hashTail,
  readCheckpoint,
  type SavedOutput,
  saved,
  writeCheckpoint,
} from '../../src/write/checkpoint.ts';
import { cutBack } from '../../src/write/cut-back.ts';
import { Output, readTail, TAIL_BYTES } from '../../src/write/output.ts';
import { checkPaths } from '../../src/write/sink-options.ts';
import { descriptorsIn } from './descriptors.ts';

let dir: string;
let out: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'realpod-output-'));
  out = join(dir, 'out.log');
});

afterEach(() => rmSync(dir, { recursive: true }));

const bytes = (length: number, from = 0): Buffer =>
  Buffer.from(Array.from({ length }, (_, n) => (from + n) % 251));
const tailOf = (path: string): Buffer => readFileSync(path).subarray(-TAIL_BYTES);

test('the tail of what was written is that of the file, whatever the sizes of the pieces', async () => {
  const output = await Output.open(out);
  for (const pieces of [
    [0],
    [1],
    [3, 2],
    [250],
    [255, 1],
    [256],
    [257],
    [10, 300, 5],
    [100, 100, 56, 1],
    [1, 255],
  ]) {
    const chunks = pieces.map((length, n) => bytes(length, 7 * n));
    assert.equal(
      await output.put(chunks),
      pieces.reduce((sum, length) => sum + length),
    );
    const { tail, length } = output.mark()!;
    assert.equal(length, statSync(out).size, `${pieces}`);
    assert.deepEqual(tail, tailOf(out), `${pieces}`);
    assert.ok(tail.length <= TAIL_BYTES);
  }
  output.close();
});

test('one call takes 1,024 pieces, and says how many bytes these were', async () => {
  const output = await Output.open(out);
  const chunks = Array.from({ length: 1_025 }, () => Buffer.from('ab'));
  assert.equal(await output.put(chunks.slice(1)), 2_048);
  assert.equal(await output.put(chunks), 2_048);
  assert.deepEqual([output.length, output.mark()!.length, statSync(out).size], [4_096, 4_096, 4_096]);
  output.close();
});

test('a mark has the file of the moment, and sees what somebody else has done to it', async () => {
  const output = await Output.open(out);
  const { dev, ino } = statSync(out);
  assert.deepEqual([output.mark()!.dev, output.mark()!.ino], [`${dev}`, `${ino}`]);
  await output.put([Buffer.from('one\ntwo\n')]);
  appendFileSync(out, 'three');
  assert.deepEqual(
    [output.mark()!.length, output.mark()!.tail.toString(), output.endsWhole],
    [13, 'one\ntwo\nthree', false],
  );
  truncateSync(out, 4);
  assert.deepEqual(
    [output.mark()!.length, output.mark()!.tail.toString(), output.endsWhole],
    [4, 'one\n', true],
  );
  truncateSync(out, 0);
  assert.deepEqual([output.mark()!.length, output.endsWhole], [0, true]);
  output.close();
});

test('the tail of a file is read from any place in it', async () => {
  writeFileSync(out, bytes(600));
  const output = await Output.open(out);
  assert.deepEqual(output.tailAt(300), bytes(256, 44));
  assert.deepEqual(output.tailAt(10), bytes(10));
  assert.equal(output.tailAt(0).length, 0);
  output.cut(300);
  assert.deepEqual([output.length, statSync(out).size], [300, 300]);
  assert.deepEqual(output.mark()!.tail, bytes(256, 44));
  const fd = openSync(out, 'r');
  assert.deepEqual(readTail(fd, 1_000), Buffer.alloc(0), 'there is nothing');
  closeSync(fd);
  output.close();
});

test('a file opened anew is another one at the same path, and the old one is closed', async () => {
  const output = await Output.open(out);
  await output.put([Buffer.from('one\n')]);
  const open = descriptorsIn(dir);
  renameSync(out, `${out}.1`);
  await output.reopen();
  await output.put([Buffer.from('two\n')]);
  assert.equal(readFileSync(out, 'utf8'), 'two\n');
  assert.equal(output.mark()!.length, 4);
  assert.equal(descriptorsIn(dir), open, 'no descriptor more than before');
  output.close();
  assert.equal(descriptorsIn(dir), open - 1);
});

test('a device is no file: it has no mark, and is not opened anew', async () => {
  const output = await Output.open('/dev/null');
  assert.equal(await output.put([Buffer.from('x')]), 1);
  await output.reopen();
  assert.deepEqual(
    [output.regular, output.mark(), output.length, output.name],
    [false, undefined, 0, '/dev/null'],
  );
  output.close();
  const stdout = await Output.open('-');
  assert.deepEqual([stdout.name, stdout.mark()], ['stdout', undefined]);
  stdout.close();
  assert.ok(fstatSync(1), 'stdout is not closed');
});

/** An output with `before`, its mark, and `after` behind that. */
async function written(before: string, after: string): Promise<{ output: Output; known: SavedOutput }> {
  const output = await Output.open(out);
  await output.put([Buffer.from(before)]);
  const known = saved(output.mark()!);
  if (after !== '') await output.put([Buffer.from(after)]);
  return { output, known };
}

test('what is behind the mark is cut, and told in bytes', async () => {
  const { output, known } = await written('one\n', 'two\n');
  assert.deepEqual(cutBack(output, known), { cut: 4 });
  assert.equal(readFileSync(out, 'utf8'), 'one\n');
  assert.deepEqual(cutBack(output, known), { cut: 0 });
  assert.equal(output.length, 4);
  output.close();
});

test('a renamed file beside it is cut instead, if it is the one of the mark', async () => {
  const { output, known } = await written('one\n', 'two\n');
  output.close();
  renameSync(out, `${out}.1`);
  mkdirSync(join(dir, 'directory'));
  symlinkSync('nowhere', join(dir, 'dangling'));
  const other = await Output.open(out);
  await other.put([Buffer.from('new\n')]);
  const before = descriptorsIn(dir);
  assert.deepEqual(cutBack(other, known), { cut: 4 });
  assert.deepEqual([readFileSync(`${out}.1`, 'utf8'), readFileSync(out, 'utf8')], ['one\n', 'new\n']);
  assert.equal(descriptorsIn(dir), before, 'it is closed');
  for (const content of ['on', 'ONE\ntwo\n']) {
    writeFileSync(`${out}.1`, content);
    assert.deepEqual(cutBack(other, known), { cut: 0 });
    assert.equal(readFileSync(`${out}.1`, 'utf8'), content, 'somebody else changed it');
  }
  other.close();
});

test('where the file of the mark is not to be found, nothing is cut, and what may come twice is said', async () => {
  const { output, known } = await written('one\ntwo\n', '');
  const doubt = (): string => {
    const { cut, doubt } = cutBack(output, known);
    assert.equal(cut, 0);
    return doubt ?? '';
  };
  assert.equal(doubt(), '');
  writeFileSync(out, 'ONE\nTWO\n');
  assert.match(doubt(), /has other content than at the last checkpoint .* may be in the output twice$/);
  truncateSync(out, 7);
  assert.match(doubt(), /is shorter than at the last checkpoint/);
  assert.match(
    cutBack(output, { ...known, ino: '1' }).doubt ?? '',
    /is another file than at the last checkpoint, and that one is not beside it; .* twice$/,
  );
  output.close();
  const device = await Output.open('/dev/null');
  assert.deepEqual(cutBack(device, known), { cut: 0 });
  device.close();
});

const SOURCE = { dev: '1', ino: '2', offset: 3, fingerprint: '', since: 4, older: [] };
const OUTPUT: SavedOutput = { path: '/o', dev: '1', ino: '2', length: 3, tail: hashTail(Buffer.from('x')) };

test('a checkpoint is read as it was written, for the log of its own', () => {
  const state = join(dir, 'state');
  assert.deepEqual(readCheckpoint(state, '/log'), { none: true });
  const checkpoint = { log: '/log', source: SOURCE, outputs: [OUTPUT] };
  writeCheckpoint(state, checkpoint);
  assert.deepEqual(readCheckpoint(state, '/log'), { ...checkpoint, feed: undefined });
  assert.ok('unusable' in readCheckpoint(state, '/other'));
  assert.equal(statSync(`${state}.new`, { throwIfNoEntry: false }), undefined);
});

test('an output in a checkpoint needs each of its fields, and a length that is a whole number', () => {
  const state = join(dir, 'state');
  const read = (change: object): boolean => {
    const outputs = [{ ...OUTPUT, ...change }] as SavedOutput[];
    writeCheckpoint(state, { log: '/log', source: SOURCE, outputs });
    return !('unusable' in readCheckpoint(state, '/log'));
  };
  assert.equal(read({}), true);
  assert.equal(read({ length: 0 }), true);
  for (const field of ['path', 'dev', 'ino', 'tail', 'length'])
    assert.equal(read({ [field]: undefined }), false, field);
  for (const length of [-1, 1.5, 2 ** 53, '3', null]) assert.equal(read({ length }), false, `${length}`);
  for (const outputs of [undefined, {}, [null], ['x']] as never[]) {
    writeCheckpoint(state, { log: '/log', source: SOURCE, outputs });
    assert.deepEqual(readCheckpoint(state, '/log'), { unusable: 'is damaged (a field is missing or wrong)' });
  }
  mkdirSync(join(dir, 'directory'));
  assert.deepEqual(readCheckpoint(join(dir, 'directory'), '/log'), { unusable: 'is not a regular file' });
});

test('the log under another name, or a link to it, is no output; another file is', () => {
  const log = join(dir, 'access.log');
  writeFileSync(log, '');
  writeFileSync(out, '');
  const refuses = (...outputs: string[]): RegExp | string => {
    try {
      checkPaths({ outputs, log });
      return 'nothing';
    } catch (error) {
      return (error as Error).message;
    }
  };
  symlinkSync(log, join(dir, 'link'));
  assert.match(`${refuses(join(dir, 'link'))}`, /is the access log itself/);
  assert.match(`${refuses(`${dir}/./access.log`)}`, /is the access log itself/);
  assert.equal(refuses(out, '-', join(dir, 'not-there')), 'nothing');
  assert.match(`${refuses('-', '-')}`, /--output - is given twice/);
  assert.match(`${refuses(join(dir, 'access.log.1'))}`, /rotated/);
  assert.equal(
    refuses(join(tmpdir(), 'access.log.1')),
    'nothing',
    'in another directory that is a name like others',
  );
  rmSync(log);
  assert.equal(refuses(out), 'nothing', 'the log may come later');
});
