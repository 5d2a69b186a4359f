/** The source `trace` when what it needs fails: nothing wrong, and how soon lines are named again. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { readMetrics } from './kit/check.ts';
import { FRONT_PORT } from './kit/nginx.ts';
import { DEBIAN } from './kit/nginx-build.ts';
import { type Program, startHelper } from './kit/product.ts';
import { labCanRun } from './kit/requirements.ts';
import { writeSection } from './kit/results.ts';
import { type Judge, judge } from './kit/scenario.ts';
import { endChild, type Scene } from './kit/scene.ts';
import { childPids } from './kit/stage.ts';
import type { TrafficBench } from './kit/trace-cases.ts';
import { createTraceScene, runTraceCase } from './kit/trace-run.ts';
import { traceResults } from './kit/trace-witness.ts';
import { load, saturate } from './kit/traffic.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const SOURCES = ['--auth', 'none', '--sources', 'conntrack,tap,trace'];
/** The smallest that the kernel makes: two lines fit. */
const TINY_RING = 4096;
/** Requests a second, and for how long (s). */
const RATE = 300;
const SECONDS = 10;
/** When something fails (ms). */
const FAILS_AFTER_MS = 2_000;
/** Lines of the last seconds have to be named again, also on a full machine. */
const NAMED_AGAIN_S = 3;

function build(): string | undefined {
  const { status, stderr } = spawnSync('sh', [join(ROOT, 'bpf/build.sh')], { encoding: 'utf8' });
  return status === 0 ? undefined : `bpf/build.sh: ${stderr.trim().split('\n').at(-1)}`;
}

