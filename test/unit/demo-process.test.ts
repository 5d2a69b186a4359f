import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { skipBecause } from '../required.ts';

const CLI = ['--import', 'tsx', new URL('../../src/cli.ts', import.meta.url).pathname];
/** Built: with a real-time priority a compiler beside it would take the processors from everything else. */
const BUILT = new URL('../../dist/cli.js', import.meta.url).pathname;
const NAMED = /^400 lines in, 400 out\. The recording tells the pod of 400; 400 now name it\.$/m;

const ESCAPE = String.fromCharCode(27);
const MARKED_BEFORE = new RegExp(`${ESCAPE}\\[33m10\\.105\\.148\\.19\\d:\\d+${ESCAPE}\\[0m`);
const MARKED_AFTER = new RegExp(`${ESCAPE}\\[36m10\\.244\\.1\\.\\d+:8000${ESCAPE}\\[0m`);
const NAMED_IN_TERMINAL = new RegExp(NAMED.source.replace('$', '\\r?$'), 'm');

interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  out: string;
}

/** Starts `command` with a temporary folder of its own, which must be empty again when the test ends. */
function start(context: { after(done: () => void): void }, command: string, args: string[]) {
  const folder = mkdtempSync(join(tmpdir(), 'realpod-demo-test-'));
  // The suite's own variables would be options, and unknown ones.
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('REALPOD_'));
  const child = spawn(command, args, {
    env: { ...Object.fromEntries(inherited), TMPDIR: folder, TERM: 'xterm', NO_COLOR: '' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      out += text;
    });
  }
  const ended = once(child, 'close').then(([code, signal]) => ({ code, signal, out }) as Ended);
  context.after(() => {
    child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });
  const saying = async (what: RegExp): Promise<string> => {
    let over = false;
    void ended.then(() => {
      over = true;
    });
    while (!what.test(out)) {
      assert.ok(!over, `it ended without ${what}: ${out.slice(-2_000)}`);
      await delay(50);
    }
    return out;
  };
  return { child, ended, saying, leftovers: () => readdirSync(folder).filter((name) => /demo/.test(name)) };
}

const demo = (...options: string[]): string[] => [...CLI, 'demo', ...options];

async function allNamed({ ended }: { ended: Promise<Ended> }): Promise<void> {
  const { code, out } = await ended;
  assert.match(out, NAMED, out.slice(-2_000));
  assert.match(out, /orders-5d8f7c9b4-kp4vd .* × slower than its siblings: p50 \d+ ms, theirs \d+ ms/);
  assert.match(out, /catalog-7b6cf5d8d9-g2m5x .* of its requests fail, none of its siblings’/);
  assert.equal(code, 0);
}

suite('realpod demo as a process', { concurrency: 3, timeout: 240_000 }, () => {
  for (const speed of ['1', '2', '10']) {
    test(`names every line at --speed ${speed}`, async (context) => {
      await allNamed(start(context, process.execPath, demo('--once', '--speed', speed)));
    });
  }

  // A real-time priority, where it is allowed: start-up then takes as little as it can.
  const quick = existsSync(BUILT) && spawnSync('chrt', ['-f', '40', 'true']).status === 0;
  test('names every line when it starts faster than anything else on the machine', {
    skip: quick ? false : skipBecause('no real-time priority here, or not built'),
  }, async (context) => {
    const run = start(context, 'chrt', [
      '-f',
      '40',
      process.execPath,
      BUILT,
      'demo',
      '--once',
      '--speed',
      '10',
    ]);
    await allNamed(run);
  });

  for (const signal of ['SIGHUP', 'SIGTERM', 'SIGINT'] as const) {
    test(`ends on ${signal} and leaves nothing behind`, async (context) => {
      const run = start(context, process.execPath, demo('--once'));
      await run.saying(/^realpod {2}/m);
      run.child.kill(signal);
      assert.equal((await run.ended).code, 0);
      assert.deepEqual(run.leftovers(), []);
    });
  }

  test('in a terminal it is coloured, marks the address, and repeats until the terminal is closed', async (context) => {
    const command = [process.execPath, ...demo('--speed', '10')].map((word) => `'${word}'`).join(' ');
    const run = start(context, 'script', ['-qfec', command, '/dev/null']);
    const out = await run.saying(/repeats, for the page: (\S+)/);
    assert.match(out, /^realpod demo: /, 'what it is comes before what the sidecar says');
    assert.match(out, MARKED_BEFORE);
    assert.match(out, MARKED_AFTER);
    assert.match(out, NAMED_IN_TERMINAL);
    const page = /repeats, for the page: (\S+)/.exec(out)![1]!;
    const requests = async (): Promise<number> => {
      const { pods } = (await (await fetch(`${page}pods`)).json()) as { pods: { requests: number }[] };
      return pods.reduce((sum, pod) => sum + pod.requests, 0);
    };
    while ((await requests()) <= 405) await delay(100);
    closeTerminal(run.child);
    await run.ended;
    await assert.rejects(async () => {
      for (;;) await fetch(page);
    }, 'nobody listens any more');
    while (run.leftovers().length > 0) await delay(50);
  });
});

/** What happens when a terminal's window is closed: its side of the pseudo-terminal goes, and the kernel sends SIGHUP. */
function closeTerminal(script: ChildProcess): void {
  script.kill('SIGKILL');
}
