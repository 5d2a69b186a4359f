import assert from 'node:assert/strict';
import {
  existsSync,
  lstatSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ReadyFile } from '../../src/write/ready-file.ts';

test('the file of an earlier process is removed at the start, and the new one comes with the first record', (context) => {
  const dir = mkdtempSync(join(tmpdir(), 'realpod-ready-'));
  context.after(() => rmSync(dir, { recursive: true }));
  const path = join(dir, 'ready');
  writeFileSync(path, '');
  const ready = new ReadyFile(path, () => assert.fail('nothing to say'));
  assert.equal(existsSync(path), false);
  ready.write();
  assert.equal(existsSync(path), true);
  rmSync(path);
  ready.write();
  assert.equal(existsSync(path), false, 'it is written once, also if somebody has removed it');
});

test('a link that somebody put there is not written through', (context) => {
  const dir = mkdtempSync(join(tmpdir(), 'realpod-ready-'));
  context.after(() => rmSync(dir, { recursive: true }));
  const path = join(dir, 'ready');
  const victim = join(dir, 'victim');
  writeFileSync(victim, 'precious');
  const ready = new ReadyFile(path, () => assert.fail('nothing to say'));
  symlinkSync(victim, path);
  symlinkSync(victim, `${path}.new`);
  ready.write();
  assert.equal(readFileSync(victim, 'utf8'), 'precious');
  assert.equal(lstatSync(path).isFile(), true);
});

test('where it cannot be written that is said once', () => {
  const said: string[] = [];
  const ready = new ReadyFile('/sys/kernel/realpod-ready', (level, text) => said.push(`${level}: ${text}`));
  ready.write();
  ready.write();
  assert.equal(said.length, 1);
  assert.match(said[0]!, /^warn: --ready-file .*nothing else depends on it$/);
});

test('a path that is a directory is said once, at the start', (context) => {
  const dir = mkdtempSync(join(tmpdir(), 'realpod-ready-'));
  context.after(() => rmSync(dir, { recursive: true }));
  const said: string[] = [];
  const ready = new ReadyFile(dir, (level, text) => said.push(`${level}: ${text}`));
  assert.equal(said.length, 1);
  ready.write();
  assert.equal(said.length, 1);
});
