/**
 * The source `trace` with real nginx: every line's pod, and behind it every connection, by what the pods say. Needs what
 * bpf/build.sh needs.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { FORMATS } from './kit/formats.ts';
import { FRONT_PORT, startFront } from './kit/nginx.ts';
import { DEBIAN, newestNginx } from './kit/nginx-build.ts';
import { type Program, startHelper } from './kit/product.ts';
import { labCanRun } from './kit/requirements.ts';
import { table, writeSection } from './kit/results.ts';
import { assertResolved, type Judge, judge } from './kit/scenario.ts';
import type { Scene } from './kit/scene.ts';
import { childPids } from './kit/stage.ts';
import { lacks, type MakeCase, TRACE_CASES } from './kit/trace-cases.ts';
import { runEqualLines } from './kit/trace-equal.ts';
import { createTraceScene, runTraceCase, SURE_MS, sumOf, type TraceRun } from './kit/trace-run.ts';
import { traceResults, watchTrace } from './kit/trace-witness.ts';
import { load, saturate } from './kit/traffic.ts';

const BUILD = fileURLToPath(new URL('../../bpf/build.sh', import.meta.url));

function build(): string | undefined {
  const { status, stderr } = spawnSync('sh', [BUILD], { encoding: 'utf8' });
  return status === 0 ? undefined : `bpf/build.sh: ${stderr.trim().split('\n').at(-1)}`;
}

describe('nginx’s own word, by the trace', {
  skip: !labCanRun(['clang:clang', '/usr/include/bpf/bpf_helpers.h:libbpf-dev', 'openssl:openssl'], build),
  concurrency: false,
  timeout: 1_800_000,
}, () => {
  let scene: Scene;
  let helper: Program;
  let scenario: Judge['scenario'];
  const rows: Judge['rows'] = [];
  const runs: TraceRun[] = [];

  before(async () => {
    scene = await createTraceScene();
    helper = await startHelper(scene, ['--auth', 'none', '--sources', 'conntrack,tap,trace']);
    ({ scenario } = judge(scene, rows));
  });
  after(async () => {
    await scene?.dispose();
    if (rows.length > 0)
      writeSection(traceResults, 'scenes', table(rows), [`By connection: ${JSON.stringify(sumOf(runs))}`]);
  });

  const VOLUME = { total: 3_000, seconds: 4 };

  function run(name: string, make: MakeCase, ways = [false, true]): void {
    for (const keepalive of ways) {
      const title = `${name}, ${keepalive ? 'keepalive' : 'no keepalive'}`;
      test(title, async (t) => {
        const found = make(scene, keepalive);
        const obstacle = lacks(found);
        if (obstacle !== undefined) {
          t.skip(obstacle);
          return;
        }
        const ran = await runTraceCase(scene, scenario, title, found, keepalive, VOLUME);
        runs.push(ran);
        if (process.env.REALPOD_LAB_ROWS) console.log(JSON.stringify({ title, ...ran.found }));
        assert.equal(ran.found.wrong, 0, JSON.stringify(ran.found));
        if (!found.partly) assert.equal(ran.found.missing, 0, JSON.stringify(ran.found));
        assertResolved(ran.row, 'source-port', found.byTrace ?? (keepalive ? 0.999 : 0.95));
      });
    }
  }

  for (const [name, make] of Object.entries(TRACE_CASES)) run(name, make);

  for (const parameters of ['', 'buffer=4k flush=300ms', 'buffer=32k flush=1s'])
    test(`equal lines of four workers, ${parameters || 'each written at once'}`, async () => {
      const { findings, ...found } = await runEqualLines(scene, parameters, true, 2);
      if (process.env.REALPOD_LAB_ROWS) console.log(JSON.stringify({ parameters, ...found }));
      assert.deepEqual(findings, []);
      assert.ok(found.ofSeveralPods > found.lines / 2, JSON.stringify(found));
      // Where many are written at the same time, none of them can be told from the others.
      assert.ok((found.by['source-port'] ?? 0) > found.lines / 10, JSON.stringify(found));
    });

  run('reload', (theScene) => ({
    // Workers that end close their connections to clients.
    traffic: ({ front }, seconds) => during(theScene, seconds, () => front.signal('reload')),
  }));
  run('the executable is replaced', (theScene) => ({
    traffic: async ({ front }, seconds) => {
      const [old] = [front.child.pid!];
      let upgraded = false;
      await during(theScene, seconds, () => {
        if (!upgraded) process.kill(old, 'SIGUSR2');
        else process.kill(old, 'SIGWINCH');
        upgraded = true;
      });
    },
  }));
  run('the program is killed', () => ({
    traffic: async ({ sentTo }) => {
      const sent = sentTo({
        connections: 20,
        total: 3000,
        ratePerSecond: 400,
        requests: [{ path: '/a/same' }],
      });
      await delay(2_000);
      for (const pid of childPids(helper.child.pid!)) process.kill(pid, 'SIGKILL');
      await sent;
      assert.match(helper.said(), /nginx is traced again/);
    },
    byTrace: 0.3,
    partly: true,
  }));
  run('workers are killed', (theScene) => ({
    traffic: ({ front }, seconds) =>
      during(theScene, seconds, () => process.kill(childPids(front.child.pid!)[0]!, 'SIGKILL')),
    byTrace: 0,
    partly: true,
  }));
  run(
    'two nginx pods, one in a container that is restarted',
    (theScene) => ({
      traffic: async ({ sentTo }) => {
        const [, other] = theScene.fronts;
        const command = container(theScene);
        const plan = { connections: 20, total: 3000, requests: [{ path: '/a/same' }] };
        for (let life = 0; life < 2; life++) {
          const dir = `${theScene.dir}/other${life}`;
          const front = await startFront(theScene, other!, dir, {
            services: ['a'],
            format: FORMATS.article,
            workers: 2,
            build: { ...DEBIAN, command },
          });
          const watched = watchTrace(theScene, other!, dir);
          // It is found within a second, and counts a second later.
          await delay(2 * SURE_MS);
          await Promise.all([sentTo(plan), load(theScene, { ...plan, front: other!, port: FRONT_PORT })]);
          const found = await watched.judge(front.accessLog, 0);
          await front.stop();
          assert.deepEqual(found, { answered: 3000, right: 3000, wrong: 0, missing: 0, findings: [] });
        }
      },
      // What is new beside it is a gap of two seconds for all.
      byTrace: 0,
      partly: true,
    }),
    [true],
  );
  run(
    'an nginx without symbols',
    () => ({
      options: { build: newestNginx() ?? DEBIAN },
      requests: [{ path: '/a/same' }],
      traffic: async ({ sidecar }) => {
        assert.match(helper.said(), /is not traced: it has no symbols/);
        assert.match(sidecar!.said(), /does not trace the nginx here: it has no symbols/);
      },
      byTrace: 0,
      partly: true,
    }),
    [true],
  );
});

/** wrk, and `what` once a second. */
async function during(scene: Scene, seconds: number, what: () => void): Promise<void> {
  const running = saturate(scene, {
    connections: 20,
    seconds: seconds + 1,
    path: '/a/same',
    front: scene.fronts[0]!,
  });
  for (let i = 0; i < seconds - 1; i++) {
    await delay(1_000);
    what();
  }
  await running;
}

/** nginx in a mount namespace of its own, with a file system and a copy of the executable that are seen there only. */
function container(scene: Scene): string {
  const path = join(scene.dir, 'container.sh');
  const own = join(scene.dir, 'own');
  writeFileSync(
    path,
    `#!/bin/sh
mkdir -p ${own}
exec unshare -m sh -ec 'mount -t tmpfs none ${own}; cp "$(PATH=/usr/sbin:$PATH command -v nginx)" ${own}/nginx; exec ${own}/nginx "$@"' sh "$@"
`,
  );
  chmodSync(path, 0o755);
  return path;
}
