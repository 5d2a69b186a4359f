/** KILL_ROUNDS: how often the process is killed (default 6). REALPOD_SEED: the choices. */
import assert from 'node:assert/strict';
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Random } from './random.ts';
import { testSeed } from './seed.ts';

const ROUNDS = Number(process.env.KILL_ROUNDS ?? 6);
const SEED = testSeed();
const CHILD = new URL('./kill-child.ts', import.meta.url);

/** When a file that is made now was born, ms since the epoch. */
function newFileTime(dir: string): number {
  const path = join(dir, 'time');
  const fd = openSync(path, 'w');
  const { birthtimeMs } = fstatSync(fd);
  closeSync(fd);
  unlinkSync(path);
  return birthtimeMs;
}

test(`kill -9 of a process that follows a log under load: each line once, in order (seed ${SEED})`, async () => {
  const random = new Random(SEED);
  const dir = mkdtempSync(join(tmpdir(), 'realpod-kill-'));
  const log = join(dir, 'access.log');
  const output = join(dir, 'enriched.log');
  const state = join(dir, 'state');
  const outputs = [output];
  let fd = openSync(log, 'a');
  let lines = 0;
  let files = 0;
  let child: ChildProcess | undefined;
  let said = '';
  const start = async (): Promise<ChildProcess> => {
    const started = fork(CHILD, [log, output, state], {
      execArgv: ['--import', 'tsx'],
      stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
    });
    started.stderr!.on('data', (text: Buffer) => {
      said += text;
    });
    await once(started, 'message');
    return started;
  };
  /** Until the child has written the last line: a write to its output is the only sign it gives. */
  const caughtUp = async (): Promise<void> => {
    for (let n = 0; n < 20_000; n++) {
      const texts = outputs.map((path) => (existsSync(path) ? readFileSync(path, 'utf8') : ''));
      const last = texts
        .findLast((text) => text !== '')
        ?.trimEnd()
        .split('\n')
        .at(-1);
      if (Number.parseInt(last ?? '0', 10) === lines) return;
      await new Promise((done) => setTimeout(done, 1));
    }
    assert.fail(`seed ${SEED}: the child does not catch up`);
  };
  try {
    for (let round = 0; round < ROUNDS; round++) {
      child = await start();
      for (let burst = random.int(3, 20); burst > 0; burst--) {
        for (let n = random.int(1, 300); n > 0; n--)
          writeSync(fd, `${++lines} 10.244.0.1 "GET /é HTTP/1.1" 200\n`);
        if (random.chance(0.3)) {
          renameSync(log, `${log}.${++files}`);
          closeSync(fd);
          fd = openSync(log, 'a');
          // File times come from a clock that steps, and only they tell the order of files rotated while nobody looked.
          const { birthtimeMs } = fstatSync(fd);
          while (newFileTime(dir) <= birthtimeMs);
        }
        if (random.chance(0.1) && existsSync(output)) {
          const to = `${output}.${outputs.length}`;
          renameSync(output, to);
          outputs.splice(-1, 1, to, output);
          child.kill('SIGUSR1');
        }
        if (random.chance(0.7)) await new Promise(setImmediate);
        else if (random.chance(0.5)) await caughtUp();
      }
      child.kill('SIGKILL');
      await once(child, 'exit');
      for (let n = random.int(0, 100); n > 0; n--) writeSync(fd, `${++lines} while it was away\n`);
    }
    child = await start();
    child.kill('SIGTERM');
    await once(child, 'exit');
    const numbers = outputs.flatMap((path) =>
      (existsSync(path) ? readFileSync(path, 'utf8').split('\n') : [])
        .filter(Boolean)
        .map((line) => Number.parseInt(line, 10)),
    );
    const wrong = numbers.findIndex((number, n) => number !== n + 1);
    const missed = (numbers[wrong - 1] ?? 0) + 1;
    const fate = numbers.includes(missed) ? `${missed} comes elsewhere` : `${missed} is lost`;
    assert.equal(wrong, -1, `seed ${SEED}: after ${missed - 1} comes ${numbers[wrong]}, ${fate}; ${said}`);
    assert.equal(numbers.length, lines, `seed ${SEED}; ${said}`);
  } finally {
    child?.kill('SIGKILL');
    closeSync(fd);
    rmSync(dir, { recursive: true });
  }
});
