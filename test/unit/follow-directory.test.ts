import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import type { FollowerStats } from '../../src/follow/log-block.ts';
import { LogDirectory } from '../../src/follow/log-directory.ts';

test('a rotated file whose last write was at the very instant is one since then, as file times are coarse', (context) => {
  const dir = mkdtempSync(join(tmpdir(), 'realpod-directory-'));
  context.after(() => rmSync(dir, { recursive: true }));
  const log = join(dir, 'access.log');
  const at = 1_764_837_843;
  for (const [name, seconds] of [
    ['access.log.1', at + 1],
    ['access.log.2', at],
    ['access.log.3', at - 1],
  ] as const) {
    writeFileSync(join(dir, name), 'line\n');
    utimesSync(join(dir, name), seconds, seconds);
  }
  const directory = new LogDirectory(log, {} as never, {} as FollowerStats, () => 0, assert.fail);
  const names = (since: number): string[] =>
    directory
      .rotatedSince(since)
      .map(({ path }) => basename(path))
      .sort();
  assert.deepEqual(names(at * 1000), ['access.log.1', 'access.log.2']);
  assert.deepEqual(names(at * 1000 + 1), ['access.log.1']);
});