/** A build whose loader makes a tiny ring. */
function withTinyRing(scene: Scene): string {
  const dir = join(scene.dir, 'tiny');
  mkdirSync(join(dir, 'bpf'), { recursive: true });
  for (const name of ['dist', 'package.json']) cpSync(join(ROOT, name), join(dir, name), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules'), join(dir, 'node_modules'));
  const program = join(dir, 'bpf/realpod-trace');
  writeFileSync(program, `#!/bin/sh\nexec ${join(ROOT, 'bpf/realpod-trace')} ${TINY_RING}\n`);
  chmodSync(program, 0o755);
  return join(dir, 'dist/cli.js');
}

const HEAD = `| what failed | lines | wrong | another port | with an answer, no record | named by the trace | not named by it, as seconds of traffic | of these, until the helper answered again (s) |
|---|---|---|---|---|---|---|---|`;
const NOTES = [`${RATE} requests/s, but flat out for the full ring.`];

const metricOf = (program: Program, name: string): number =>
  readMetrics(program.get('/metrics').text)
    .filter((sample) => sample.name === name)
    .reduce((sum, { value }) => sum + value, 0);

describe('the trace, when something fails', {
  skip: !labCanRun(['clang:clang', '/usr/include/bpf/bpf_helpers.h:libbpf-dev', 'openssl:openssl'], build),
  concurrency: false,
  timeout: 900_000,
}, () => {
  let scene: Scene;
  let helper: Program;
  let scenario: Judge['scenario'];
  const rows: Judge['rows'] = [];
  const say = (text: string): void => void (process.env.REALPOD_LAB_ROWS && console.log(text));

  before(async () => {
    scene = await createTraceScene();
    ({ scenario } = judge(scene, rows));
  });
  const table: string[] = [];
  after(async () => {
    await scene?.dispose();
    writeSection(traceResults, 'faults', [HEAD, ...table].join('\n'), NOTES);
  });

  const flatOut = (): Promise<unknown> =>
    saturate(scene, { connections: 50, seconds: 4, path: '/a/same', front: scene.fronts[0]! });

  test('a full ring', async () => {
    helper = await startHelper(scene, SOURCES, withTinyRing(scene));
    const found = { traffic: async () => void (await flatOut()) };
    const ran = await runTraceCase(scene, scenario, 'a full ring', found, true, { total: 0, seconds: 4 });
    const lost = metricOf(helper, 'realpod_helper_trace_lost_total');
    await helper.stop();
    note('the ring of 4 KiB is full', ran.row.lines, ran.found, ran.row.wrong, ran.row.evidence, ['', '']);
    say(JSON.stringify({ lost, lines: ran.row.lines, evidence: ran.row.evidence, ...ran.found }));
    assert.equal(ran.found.wrong, 0, ran.found.findings.join('\n'));
    assert.ok(lost > 0, 'the ring was never full');
    assert.ok(ran.found.missing > 0, 'and every line has its record');
  });

  function note(
    what: string,
    lines: number,
    { wrong, missing }: { wrong: number; missing: number },
    podsWrong: number,
    evidence: Record<string, number>,
    seconds: readonly string[],
  ): void {
    table.push(
      `| ${[what, lines, podsWrong, wrong, missing, evidence['source-port'] ?? 0, ...seconds].join(' | ')} |`,
    );
  }

  function fails(what: string, act: (bench: TrafficBench) => Promise<void> | void, keepalive = true): void {
    test(what, async () => {
      helper = await startHelper(scene, SOURCES);
      let away = 0;
      const found = {
        traffic: async (bench: TrafficBench) => {
          // What a killed process leaves unanswered is no fault here.
          const running = load(scene, {
            front: scene.fronts[0]!,
            port: FRONT_PORT,
            connections: 20,
            ratePerSecond: RATE,
            total: RATE * SECONDS,
            requests: [{ path: '/a/same' }],
          });
          await delay(FAILS_AFTER_MS);
          const begin = performance.now();
          await act(bench);
          away = performance.now() - begin;
          await running;
        },
      };
      const ran = await runTraceCase(scene, scenario, what, found, keepalive, { total: 0, seconds: 4 });
      await helper.stop();
      await Promise.all(others.splice(0).map((child) => endChild(child)));
      const { lines, wrong, evidence } = ran.row;
      const unnamed = (lines - (evidence['source-port'] ?? 0)) / RATE;
      const seconds = [unnamed.toFixed(1), unnamed === 0 ? '' : (away / 1000).toFixed(1)];
      note(what, lines, ran.found, wrong, evidence, seconds);
      say(
        JSON.stringify({
          what,
          seconds,
          lines: ran.row.lines,
          evidence: ran.row.evidence,
          reasons: ran.row.reasons,
          ...ran.found,
        }),
      );
      assert.equal(ran.found.wrong, 0, ran.found.findings.join('\n'));
      assert.ok(
        unnamed - away / 1000 < SECONDS - FAILS_AFTER_MS / 1000 - NAMED_AGAIN_S,
        `${unnamed} s of lines are not named, of these ${away} ms until it was there again`,
      );
    });
  }

  const others: ReturnType<Scene['spawnIn']>[] = [];
  const kill = (pids: readonly number[]): void => pids.forEach((pid) => void process.kill(pid, 'SIGKILL'));

  fails('the program is killed', () => kill(childPids(helper.child.pid!)));
  fails('the helper is killed, and started again at once', async () => {
    helper.child.kill('SIGKILL');
    helper = await startHelper(scene, SOURCES);
  });
  fails('a worker is killed', ({ front }) => kill(childPids(front.child.pid!).slice(0, 1)));
  fails('nginx is killed, and started again', async ({ front }) => {
    kill([front.child.pid!, ...childPids(front.child.pid!)]);
    await delay(200);
    const args = ['-p', front.dir, '-e', join(front.dir, 'error.log'), '-c', join(front.dir, 'nginx.conf')];
    others.push(scene.spawnIn(scene.fronts[0]!, DEBIAN.command, [...args, '-g', 'daemon off;']));
  });
  fails('nginx reloads', ({ front }) => front.signal('reload'));
  fails('the executable is replaced (SIGUSR2, SIGWINCH)', async ({ front }) => {
    front.child.kill('SIGUSR2');
    await delay(500);
    front.child.kill('SIGWINCH');
  });
});
