import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  closeSync,
  copyFileSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { FollowError, type LogBlock, openFollower } from '../../src/follow/follower.ts';
import { LogDirectory } from '../../src/follow/log-directory.ts';
import type { LogFile } from '../../src/follow/log-file.ts';
import type { LogPosition } from '../../src/follow/position.ts';
import { LogReader } from '../../src/follow/reader.ts';
import { rotatedKind } from '../../src/follow/rotation.ts';

let dir: string;
let log: string;
let now: number;
let notices: string[];
let readers: LogReader[];

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'realpod-follow-'));
  log = join(dir, 'access.log');
  now = Date.now();
  notices = [];
  readers = [];
});

afterEach(() => {
  for (const reader of readers) reader.close();
  rmSync(dir, { recursive: true });
});

function open(resume?: LogPosition, maxLine = 1000): LogReader {
  const reader = new LogReader(log, {
    resume,
    maxLine,
    clock: () => now,
    onNotice: (level, text) => notices.push(`${level}: ${text}`),
  });
  readers.push(reader);
  return reader;
}

/** Everything there is to read, in a few looks with time going on in between. */
async function read(reader: LogReader): Promise<{ text: string; end: LogPosition | undefined }> {
  const blocks: LogBlock[] = [];
  for (let n = 0; n < 5; n++) {
    for (let block = await reader.look(); block; block = await reader.look()) blocks.push(block);
    now += 1500;
  }
  return { text: blocks.map((block) => block.bytes.toString()).join(''), end: blocks.at(-1)?.end };
}

test('a log that appears late is read from its beginning', async () => {
  const reader = open();
  assert.equal((await read(reader)).text, '');
  writeFileSync(log, 'one\n');
  assert.equal((await read(reader)).text, 'one\n');
});

test('lines written to the old file before nginx reopened come before those of the new one', async () => {
  const reader = open();
  const old = openSync(log, 'a');
  writeSync(old, 'one\n');
  assert.equal((await reader.look())?.bytes.toString(), 'one\n');
  renameSync(log, `${log}.1`);
  writeSync(old, 'two\n');
  appendFileSync(log, 'four\n');
  assert.equal((await reader.look())?.bytes.toString(), 'two\n');
  assert.equal(await reader.look(), undefined, 'the old file is not quiet for long enough');
  writeSync(old, 'three\n');
  assert.equal((await read(reader)).text, 'three\nfour\n');
  assert.equal(reader.stats.rotations, 1);
  writeSync(old, 'late\n');
  closeSync(old);
  assert.equal((await read(reader)).text, 'late\n');
  assert.equal(reader.stats.lateBytes, 5);
});

test('several rotations between two looks, some already compressed, are read in order', async () => {
  const reader = open();
  writeFileSync(log, 'one\n');
  await read(reader);
  for (const n of [1, 2, 3]) {
    renameSync(log, `${log}.${n}`);
    writeFileSync(log, `file ${n}\n`);
  }
  execFileSync('gzip', [`${log}.2`]);
  assert.equal((await read(reader)).text, 'file 1\nfile 2\nfile 3\n');
  assert.equal(reader.stats.recoveredFiles, 1);
});

for (const at of [1, 2, 3, 4, 5])
  test(`a file that is rotated just before the reader looks for the live one, the ${at}. time, is read`, async (context) => {
    const reader = open();
    writeFileSync(log, 'one\n');
    assert.equal((await reader.look())?.bytes.toString(), 'one\n');
    renameSync(log, `${log}.1`);
    writeFileSync(log, 'two\n');
    let looks = 0;
    const live = LogDirectory.prototype.live;
    context.mock.method(LogDirectory.prototype, 'live', function (this: LogDirectory, current?: LogFile) {
      if (++looks === at) {
        renameSync(log, `${log}.2`);
        writeFileSync(log, 'three\n');
      }
      return live.call(this, current);
    });
    const { text } = await read(reader);
    assert.ok(looks >= at, `only ${looks} looks`);
    assert.equal(text, 'two\nthree\n');
  });

