import assert from 'node:assert/strict';
import { once } from 'node:events';
import { appendFileSync, mkdtempSync, renameSync, rmSync, watch, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { type Follower, openFollower } from '../../src/follow/follower.ts';

let dir: string;
let log: string;
let follower: Follower;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'realpod-follower-'));
  log = join(dir, 'access.log');
});

afterEach(() => {
  follower.stop();
  rmSync(dir, { recursive: true });
});

test('a waiting reader gets each line as it is written, also over a rotation', async () => {
  follower = openFollower(log);
  for (let n = 0; n < 20; n++) {
    const next = follower.next();
    if (n === 10) renameSync(log, `${log}.1`);
    appendFileSync(log, `line ${n}\n`);
    assert.equal((await next)?.bytes.toString(), `line ${n}\n`);
  }
  assert.equal(follower.stats.rotations, 1);
});

test('what is written faster than the reader looks comes in few blocks', async () => {
  writeFileSync(log, '');
  follower = openFollower(log, { readBytes: 1024 * 1024 });
  let text = '';
  let blocks = 0;
  let written = '';
  const timer = setInterval(() => {
    for (let n = 0; n < 50; n++) {
      appendFileSync(log, `line ${n}\n`);
      written += `line ${n}\n`;
    }
    if (written.length >= 20_000) clearInterval(timer);
  }, 1);
  while (text.length < 20_000) {
    text += (await follower.next())!.bytes.toString();
    blocks++;
  }
  assert.equal(text, written.slice(0, text.length));
  assert.ok(blocks < text.split('\n').length / 10, `${blocks} blocks`);
});

test('nothing is read while nobody asks', async () => {
  follower = openFollower(log);
  writeFileSync(log, 'one\n');
  await follower.next();
  const { looks } = follower.stats;
  // The kernel tells this watcher of the same change that it tells the follower.
  const watcher = watch(dirname(log));
  const changed = once(watcher, 'change');
  appendFileSync(log, 'two\n');
  await changed;
  watcher.close();
  for (let turns = 0; turns < 5; turns++) await turn();
  assert.equal(follower.stats.looks, looks);
  assert.equal((await follower.next())?.bytes.toString(), 'two\n');
});

test('lines that are gathered are read at once where somebody asks for them', async () => {
  writeFileSync(log, 'one\n');
  // Without a sign it would look an hour later.
  follower = openFollower(log, { batchMs: 3_600_000 });
  await follower.next();
  follower.gather(true);
  for (let n = 0; n < 20; n++) {
    const next = follower.next();
    appendFileSync(log, `line ${n}\n`);
    await turn();
    follower.lookNow();
    assert.equal((await next)?.bytes.toString(), `line ${n}\n`);
  }
});

test('stopping wakes a waiting reader, and all that is there is read before the end', async () => {
  writeFileSync(log, 'one\n');
  follower = openFollower(log);
  await follower.next();
  const next = follower.next();
  renameSync(log, `${log}.1`);
  appendFileSync(`${log}.1`, 'two\n');
  writeFileSync(log, 'three\nhalf');
  follower.stop();
  let text = '';
  for (let block = await next; block; block = await follower.next()) text += block.bytes;
  assert.equal(text, 'two\nthree\n');
  assert.equal(await follower.next(), undefined);
});
