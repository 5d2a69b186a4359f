/** How the loader of the source `trace` reads its ring (bpf/ring.c), compiled for itself. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { fails } from '../lab/kit/requirements.ts';
import { skipBecause } from '../required.ts';

const SOURCES = ['trace-ring.c', '../../bpf/ring.c'].map((name) =>
  fileURLToPath(new URL(name, import.meta.url)),
);
const INSTALL = fileURLToPath(new URL('../install.sh', import.meta.url));
const HEADERS = ['/usr/include/stdio.h:libc6-dev', '/usr/include/linux/bpf.h:linux-libc-dev'];
const lacking = fails('sh', [INSTALL, 'cc:gcc', ...HEADERS]);
const skip = lacking === undefined ? false : skipBecause(lacking);

test('a reading ends with what there was at its beginning, in order, and waits for what was interrupted', {
  skip,
}, () => {
  const dir = mkdtempSync(join(tmpdir(), 'realpod-ring-'));
  try {
    const program = join(dir, 'ring');
    const built = spawnSync('cc', ['-Wall', '-Werror', '-o', program, ...SOURCES], { encoding: 'utf8' });
    assert.equal(built.status, 0, built.stderr);
    // One that goes on for as long as nginx writes is ended.
    const { stdout, signal } = spawnSync(program, { encoding: 'utf8', timeout: 10_000 });
    assert.equal(signal, null, 'it does not end');
    assert.equal(stdout, 'busy: 1 2 3\nrest: 4 5 6 8\ninterrupted: done 9 10\nnothing:\n');
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