test('after a restart reading goes on in the renamed file, in the compressed one, and in those that came after', async () => {
  for (const compress of [false, true]) {
    now = Date.now();
    writeFileSync(log, 'one\n');
    const first = open();
    const { end } = await read(first);
    first.close();
    appendFileSync(log, 'two\n');
    renameSync(log, `${log}-20251204`);
    writeFileSync(log, 'three\n');
    renameSync(log, `${log}-20251205`);
    writeFileSync(log, 'four\n');
    if (compress) execFileSync('gzip', [`${log}-20251204`, `${log}-20251205`]);
    assert.equal((await read(open(end))).text, 'two\nthree\nfour\n');
    for (const name of ['-20251204', '-20251205', '-20251204.gz', '-20251205.gz', '']) {
      rmSync(log + name, { force: true });
    }
  }
  assert.deepEqual(notices, []);
});

test('a rotated file of the same write time as the current one is newer, as file times are coarse', async () => {
  const reader = open();
  writeFileSync(log, 'one\n');
  assert.equal((await read(reader)).text, 'one\n');
  renameSync(log, `${log}.2`);
  writeFileSync(`${log}.1`, 'two\n');
  // One time of each some thirty, which the two forms of a stat round differently: in the future, so none is before the log's birth.
  for (let time = Date.now() + 10; ; time++) {
    for (const name of [`${log}.1`, `${log}.2`]) utimesSync(name, new Date(time), new Date(time));
    const { mtimeNs } = statSync(`${log}.1`, { bigint: true });
    if (statSync(`${log}.1`).mtimeMs > Number(mtimeNs) / 1e6) break;
  }
  assert.equal((await read(reader)).text, 'two\n', 'there is no live log at this moment');
});

test('copytruncate: what was not read before the truncation is read from the copy', async () => {
  writeFileSync(log, 'one\n');
  const reader = open();
  await read(reader);
  appendFileSync(log, 'two\nthree\n');
  copyFileSync(log, `${log}.1`);
  truncateSync(log);
  appendFileSync(log, 'four, and more than was in the log before\n');
  assert.equal((await read(reader)).text, 'two\nthree\nfour, and more than was in the log before\n');
  assert.equal(reader.stats.truncations, 1);
  assert.equal(reader.stats.lostBytes, 0);
});

test('copytruncate while nobody reads: the copy is found by its beginning, also compressed', async () => {
  writeFileSync(log, 'one\n');
  const first = open();
  const { end } = await read(first);
  first.close();
  appendFileSync(log, 'two\n');
  copyFileSync(log, `${log}.1`);
  truncateSync(log);
  appendFileSync(log, 'a longer line than before\n');
  execFileSync('gzip', [`${log}.1`]);
  assert.equal((await read(open(end))).text, 'two\na longer line than before\n');
});

test('a truncated log without a copy: reading goes on, and what is known to be lost is counted', async () => {
  writeFileSync(log, 'one\n');
  const reader = open(undefined, 10);
  await read(reader);
  appendFileSync(log, 'part');
  await read(reader);
  truncateSync(log);
  appendFileSync(log, 'new\n');
  assert.equal((await read(reader)).text, 'part\nnew\n');
  assert.equal(reader.stats.newlinesAdded, 1);
  assert.equal(reader.stats.lostBytes, 0);
});

test('a log deleted and made anew under the same inode is begun at 0', async () => {
  writeFileSync(log, 'one\ntwo\n');
  const first = open();
  const { end } = await read(first);
  first.close();
  unlinkSync(log);
  writeFileSync(log, 'other\n');
  const again = { ...end!, ino: open().stats ? end!.ino : '' };
  assert.equal((await read(open(again))).text, 'other\n');
  assert.equal(notices.filter((notice) => notice.startsWith('error')).length, 1);
  assert.match(notices[0]!, /gone.*Keep at least one rotated file/);
});

test('a last line without newline is waited for, and given one when its file is finished', async () => {
  writeFileSync(log, 'one\nhalf');
  const reader = open();
  assert.equal((await read(reader)).text, 'one\n');
  renameSync(log, `${log}.1`);
  writeFileSync(log, 'next\n');
  assert.equal((await read(reader)).text, 'half\nnext\n');
  assert.equal(reader.stats.newlinesAdded, 1);
});

test('a backup copy of the log, and other files beside it, are not read', async () => {
  writeFileSync(log, 'one\n');
  const reader = open();
  await read(reader);
  copyFileSync(log, `${log}.20251204`);
  writeFileSync(join(dir, 'error.log.1'), 'error\n');
  writeFileSync(join(dir, 'access.log.enriched'), 'one\n');
  renameSync(log, `${log}.1`);
  writeFileSync(log, 'two\n');
  assert.equal((await read(reader)).text, 'two\n');
});

