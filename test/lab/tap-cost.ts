/**
 * What the tap costs, by where it reads packets: `npm run bench:tap`. In turns without a helper, with rules in nftables and with a
 * packet socket, nginx is saturated but where each request has a connection, and the CPU time of each process is divided by its requests. The kernel copies for the tap in
 * the time of nginx's workers, and of the pods' where packets come from them. Needs root. `--turns N` (3), `--seconds N` (3).
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { readMetrics } from './kit/check.ts';
import { FORMATS } from './kit/formats.ts';
import { RESULTS } from './kit/networks.ts';
import { type Nginx, startBackends, startFront } from './kit/nginx.ts';
import { DEBIAN } from './kit/nginx-build.ts';
import { caughtUp, countLines, type Program, startHelper, startSidecar } from './kit/product.ts';
import { labCanRun } from './kit/requirements.ts';
import { writeSection } from './kit/results.ts';
import { createScene, type Scene } from './kit/scene.ts';
import { childPids } from './kit/stage.ts';
import { load, saturate } from './kit/traffic.ts';

const { values } = parseArgs({
  options: { turns: { type: 'string', default: '3' }, seconds: { type: 'string', default: '3' } },
});

const TAPS: Readonly<Record<string, readonly string[] | undefined>> = {
  'no helper': undefined,
  'rules (NFLOG), conntrack': [],
  'packet socket, conntrack': ['--tap-source', 'packet'],
  'packet socket alone': ['--tap-source', 'packet', '--sources', 'tap'],
};
/** Each answered by a short text, but for `size`. */
const TRAFFIC = {
  'kept connections': { path: '/a/same' },
  // At a rate: nginx has 28,000 ports, and looks for a free one in vain when most of them are in TIME_WAIT.
  'a connection each': { path: '/fresh/same', ratePerSecond: 500 },
  'answers of 64 KiB': { path: '/a/size/65536' },
  'uploads of 64 KiB': { path: '/a/same', bodyBytes: 65_536 },
} as const;
type TrafficName = keyof typeof TRAFFIC;
const NAMES = Object.keys(TRAFFIC) as TrafficName[];

/** CPU in µs a request, and packets that the helper lost. */
type Figures = Record<'nginx' | 'pods' | 'helper' | 'requests' | 'lost', number>;

/** CPU time of all threads (µs), by the scheduler's own count (proc_pid_schedstat). */
function cpuUs(pids: readonly number[]): number {
  let sum = 0;
  for (const pid of pids)
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      const [ns] = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'latin1').split(' ');
      sum += Number(ns) / 1000;
    }
  return sum;
}

function median(numbers: readonly number[]): string {
  const sorted = [...numbers].sort((a, b) => a - b);
  const half = sorted.length / 2;
  const middle = (sorted[Math.floor(half)]! + sorted[Math.ceil(half) - 1]!) / 2;
  return `${middle.toFixed(0)} (${sorted[0]!.toFixed(0)}–${sorted.at(-1)!.toFixed(0)})`;
}

function lossesOf(helper: Program): number {
  return readMetrics(helper.get('/metrics').text)
    .filter(({ name }) => /_lost_total$/.test(name))
    .reduce((sum, { value }) => sum + value, 0);
}

async function send(scene: Scene, traffic: { path: string; ratePerSecond?: number; bodyBytes?: number }) {
  const { path, ratePerSecond } = traffic;
  const seconds = Number(values.seconds);
  if (ratePerSecond === undefined) return saturate(scene, { connections: 50, seconds, ...traffic });
  const total = ratePerSecond * seconds;
  return load(scene, { connections: 50, total, ratePerSecond, requests: [{ path }] });
}

