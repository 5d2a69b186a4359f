/** `npm run demo:live` as a process: its page opens from outside of the pod, and nothing stays behind. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { labCanRun } from './kit/requirements.ts';

const LIVE = ['--import', import.meta.resolve('tsx'), fileURLToPath(new URL('live.ts', import.meta.url))];

const namespacesOf = (pid: number): string[] =>
  readdirSync('/run/netns').filter((name) => name.startsWith(`rplab-${pid}-`));

function listen(child: ChildProcess): (what: RegExp) => Promise<RegExpExecArray> {
  let out = '';
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      out += text;
    });
  }
  return async (what) => {
    for (let found: RegExpExecArray | null; ; await delay(50)) {
      found = what.exec(out);
      if (found) return found;
      assert.equal(child.exitCode, null, `it ended without ${what}: ${out.slice(-2_000)}`);
    }
  };
}

describe('npm run demo:live', { skip: !labCanRun(), concurrency: false, timeout: 240_000 }, () => {
  test('its page opens and shows the pods; one round names every line and leaves no namespace', async (context) => {
    const child = spawn(process.execPath, [...LIVE, '--once'], { stdio: ['ignore', 'pipe', 'pipe'] });
    context.after(() => child.kill());
    const said = listen(child);
    const [, page] = await said(/^Open (http:\S+) in a browser/m);
    assert.match(await (await fetch(page!)).text(), /<title>realpod/);
    const pods = async () => ((await (await fetch(`${page}pods`)).json()) as { pods: unknown[] }).pods;
    while ((await pods()).length < 2) await delay(50);
    const [, lines, named] = await said(/^(\d+) lines; (\d+) name the pod that answered/m);
    assert.equal(named, lines);
    assert.ok(Number(lines) > 0);
    const [code] = child.exitCode === null ? await once(child, 'exit') : [child.exitCode];
    assert.equal(code, 0);
    assert.deepEqual(namespacesOf(child.pid!), []);
  });

  test('in a terminal it repeats, and is gone with all it made when the terminal is closed', async (context) => {
    const command = `echo "pid $$"; exec ${[process.execPath, ...LIVE].map((word) => `'${word}'`).join(' ')}`;
    const terminal = spawn('script', ['-qfec', command, '/dev/null'], { stdio: ['ignore', 'pipe', 'pipe'] });
    context.after(() => terminal.kill('SIGKILL'));
    const said = listen(terminal);
    const pid = Number((await said(/pid (\d+)/))[1]);
    await said(/lines; [\s\S]*lines; \d+ name/);
    assert.notDeepEqual(namespacesOf(pid), []);
    terminal.kill('SIGKILL');
    while (namespacesOf(pid).length > 0) await delay(100);
  });
});
