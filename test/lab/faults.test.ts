import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { readMetrics } from './kit/check.ts';
import { type ApiServer, startApiServer } from './kit/cluster.ts';
import { assertUnharmed, type Fault, type FaultLoad, underFault } from './kit/faults.ts';
import { type FaultRow, writeFaults } from './kit/faults-table.ts';
import { until } from './kit/nginx.ts';
import { countLines, untilExact } from './kit/product.ts';
import { labCanRun } from './kit/requirements.ts';
import { sh } from './kit/shell.ts';
import { createStage, cutFeed, holdings, kill, type Stage, services, workerPids } from './kit/stage.ts';
import { collect } from './kit/traffic.ts';

const LOAD: FaultLoad = {
  ratePerSecond: 400,
  seconds: 4,
  requests: [
    { path: '/a/item/{n}', weight: 4 },
    { path: '/a/form', method: 'POST', bodyBytes: 300 },
  ],
};
/** How many connections each network namespace can track. */
const TABLE = '/proc/sys/net/netfilter/nf_conntrack_max';

const stopped =
  (pids: (stage: Stage) => number[], ms: number): Fault['make'] =>
  async (stage) => {
    const who = pids(stage);
    for (const pid of who) kill(pid, 'SIGSTOP');
    await delay(ms);
    for (const pid of who) kill(pid, 'SIGCONT');
  };
/** Prints how many packets of this namespace found no room in the table, over all CPUs. */
const REFUSED = "conntrack -S | tr ' ' '\\n' | awk -F= '$1 == \"drop\" { n += $2 } END { print n + 0 }'";
const overruns = ({ helper }: Stage, source: string): number =>
  readMetrics(helper.get('/metrics').text).find(
    ({ name, labels }) => name === 'realpod_helper_overruns_total' && labels.source === source,
  )?.value ?? 0;
const fill = (dir: string): string => `dd if=/dev/zero of=${join(dir, 'filler')} bs=64k 2>/dev/null || true`;
const helperOf = ({ helper }: Stage): number[] => [helper.child.pid!];
const sidecarOf = ({ sidecar }: Stage): number[] => [sidecar.child.pid!];

/** No descriptor more than the process has; `ms` later as many again as before. */
const withoutDescriptors =
  (pids: (stage: Stage) => number[], ms: number): Fault['make'] =>
  async (stage) => {
    const [pid] = pids(stage);
    const soft = /^Max open files\s+(\d+)/m.exec(await readFile(`/proc/${pid}/limits`, 'latin1'))![1];
    sh(`prlimit --pid ${pid} --nofile=${holdings(pid!).descriptors}:`);
    await delay(ms);
    sh(`prlimit --pid ${pid} --nofile=${soft}:`);
  };

