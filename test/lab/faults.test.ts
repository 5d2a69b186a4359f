import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { compare } from './check.ts';
import { type FaultRow, writeFaults } from './faults-table.ts';
import { sh } from './namespaces.ts';
import { caughtUp, countLines, untilExact } from './product.ts';
import { labCanRun } from './requirements.ts';
import { dropLines } from './scenario.ts';
import { createStage, cutFeed, holdings, kill, type Stage, workerPids } from './stage.ts';
import { load } from './traffic.ts';

const RATE = 400;
const SECONDS = 4;

/** Makes the fault, holds it, and ends it. */
type Fault = (stage: Stage) => Promise<void>;

const stopped =
  (pids: (stage: Stage) => number[], ms: number): Fault =>
  async (stage) => {
    const who = pids(stage);
    for (const pid of who) kill(pid, 'SIGSTOP');
    await delay(ms);
    for (const pid of who) kill(pid, 'SIGCONT');
  };
const helperOf = ({ helper }: Stage): number[] => [helper.child.pid!];
const sidecarOf = ({ sidecar }: Stage): number[] => [sidecar.child.pid!];

/** No descriptor more than the process has; `ms` later as many again as before. */
const withoutDescriptors =
  (pids: (stage: Stage) => number[], ms: number): Fault =>
  async (stage) => {
    const [pid] = pids(stage);
    const soft = /^Max open files\s+(\d+)/m.exec(await readFile(`/proc/${pid}/limits`, 'latin1'))![1];
    sh(`prlimit --pid ${pid} --nofile=${holdings(pid!).descriptors}:`);
    await delay(ms);
    sh(`prlimit --pid ${pid} --nofile=${soft}:`);
  };

interface Case {
  name: string;
  fault: Fault;
  outcome: string;
  /** The fault itself keeps nginx from answering, or hides its answers. */
  hitsNginx?: boolean;
}

const CASES: readonly Case[] = [
  {
    name: 'helper killed (kill -9), started again 1 s later',
    outcome: 'its table goes with it; lines left alone until the next one reads',
    async fault(stage) {
      kill(stage.helper.child.pid!, 'SIGKILL');
      await delay(1_000);
      await stage.restartHelper();
    },
  },
  {
    name: 'helper stopped for 2 s (SIGSTOP)',
    outcome: 'lines wait, then are left alone',
    fault: stopped(helperOf, 2_000),
  },
  {
    name: 'sidecar killed (kill -9), started again',
    outcome: 'the output is cut back to its checkpoint and written on',
    async fault(stage) {
      kill(stage.sidecar.child.pid!, 'SIGKILL');
      await delay(500);
      await stage.restartSidecar();
    },
  },
  {
    name: 'sidecar stopped for 2 s (SIGSTOP)',
    outcome: 'reads on from where it was',
    fault: stopped(sidecarOf, 2_000),
  },
  {
    name: 'nginx worker killed (kill -9)',
    outcome: 'nginx starts another',
    hitsNginx: true,
    async fault(stage) {
      for (const pid of workerPids(stage)) kill(pid, 'SIGKILL');
      await delay(500);
    },
  },
  {
    name: 'nginx workers stopped for 1 s (SIGSTOP)',
    outcome: 'requests wait',
    fault: stopped(workerPids, 1_000),
  },
  {
    name: 'nginx killed with its workers (kill -9), started again',
    outcome: 'the log goes on in the same file',
    hitsNginx: true,
    fault: (stage) => stage.restartFront(),
  },
  {
    name: 'feed cut for 7 s (packets dropped)',
    outcome: 'given up after 5 s of silence, taken up where it was',
    async fault(stage) {
      const heal = cutFeed(stage);
      await delay(7_000);
      heal();
    },
  },
  {
    name: 'no descriptor left for the sidecar, 2 s',
    outcome: 'goes on with those it has',
    fault: withoutDescriptors(sidecarOf, 2_000),
  },
  {
    name: 'no descriptor left for the helper, 2 s',
    outcome: 'goes on with those it has',
    fault: withoutDescriptors(helperOf, 2_000),
  },
  {
    name: "disk of the sidecar's output full for 2 s",
    outcome: 'the output waits; nothing is thrown away',
    async fault(stage) {
      const filler = join(stage.outputDir, 'filler');
      sh(`dd if=/dev/zero of=${filler} bs=64k 2>/dev/null || true`);
      await delay(2_000);
      rmSync(filler);
    },
  },
];

describe('faults under load', { skip: !labCanRun(), concurrency: false, timeout: 900_000 }, () => {
  let stage: Stage;
  let mounted: string | undefined;
  const rows: FaultRow[] = [];

  before(async () => {
    stage = await createStage({}, (scene) => {
      mounted = join(scene.dir, 'sidecar');
      sh(`mkdir -p ${mounted} && mount -t tmpfs -o size=24m tmpfs ${mounted}`);
    });
    await untilExact(stage.scene, stage.sidecar, stage.scene.fronts[0]!);
  });
  after(async () => {
    try {
      // The tmpfs is busy while the sidecar writes.
      await stage?.sidecar.stop();
    } finally {
      if (mounted) sh(`umount -l ${mounted} || true`);
      await stage?.dispose();
    }
    writeFaults('faults under load', rows, [
      `Each under ${RATE} requests/s on kept connections. realpod has no child processes (conntrack, tcpdump, nft), so there are none to kill.`,
      'The clock is not stepped here: the tests of the reader and of the coverage step theirs.',
    ]);
  });

  for (const { name, fault, outcome, hitsNginx } of CASES)
    test(`${name}: no line lost, none wrong`, async () => {
      const { scene } = stage;
      await caughtUp(stage.sidecar);
      const from = countLines(stage.front.accessLog);
      const traffic = load(scene, {
        connections: 20,
        ratePerSecond: RATE,
        total: RATE * SECONDS,
        requests: [
          { path: '/a/item/{n}', weight: 4 },
          { path: '/a/form', method: 'POST', bodyBytes: 300 },
        ],
      });
      await delay(1_000);
      await fault(stage);
      const ended = performance.now();
      await untilExact(scene, stage.sidecar, scene.fronts[0]!);
      const recoverySeconds = (performance.now() - ended) / 1000;
      const result = await traffic;
      await untilExact(scene, stage.sidecar, scene.fronts[0]!);
      await caughtUp(stage.sidecar);
      const tail = async (path: string) => dropLines(await readFile(path), from);
      const seen = compare(await tail(stage.front.accessLog), await tail(stage.sidecar.output));
      const { wrong, lost, repeated, altered, reordered } = seen;
      const failed = result.failed + (result.statuses[502] ?? 0) + (result.statuses[504] ?? 0);
      rows.push({ name, seen, outcome, recoverySeconds, failedRequests: hitsNginx ? undefined : failed });
      assert.deepEqual(
        { wrong, lost, repeated, altered, reordered },
        { wrong: 0, lost: 0, repeated: 0, altered: 0, reordered: 0 },
        seen.findings.join('\n'),
      );
      if (!hitsNginx) assert.equal(failed, 0, 'requests failed');
    });
});
