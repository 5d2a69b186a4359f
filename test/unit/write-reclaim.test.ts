import assert from 'node:assert/strict';
import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { LogPosition } from '../../src/follow/position.ts';
import { openReclaimer } from '../../src/write/reclaim.ts';
import { skipBecause } from '../required.ts';
import { descriptorsIn } from './descriptors.ts';

const MIB = 1024 * 1024;
let dir: string;
let log: string;
let notices: string[];
const onNotice = (level: string, text: string): void => {
  notices.push(`${level}: ${text}`);
};

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'realpod-reclaim-'));
  log = join(dir, 'access.log');
  notices = [];
});

afterEach(() => rmSync(dir, { recursive: true }));

function at(offset: number): LogPosition {
  const { dev, ino } = statSync(log, { bigint: true });
  return { dev: String(dev), ino: String(ino), offset, fingerprint: '', since: 0, older: [] };
}

test('consumed blocks go back to the file system; size, inode, the first MiB and what is not consumed stay', async (t) => {
  const content = Buffer.alloc(20 * MIB, 'a line\n');
  writeFileSync(log, content);
  const before = statSync(log);
  const reclaimer = openReclaimer(log, { onNotice });
  reclaimer.advance(at(15.5 * MIB));
  await reclaimer.close();
  if (reclaimer.stats.failures > 0) return t.skip(skipBecause(notices[0] ?? 'no hole punching'));
  appendFileSync(log, 'next\n');
  const after = statSync(log);
  assert.equal(after.ino, before.ino);
  assert.equal(after.size, before.size + 5);
  assert.ok(after.blocks * 512 < 8 * MIB, `${after.blocks} blocks`);
  const text = readFileSync(log);
  assert.deepEqual(text.subarray(0, MIB), content.subarray(0, MIB));
  assert.deepEqual(text.subarray(15 * MIB, 20 * MIB), content.subarray(15 * MIB));
});

test('little is left until there is enough of it, or it is old enough', async (t) => {
  writeFileSync(log, Buffer.alloc(4 * MIB));
  let now = 0;
  const reclaimer = openReclaimer(log, { onNotice, clock: () => now });
  reclaimer.advance(at(4 * MIB));
  now = 60_000;
  assert.equal(reclaimer.stats.punches, 0);
  reclaimer.advance(at(4 * MIB));
  await reclaimer.close();
  if (reclaimer.stats.failures > 0) return t.skip(skipBecause(notices[0] ?? 'no hole punching'));
  assert.equal(reclaimer.stats.punchedBytes, 3 * MIB);
});

test('a file that was rotated away is not touched, nor the one in its place', async () => {
  writeFileSync(log, Buffer.alloc(12 * MIB, 1));
  const old = at(12 * MIB);
  renameSync(log, `${log}.1`);
  writeFileSync(log, Buffer.alloc(12 * MIB, 2));
  const reclaimer = openReclaimer(log, { onNotice });
  for (let n = 0; n < 2; n++) reclaimer.advance(old);
  assert.equal(descriptorsIn(dir), 0);
  await reclaimer.close();
  assert.equal(reclaimer.stats.punches, 0);
  assert.deepEqual(notices, []);
});

test('a missing command is reported once for a file', async () => {
  writeFileSync(log, Buffer.alloc(12 * MIB));
  const reclaimer = openReclaimer(log, { onNotice, command: join(dir, 'none') });
  for (let n = 0; n < 3; n++) {
    reclaimer.advance(at(12 * MIB));
    while (notices.length === 0) await turn();
    await turn();
  }
  await reclaimer.close();
  assert.equal(notices.length, 1);
  assert.match(notices[0]!, /^warn: --reclaim: .*cannot be run .*ENOENT.*; this file keeps its space/);
});

test('a file that may not be written is tried again a minute later, and the file after a rotation at once', async (t) => {
  let now = 0;
  // Fails as long as the marker is there, then punches.
  const command = join(dir, 'fallocate');
  const refuse = join(dir, 'refuse');
  writeFileSync(
    command,
    `#!/bin/sh\nif [ -e ${refuse} ]; then echo no >&2; exit 1; fi\nexec fallocate "$@"\n`,
  );
  chmodSync(command, 0o755);
  writeFileSync(refuse, '');
  const reclaimer = openReclaimer(log, { onNotice, command, clock: () => now });
  const settled = async (): Promise<void> => {
    const { failures, punches } = reclaimer.stats;
    while (reclaimer.stats.failures === failures && reclaimer.stats.punches === punches) await turn();
  };
  writeFileSync(log, Buffer.alloc(12 * MIB));
  reclaimer.advance(at(12 * MIB));
  await settled();
  assert.equal(reclaimer.stats.failures, 1);
  assert.equal(descriptorsIn(dir), 0, 'a file that was refused is not kept open');
  now += 59_000;
  reclaimer.advance(at(12 * MIB));
  now += 2_000;
  reclaimer.advance(at(12 * MIB));
  await settled();
  assert.equal(reclaimer.stats.failures, 2);
  assert.equal(notices.length, 1);
  renameSync(log, `${log}.1`);
  rmSync(refuse);
  writeFileSync(log, Buffer.alloc(12 * MIB));
  reclaimer.advance(at(12 * MIB));
  await settled();
  await reclaimer.close();
  if (reclaimer.stats.punches === 0) return t.skip(skipBecause(notices.at(-1) ?? 'no hole punching'));
  assert.equal(reclaimer.stats.punchedBytes, 11 * MIB);
});

