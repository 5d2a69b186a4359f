import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Edit, PatchedFile } from '../../src/doctor/patch.ts';
import { skipBecause } from '../required.ts';

function edit(at: number, insert: string, rest: Partial<Edit> = {}): Edit {
  return { path: 'f', at, remove: 0, insert, wholeLine: false, ...rest };
}

test('edits at one place keep their order, and equal ones count once', () => {
  const file = new PatchedFile('f', 'one\ntwo\n');
  const lines = ['a', 'b', 'a', 'c'].map((text) => edit(4, text, { wholeLine: true }));
  file.apply([...lines, edit(7, '1'), edit(7, '2'), edit(7, '1')]);
  assert.equal(file.text, 'one\na\nb\nc\ntwo12\n');
});

test('of two replacements of the same word the first one counts', () => {
  const file = new PatchedFile('f', 'a bb c');
  file.apply([edit(2, 'x', { remove: 2 }), edit(2, 'y', { remove: 2 })]);
  assert.equal(file.text, 'a x c');
});

test('changes of several rounds are one diff against the original', () => {
  const file = new PatchedFile('/etc/f', 'one\ntwo\nthree\n');
  file.apply([edit(4, 'new', { wholeLine: true })]);
  file.apply([edit(4, 'very ')]);
  file.apply([edit(file.text.indexOf('three'), 'not ')]);
  assert.equal(
    file.diff(),
    '--- etc/f\n+++ etc/f\n@@ -1,3 +1,4 @@\n one\n+very new\n two\n-three\n+not three\n',
  );
  assert.deepEqual(file.changes(), [
    { path: '/etc/f', line: 2, removed: undefined, added: 'very new' },
    { path: '/etc/f', line: 3, removed: 'three', added: 'not three' },
  ]);
});

test('no change is no diff', () => {
  const file = new PatchedFile('f', 'one\n');
  file.apply([]);
  assert.equal(file.diff(), '');
  assert.deepEqual(file.changes(), []);
});

const hasPatch = spawnSync('patch', ['--version']).status === 0;

test('whatever is edited, patch -p0 gets from the original to the result', {
  skip: hasPatch ? false : skipBecause('patch is not installed'),
}, () => {
  const directory = mkdtempSync(join(tmpdir(), 'doctor-patch-'));
  try {
    const line = fc.string({ unit: fc.constantFrom('a', 'b', ' ', '\t', ';'), maxLength: 6 });
    const edits = fc.array(fc.tuple(fc.nat(), line, fc.boolean(), fc.nat(2)), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(
        fc.array(line, { minLength: 1, maxLength: 30 }),
        fc.boolean(),
        edits,
        (given, newline, wanted) => {
          const lines = [...given];
          // Without a last newline, an empty last line would be none.
          if (!newline) lines.push('end');
          const text = lines.join('\n') + (newline ? '\n' : '');
          const file = new PatchedFile('f', text);
          for (const [n, insert, wholeLine, remove] of wanted) {
            const line = n % lines.length;
            const at = lines.slice(0, line).reduce((sum, l) => sum + l.length + 1, 0);
            file.apply([
              edit(at, insert, { wholeLine, remove: wholeLine ? 0 : Math.min(remove, lines[line]!.length) }),
            ]);
            if (wholeLine) lines.splice(line, 0, insert);
            else lines[line] = insert + lines[line]!.slice(Math.min(remove, lines[line]!.length));
          }
          const expected = lines.join('\n') + (newline ? '\n' : '');
          assert.equal(file.text, expected);
          if (file.diff() === '') return assert.equal(expected, text);
          writeFileSync(join(directory, 'f'), text);
          const result = spawnSync('patch', ['-p0', '-s'], {
            cwd: directory,
            input: file.diff(),
            timeout: 10_000,
          });
          assert.equal(result.status, 0, `${result.stdout}${result.stderr}\n${file.diff()}`);
          assert.equal(readFileSync(join(directory, 'f'), 'utf8'), expected);
        },
      ),
      { numRuns: 60 },
    );
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