test('a rotated file that only another tool can read is told as a loss', async () => {
  writeFileSync(log, 'one\n');
  const reader = open();
  await read(reader);
  renameSync(log, `${log}.1`);
  writeFileSync(`${log}.2.bz2`, 'BZh9');
  writeFileSync(log, 'two\n');
  assert.equal((await read(reader)).text, 'two\n');
  assert.equal(reader.stats.losses, 1);
  assert.match(notices.join(), /bz2: cannot be read/);
});

test('a damaged compressed file is read as far as it goes, and told as a loss', async () => {
  writeFileSync(log, 'one\n');
  const first = open();
  const { end } = await read(first);
  first.close();
  appendFileSync(log, Array.from({ length: 20_000 }, (_, n) => `line ${n * 7919}\n`).join(''));
  renameSync(log, `${log}.1`);
  execFileSync('gzip', [`${log}.1`]);
  truncateSync(`${log}.1.gz`, 40_000);
  writeFileSync(log, 'two\n');
  const reader = open(end);
  const { text } = await read(reader);
  assert.match(text, /^line 0\n.*two\n$/s);
  assert.equal(reader.stats.losses, 1);
  assert.match(notices.join(), /cannot be read to its end/);
});

test('a pipe, a link to stdout and a directory are refused with what to do', () => {
  execFileSync('mkfifo', [log]);
  assert.throws(() => openFollower(log), { message: /is a pipe, not a file: mount a volume \(emptyDir\)/ });
  rmSync(log);
  symlinkSync('/dev/stdout', log);
  assert.throws(() => openFollower(log), {
    message: /is a link to \/dev\/stdout, not a file: mount a volume/,
  });
  assert.throws(() => openFollower(dir), FollowError);
});

test('a log that nginx compresses as it writes is refused with what to do', async () => {
  const reader = open();
  writeFileSync(log, gzipSync('one\n', { level: 1 }));
  await assert.rejects(reader.look(), {
    name: 'Error',
    message: `${log} is compressed by nginx as it writes, and cannot be followed: take gzip out of its access_log`,
  });
  await assert.rejects(async () => {
    const follower = openFollower(log);
    try {
      await follower.next();
    } finally {
      follower.stop();
    }
  }, FollowError);
});

test('a rotated file that nginx compressed as it wrote is told as a loss, once', async () => {
  writeFileSync(log, 'one\n');
  const { end } = await read(open());
  renameSync(log, `${log}.2`);
  writeFileSync(`${log}.1`, gzipSync('two\n'));
  writeFileSync(log, 'three\n');
  const reader = open(end);
  assert.equal((await read(reader)).text, 'three\n');
  assert.equal(reader.stats.losses, 1);
  assert.match(notices.join(), /access\.log\.1: cannot be read to its end .*compressed by nginx/);
});

test("rotators' names are known, others are not", () => {
  const kinds = ['.1', '.2.gz', '-20251204', '-20251204-1733.gz', '.2025-12-04T07:27:17Z', '.old', '.3.bz2'];
  assert.deepEqual(
    kinds.map((suffix) => rotatedKind('access.log', `access.log${suffix}`)),
    ['plain', 'gzip', 'plain', 'gzip', 'plain', 'plain', 'unreadable'],
  );
  assert.equal(rotatedKind('access.log', 'access-20251204.log.gz'), 'gzip');
  assert.equal(rotatedKind('access.log', 'access.1.log'), 'plain');
  for (const name of [
    'access.log',
    'access.log.swp',
    'access.log.1.swp',
    'access-pods.log',
    'error.log.1',
    'access.log.gz',
  ]) {
    assert.equal(rotatedKind('access.log', name), undefined, name);
  }
});

test('without a checkpoint the part that was reclaimed is passed over, whole lines only', async () => {
  const mib = 1024 * 1024;
  const lines = Array.from(
    { length: 300_000 },
    (_, n) => `line ${String(n).padStart(10, '0')} ${'x'.repeat(20)}\n`,
  ).join('');
  const fd = openSync(log, 'w');
  writeSync(fd, lines.slice(0, mib), 0);
  writeSync(fd, lines.slice(9 * mib), 9 * mib);
  closeSync(fd);
  const { text, end } = await read(open());
  const before = lines.slice(0, lines.lastIndexOf('\n', mib - 1) + 1);
  const after = lines.slice(lines.indexOf('\n', 9 * mib) + 1);
  assert.equal(text, before + after);
  assert.equal(end?.offset, lines.length);
});
