/** How the loader of the source `trace` reads its ring (bpf/ring.c), compiled for itself. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const SOURCES = ['trace-ring.c', '../../bpf/ring.c'].map((name) =>
  fileURLToPath(new URL(name, import.meta.url)),
);

test('a reading ends with what there was at its beginning, in order, and waits for what was interrupted', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'realpod-ring-'));
  try {
    const program = join(dir, 'ring');
    if (!existsSync('/usr/include/linux/bpf.h')) {
      t.skip('there are no headers of Linux');
      return;
    }
    const built = spawnSync('cc', ['-Wall', '-Werror', '-o', program, ...SOURCES], { encoding: 'utf8' });
    if (built.error) {
      t.skip('there is no C compiler');
      return;
    }
    assert.equal(built.status, 0, built.stderr);
    // One that goes on for as long as nginx writes is ended.
    const { stdout, signal } = spawnSync(program, { encoding: 'utf8', timeout: 10_000 });
    assert.equal(signal, null, 'it does not end');
    assert.equal(stdout, 'busy: 1 2 3\nrest: 4 5 6 8\ninterrupted: done 9 10\nnothing:\n');
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