/** A reclaimer whose command writes down what it is asked, and punches nothing. */
function recording(clock: () => number) {
  const command = join(dir, 'record');
  const asked = join(dir, 'asked');
  writeFileSync(command, `#!/bin/sh\necho "$3 $5" >> ${asked}\n`);
  chmodSync(command, 0o755);
  writeFileSync(asked, '');
  const reclaimer = openReclaimer(log, { onNotice, command, clock });
  return {
    reclaimer,
    /** The holes so far, in MiB: where each begins, and its length. */
    holes: () =>
      readFileSync(asked, 'utf8')
        .split('\n')
        .slice(0, -1)
        .map((line) => line.split(' ').map((each) => Number(each) / MIB)),
    async advance(offset: number, position = at(offset * MIB)): Promise<void> {
      const { punches, failures } = reclaimer.stats;
      const before = readFileSync(asked, 'utf8');
      reclaimer.advance(position);
      for (let n = 0; n < 20; n++) await turn();
      if (readFileSync(asked, 'utf8') === before && !this.busy()) return;
      while (reclaimer.stats.punches === punches && reclaimer.stats.failures === failures) await turn();
    },
    busy: () => process.getActiveResourcesInfo().includes('ProcessWrap'),
  };
}

test('holes begin behind the first MiB, end on a MiB before the position, and follow on each other', async () => {
  let now = 0;
  writeFileSync(log, '');
  const { reclaimer, holes, advance, busy } = recording(() => now);
  const it = { busy, advance };
  await it.advance(8.9);
  assert.deepEqual(holes(), [], '7 MiB are too little for now');
  await it.advance(9);
  assert.deepEqual(holes(), [[1, 8]]);
  await it.advance(16.9);
  now = 9_999;
  await it.advance(16.9);
  assert.deepEqual(holes(), [[1, 8]]);
  now = 10_000;
  await it.advance(16.9);
  assert.deepEqual(holes().at(-1), [9, 7], 'after ten seconds what there is');
  now = 30_000;
  await it.advance(16.99);
  assert.equal(holes().length, 2, 'less than one MiB');
  await it.advance(17);
  assert.deepEqual(holes().at(-1), [16, 1]);
  now = 39_999;
  await it.advance(18);
  assert.equal(holes().length, 3, 'ten seconds after the last one');
  assert.deepEqual(reclaimer.stats, { punchedBytes: 16 * MIB, punches: 3, failures: 0 });
  await reclaimer.close();
  await it.advance(40);
  assert.equal(holes().length, 3, 'it is closed');
});

test('one hole at a time: what is consumed meanwhile is for the next', async () => {
  writeFileSync(log, '');
  const { reclaimer, holes } = recording(() => 0);
  reclaimer.advance(at(9 * MIB));
  reclaimer.advance(at(30 * MIB));
  while (reclaimer.stats.punches === 0) await turn();
  assert.deepEqual(holes(), [[1, 8]]);
  reclaimer.advance(at(30 * MIB));
  await reclaimer.close();
  assert.deepEqual(holes().at(-1), [9, 21], 'the end waits for it');
});

test('new content of the same file, and another file at the path, begin again', async () => {
  writeFileSync(log, '');
  const it = recording(() => 0);
  await it.advance(9);
  await it.advance(0, { ...at(9 * MIB), since: 5 });
  assert.deepEqual(
    it.holes(),
    [
      [1, 8],
      [1, 8],
    ],
    'it was truncated',
  );
  renameSync(log, `${log}.1`);
  writeFileSync(log, '');
  await it.advance(10);
  assert.deepEqual(it.holes().at(-1), [1, 9]);
  // The log is not there at this moment: nothing to do, and nothing to say.
  const position = at(20 * MIB);
  renameSync(log, `${log}.2`);
  await it.advance(0, { ...position, since: 7 });
  assert.equal(it.holes().length, 3);
  assert.deepEqual(notices, []);
  await it.reclaimer.close();
});

test('an offset that went back in the same content is not punched, and the file is let go', async () => {
  writeFileSync(log, '');
  const it = recording(() => 0);
  await it.advance(20);
  assert.equal(descriptorsIn(dir), 1);
  await it.advance(9);
  assert.deepEqual(it.holes(), [[1, 19]]);
  await it.reclaimer.close();
  assert.equal(descriptorsIn(dir), 0);
});

test('why a command failed is said by its last line, or by its exit code', async () => {
  writeFileSync(log, '');
  const command = join(dir, 'fallocate');
  for (const [script, said] of [
    ['echo first >&2; echo second >&2; exit 1', /failed \(second\)/],
    ['exit 7', /failed \(exit code 7\)/],
    ['head -c 5000 /dev/zero | tr "\\0" x >&2; exit 1', /failed \(x{300}\)/],
  ] as const) {
    notices = [];
    writeFileSync(command, `#!/bin/sh\n${script}\n`);
    chmodSync(command, 0o755);
    const reclaimer = openReclaimer(log, { onNotice, command });
    reclaimer.advance(at(9 * MIB));
    await reclaimer.close();
    assert.match(notices.join(), said);
    assert.equal(descriptorsIn(dir), 0);
    assert.deepEqual(reclaimer.stats, { punchedBytes: 0, punches: 0, failures: 1 });
  }
});

test('a log that cannot be opened for writing is a failure of its file', async () => {
  writeFileSync(log, '');
  const position = at(9 * MIB);
  rmSync(log);
  mkdirSync(log);
  const reclaimer = openReclaimer(log, { onNotice, clock: () => 0 });
  reclaimer.advance(position);
  reclaimer.advance(position);
  await reclaimer.close();
  assert.equal(reclaimer.stats.failures, 1);
  assert.match(
    notices.join(),
    /^warn: --reclaim: .* cannot be opened for writing \(EISDIR.*; this file keeps its space/,
  );
});
