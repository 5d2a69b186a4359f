import assert from 'node:assert/strict';
import {
  appendFileSync,
  chmodSync,
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
import { skipBecause } from './required.ts';

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
  reclaimer.advance(old);
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
