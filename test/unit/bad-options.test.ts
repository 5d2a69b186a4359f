import assert from 'node:assert/strict';
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const CLI = fileURLToPath(new URL('../../src/cli.ts', import.meta.url));
const LINES = ['one 10.96.0.7:80 {"a":1}', '', '\t \\x22 three'];

/** A sidecar as in the image: its arguments come from the pod, its variables from a ConfigMap. */
function sidecar(
  context: TestContext,
  variables: Record<string, string>,
): { child: ChildProcessWithoutNullStreams; here: string } {
  const here = mkdtempSync(join(tmpdir(), 'realpod-bad-'));
  writeFileSync(join(here, 'access.log'), LINES.map((line) => `${line}\n`).join(''));
  const args = ['--reclaim', `--state=${here}/.state`, `--ready-file=${here}/.ready`];
  const child = spawn(process.execPath, ['--import', 'tsx', CLI, 'sidecar', ...args], {
    env: {
      PATH: process.env.PATH,
      REALPOD_ACCESS_LOG: join(here, 'access.log'),
      REALPOD_LISTEN: '127.0.0.1:0',
      REALPOD_ON_BAD_OPTIONS: 'pass',
      ...variables,
    },
  });
  context.after(() => {
    child.kill('SIGKILL');
    rmSync(here, { recursive: true });
  });
  return { child, here };
}

const BAD: readonly [variables: Record<string, string>, said: RegExp, first?: string][] = [
  [{ HOST_IP: '127.0.0.1', REALPOD_LOG_FORMAT: '$request$upstream_addr' }, /REALPOD_LOG_FORMAT: /],
  [{ HOST_IP: '127.0.0.1', REALPOD_MAX_WAIT: 'soon' }, /REALPOD_MAX_WAIT: soon is not a duration/],
  [{ HOST_IP: '127.0.0.1', REALPOD_NGINX_CONF: '/nowhere' }, /REALPOD_NGINX_CONF: .*\/nowhere/],
  [{}, /--helper: HOST_IP is not set/],
  [
    { REALPOD_HELPER: 'ftp://x', REALPOD_STYLE: 'json' },
    /REALPOD_HELPER: ftp:\/\/x is not/,
    '{"body":"one 10.96.0.7:80 {\\"a\\":1}","realpod.unparsed":"format"}',
  ],
];

for (const [variables, said, first = LINES[0]] of BAD) {
  test(`a sidecar with a bad option writes every line as nginx did: ${said.source}`, async (context) => {
    const { child, here } = sidecar(context, variables);
    const messages: string[] = [];
    createInterface(child.stderr).on('line', (line) => messages.push(line));
    const ended = new Promise((resolve) => child.on('exit', resolve));
    const written: string[] = [];
    for await (const line of createInterface(child.stdout)) {
      written.push(line);
      // nginx's start waits for this file: it must not wait for a feed that nobody asks for.
      if (written.length === LINES.length) {
        assert.ok(existsSync(join(here, '.ready')));
        child.kill('SIGTERM');
      }
    }
    assert.equal(written[0], first);
    if (first === LINES[0]) assert.deepEqual(written, LINES);
    assert.equal(await ended, 0);
    const errors = messages.filter((line) => line.includes(' ERROR '));
    assert.equal(errors.length, 1, messages.join('\n'));
    assert.match(errors[0]!, said);
    assert.match(errors[0]!, /then start the pod again/);
    assert.ok(!messages.some((line) => line.includes('do not fit')), messages.join('\n'));
  });
}

test('a bad command line ends the sidecar, and so does a bad variable where that is wanted', async (context) => {
  const { child } = sidecar(context, { REALPOD_MAX_WAIT: 'soon', REALPOD_ON_BAD_OPTIONS: 'end' });
  assert.equal(await new Promise((resolve) => child.on('exit', resolve)), 2);
  const other = spawn(process.execPath, ['--import', 'tsx', CLI, 'sidecar', '--max-wait=soon'], {
    env: { PATH: process.env.PATH, HOST_IP: '127.0.0.1', REALPOD_ON_BAD_OPTIONS: 'pass' },
  });
  assert.equal(await new Promise((resolve) => other.on('exit', resolve)), 2);
});