const FAULTS: readonly Fault[] = [
  {
    name: 'helper killed (kill -9), started again 1 s later',
    outcome: 'its table goes with it; lines left alone until the next one reads',
    async make(stage) {
      kill(stage.helper.child.pid!, 'SIGKILL');
      await delay(1_000);
      await stage.restartHelper();
    },
  },
  {
    name: 'helper stopped for 2 s (SIGSTOP)',
    outcome: 'lines wait, then are left alone',
    make: stopped(helperOf, 2_000),
  },
  {
    name: 'sidecar killed (kill -9), started again',
    outcome: 'the output is cut back to its checkpoint and written on',
    async make(stage) {
      kill(stage.sidecar.child.pid!, 'SIGKILL');
      await delay(500);
      await stage.restartSidecar();
    },
  },
  {
    name: 'sidecar stopped for 2 s (SIGSTOP)',
    outcome: 'reads on from where it was',
    make: stopped(sidecarOf, 2_000),
  },
  {
    name: 'nginx worker killed (kill -9)',
    outcome: 'nginx starts another',
    hitsNginx: true,
    async make(stage) {
      for (const pid of workerPids(stage)) kill(pid, 'SIGKILL');
      await delay(500);
    },
  },
  {
    name: 'nginx workers stopped for 1 s (SIGSTOP)',
    outcome: 'requests wait',
    make: stopped(workerPids, 1_000),
  },
  {
    name: 'nginx killed with its workers (kill -9), started again',
    outcome: 'the log goes on in the same file',
    hitsNginx: true,
    make: (stage) => stage.restartFront(),
  },
  {
    name: 'feed cut for 7 s (packets dropped)',
    outcome: 'given up after 5 s of silence, taken up where it was',
    async make(stage) {
      const heal = cutFeed(stage);
      await delay(7_000);
      heal();
    },
  },
  {
    name: 'no descriptor left for the sidecar, 2 s',
    outcome: 'goes on with those it has',
    make: withoutDescriptors(sidecarOf, 2_000),
  },
  {
    name: 'no descriptor left for the helper, 2 s',
    outcome: 'goes on with those it has',
    make: withoutDescriptors(helperOf, 2_000),
  },
  {
    name: "disk of the sidecar's output full for 2 s",
    outcome: 'the output waits; nothing is thrown away',
    async make(stage) {
      sh(fill(stage.outputDir));
      await delay(2_000);
      rmSync(join(stage.outputDir, 'filler'));
    },
  },
  {
    name: "disk of nginx's log full for 2 s",
    outcome: 'nginx writes no lines; those that it wrote are all there',
    async make(stage) {
      const before = countLines(stage.front.accessLog);
      sh(fill(stage.front.dir));
      await delay(2_000);
      rmSync(join(stage.front.dir, 'filler'));
      const written = countLines(stage.front.accessLog) - before;
      assert.ok(written < LOAD.ratePerSecond, `${written} lines were written on a full disk`);
    },
  },
  {
    name: 'feed stalled for 3 s (packets dropped)',
    outcome: 'lines wait, then are left alone; the connection goes on',
    async make(stage) {
      const heal = cutFeed(stage);
      await delay(3_000);
      heal();
    },
  },
  {
    name: 'three packets in ten of the feed lost for 4 s',
    outcome: 'lines wait for what TCP sends again',
    async make(stage) {
      const heal = cutFeed(stage, 30);
      await delay(4_000);
      heal();
    },
  },
  {
    name: 'kernel events lost (ENOBUFS): small buffers, helper stopped for 1 s, a flood of connections',
    outcome: 'counted, told as a gap; connections listed anew',
    async make(stage) {
      const { scene } = stage;
      await stage.restartHelper('--receive-buffer', '4096');
      await delay(1_500);
      kill(stage.helper.child.pid!, 'SIGSTOP');
      const url = `http://${scene.service('solo').address}/of-its-own`;
      await collect(scene, scene.fronts[0]!, 'wrk', ['-t1', '-c20', '-d1s', '-H', 'Connection: close', url]);
      kill(stage.helper.child.pid!, 'SIGCONT');
      await delay(100);
      for (const source of ['conntrack', 'tap'])
        assert.ok(overruns(stage, source) > 0, `no overrun of ${source}`);
      await stage.restartHelper();
    },
  },
  {
    name: "the kernel's conntrack table full for some seconds",
    outcome: 'new connections wait until there is room, all that are open go on',
    seconds: 10,
    async make({ scene }) {
      const max = Number(readFileSync(TABLE, 'latin1'));
      const foreign = Array.from(
        { length: max },
        (_, n) =>
          `-A -p tcp -s 198.18.${(n >> 8) & 255}.${n & 255} -d 198.19.0.1 --sport ${1024 + (n >> 16)} --dport 80 --state ESTABLISHED -u SEEN_REPLY,ASSURED -t 60`,
      );
      const file = join(scene.dir, 'foreign');
      writeFileSync(file, `${foreign.join('\n')}\n`);
      // The last of them are refused, as the table holds others.
      scene.runIn(scene.node, `conntrack -R ${file} >/dev/null 2>&1 || true`);
      const count = Number(scene.runIn(scene.node, 'sysctl -n net.netfilter.nf_conntrack_count'));
      const refused = Number(scene.runIn(scene.node, REFUSED));
      await delay(2_000);
      await until(
        'a connection to be refused',
        () => Number(scene.runIn(scene.node, REFUSED)) > refused,
        5_000,
      );
      scene.runIn(scene.node, 'conntrack -D -p tcp -d 198.19.0.1 >/dev/null 2>&1');
      assert.ok(count >= max - 1, `${count} of ${max} entries`);
    },
  },
  {
    name: 'API server away for 4 s (SIGSTOP), Service moved to other pods meanwhile',
    outcome: 'addresses need no API server; names come back with it',
    seconds: 7,
    make: async (stage) => {
      assert.ok(api, 'no API server');
      kill(api.pid, 'SIGSTOP');
      stage.scene.setServices(services([2, 3]));
      await delay(4_000);
      kill(api.pid, 'SIGCONT');
      stage.scene.setServices(services([0, 1, 2, 3]));
    },
  },
];

/** The stand-in that the helper lists names from. */
let api: ApiServer | undefined;

describe('faults under load', { skip: !labCanRun(), concurrency: false, timeout: 900_000 }, () => {
  let stage: Stage;
  const mounted: string[] = [];
  const rows: FaultRow[] = [];

  before(async () => {
    stage = await createStage({ keepaliveRequests: 100 }, async (scene) => {
      for (const name of ['sidecar', 'front']) {
        const dir = join(scene.dir, name);
        mounted.push(dir);
        sh(`mkdir -p ${dir} && mount -t tmpfs -o size=24m tmpfs ${dir}`);
      }
      api = await startApiServer(scene);
      return { helperArgs: ['--kubeconfig', api.kubeconfig] };
    });
    await untilExact(stage.scene, stage.sidecar, stage.scene.fronts[0]!);
  });
  after(async () => {
    try {
      // A tmpfs is busy while its writer runs.
      await stage?.sidecar.stop();
      await stage?.front.stop();
    } finally {
      for (const dir of mounted) sh(`umount -l ${dir} || true`);
      await stage?.dispose();
    }
    writeFaults('faults under load', rows, [
      `Each under ${LOAD.ratePerSecond} requests/s on kept connections. realpod has no child processes (conntrack, tcpdump, nft), so there are none to kill.`,
    ]);
  });

  for (const fault of FAULTS)
    test(`${fault.name}: no line lost, none wrong`, async () => {
      const row = await underFault(stage, fault, LOAD);
      rows.push(row);
      assertUnharmed(row);
    });
});