/** One turn of a tap: the figures of each traffic. */
async function turn(
  scene: Scene,
  backends: readonly Nginx[],
  n: number,
  args: readonly string[] | undefined,
): Promise<Record<TrafficName, Figures>> {
  const pod = scene.fronts[0]!;
  const dir = join(scene.dir, `turn${n}`);
  const helper = args && (await startHelper(scene, ['--auth', 'none', ...args]));
  const front = await startFront(scene, pod, dir, {
    services: ['a'],
    format: FORMATS.full,
    keepalive: true,
    build: DEBIAN,
    http: `upstream fresh { server ${scene.service('a').address}; }`,
    locations: 'location /fresh/ { proxy_pass http://fresh; }',
  });
  const { accessLog } = front;
  const sidecar =
    helper &&
    (await startSidecar(scene, pod, { accessLog, format: FORMATS.full, dir: join(dir, 'sidecar') }));
  try {
    await delay(1_000);
    const pids = {
      nginx: childPids(front.child.pid!),
      pods: backends.flatMap(({ child }) => childPids(child.pid!)),
      helper: helper ? [helper.child.pid!] : [],
    };
    const found: Partial<Record<TrafficName, Figures>> = {};
    for (const name of NAMES) {
      const lost = helper ? lossesOf(helper) : 0;
      const before = countLines(accessLog);
      const used = { nginx: cpuUs(pids.nginx), pods: cpuUs(pids.pods), helper: cpuUs(pids.helper) };
      await send(scene, TRAFFIC[name]);
      const requests = countLines(accessLog) - before;
      if (sidecar) await caughtUp(sidecar, 60_000);
      const each = (who: keyof typeof used) => (cpuUs(pids[who]) - used[who]) / requests;
      found[name] = {
        nginx: each('nginx'),
        pods: each('pods'),
        helper: each('helper'),
        requests,
        lost: helper ? lossesOf(helper) - lost : 0,
      };
    }
    return found as Record<TrafficName, Figures>;
  } finally {
    await sidecar?.stop();
    await front.stop();
    await helper?.stop();
  }
}

async function run(scene: Scene): Promise<void> {
  const backends = await startBackends(scene, [10000]);
  const taps = Object.keys(TAPS);
  const all = new Map<string, Figures[]>();
  let n = 0;
  for (let i = 0; i < Number(values.turns); i++)
    for (const tap of i % 2 === 0 ? taps : [...taps].reverse()) {
      const figures = await turn(scene, backends, ++n, TAPS[tap]);
      for (const name of NAMES) {
        const key = `${name} | ${tap}`;
        all.set(key, [...(all.get(key) ?? []), figures[name]]);
      }
      console.error(JSON.stringify({ tap, ...figures }));
    }
  const rows = NAMES.flatMap((name) =>
    taps.map((tap) => {
      const found = all.get(`${name} | ${tap}`)!;
      const of = (who: keyof Figures) => median(found.map((each) => each[who]));
      const [nginx, pods, helper] = [of('nginx'), of('pods'), TAPS[tap] ? of('helper') : '–'];
      const sum = (what: keyof Figures) =>
        found.reduce((total, each) => total + each[what], 0).toLocaleString('en');
      return `| ${name} | ${tap} | ${sum('requests')} | ${nginx} | ${pods} | ${helper} | ${sum('lost')} |`;
    }),
  );
  const body = [
    `CPU µs a request: median (least–most) of ${values.turns} turns of ${values.seconds} s, one worker, 50 clients. By \`npm run bench:tap\`.`,
    '',
    '| requests | tap | how many | nginx | the pods’ nginx | helper | packets lost |',
    '|---|---|---|---|---|---|---|',
    ...rows,
  ].join('\n');
  console.log(body);
  writeSection(RESULTS, 'cost of the tap', body);
}

if (!labCanRun(['wrk:wrk'])) process.exit(0);
const scene = await createScene({
  pods: 4,
  services: [{ name: 'a', port: 10000, targetPort: 10000, pods: [0, 1, 2, 3] }],
});
try {
  await run(scene);
} finally {
  await scene.dispose();
}
