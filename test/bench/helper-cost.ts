/**
 * What the node helper costs: memory and CPU of the real program in the lab, with names from 10,000 endpoints, 20
 * readers, and requests through real nginx beside real sidecars. Needs root. Prints a table; CPU is the helper's own time,
 * so other load on the machine does not show in it. nginx's is that of its workers, in which the kernel copies packets for the
 * tap. Arguments are options of the helper, such as `--sources tap --tap-source packet`.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { readMetrics } from '../lab/kit/check.ts';
import { type ApiServer, startApiServer } from '../lab/kit/cluster.ts';
import { FORMATS } from '../lab/kit/formats.ts';
import { type Nginx, startBackends, startFront, until } from '../lab/kit/nginx.ts';
import { HELPER_PORT, type Program, startHelper, startSidecar } from '../lab/kit/product.ts';
import { labCanRun } from '../lab/kit/requirements.ts';
import { createScene, NODE_IP, type Scene } from '../lab/kit/scene.ts';
import { childPids } from '../lab/kit/stage.ts';
import { load } from '../lab/kit/traffic.ts';
import { slice } from '../unit/api-server.ts';

const SLICES = 1_000;
const ENDPOINTS = 10;
const READERS = 20;
/** Of the readers, whole sidecars beside an nginx with traffic. */
const BUSY = 4;
const RATE = 2_000;
const SECONDS = 15;
const CHANGES_PER_SECOND = 100;
/** Linux counts a process's CPU in ticks of 10 ms (sysconf(_SC_CLK_TCK) is 100 everywhere). */
const TICK_MS = 10;

function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}

function megabytes(pid: number, what: 'VmRSS' | 'VmHWM'): number {
  const [, kilobytes] = new RegExp(`${what}:\\s+(\\d+)`).exec(readFileSync(`/proc/${pid}/status`, 'utf8'))!;
  return Math.round(Number(kilobytes) / 1024);
}

function endpointsOf(n: number, generation: number) {
  return Array.from({ length: ENDPOINTS }, (_, i) => {
    const at = n * ENDPOINTS + i;
    return {
      ip: `10.${100 + (at >> 16)}.${(at >> 8) & 255}.${at & 255}`,
      pod: `web-${n}-${generation}-${i}`,
      node: 'n1',
    };
  });
}

async function change(api: ApiServer, seconds: number): Promise<void> {
  const began = performance.now();
  for (let n = 0; n < seconds * CHANGES_PER_SECOND; n++) {
    await api.send({
      put: slice('shop', `s${n % SLICES}`, 'x', endpointsOf(n % SLICES, 1 + Math.floor(n / SLICES))),
    });
    const ahead = (n * 1000) / CHANGES_PER_SECOND - (performance.now() - began);
    if (ahead > 5) await delay(ahead);
  }
}

async function startReaders(scene: Scene): Promise<void> {
  const program = fileURLToPath(new URL('./feed-readers.ts', import.meta.url));
  const addresses = scene.fronts.slice(BUSY).map(({ ip }) => ip);
  const url = `http://${NODE_IP}:${HELPER_PORT}`;
  const child = scene.spawnIn(
    scene.node,
    process.execPath,
    ['--import', import.meta.resolve('tsx'), program, url, ...addresses],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  await new Promise((resolve) => child.stdout!.once('data', resolve));
}

function workersCpuMs(fronts: readonly Nginx[]): number {
  return fronts.flatMap(({ child }) => childPids(child.pid!)).reduce((sum, worker) => sum + cpuMs(worker), 0);
}

async function run(scene: Scene): Promise<void> {
  const api = await startApiServer(scene);
  for (let n = 0; n < SLICES; n++) await api.send({ put: slice('shop', `s${n}`, 'x', endpointsOf(n, 0)) });
  await startBackends(scene, [10000]);
  const options = ['--auth', 'none', '--kubeconfig', api.kubeconfig, ...process.argv.slice(2)];
  const helper = await startHelper(scene, options);
  const pid = helperPid(helper);
  const metric = (name: string): number =>
    readMetrics(helper.get('/metrics').text)
      .filter((sample) => sample.name === name)
      .reduce((sum, { value }) => sum + value, 0);
  await until('all names', () => metric('realpod_helper_names') >= SLICES * ENDPOINTS, 30_000);
  const begun = cpuMs(pid);
  console.log('| | resident | CPU |\n| --- | --- | --- |');
  const row = (what: string, cpu: string): void =>
    console.log(`| ${what} | ${megabytes(pid, 'VmRSS')} MB | ${cpu} |`);
  row(`${SLICES * ENDPOINTS} endpoints listed, nobody reads`, `${begun} ms from the start on`);
  const fronts: Nginx[] = [];
  const measure = async (what: string, work: () => Promise<unknown>, requests = 0): Promise<void> => {
    const [cpu, at, seen] = [cpuMs(pid), performance.now(), metric('realpod_helper_records_total')];
    const nginx = workersCpuMs(fronts);
    await work();
    const seconds = (performance.now() - at) / 1000;
    const used = cpuMs(pid) - cpu;
    const perRequest = (ms: number): number => Math.round((ms * 1000) / requests);
    const each =
      requests > 0
        ? `, ${perRequest(used)} µs a request; nginx ${perRequest(workersCpuMs(fronts) - nginx)} µs`
        : '';
    const records = Math.round((metric('realpod_helper_records_total') - seen) / seconds);
    row(`${what} (${records} records/s)`, `${(used / seconds).toFixed(0)} ms/s${each}`);
  };

  for (let i = 0; i < BUSY; i++) {
    const dir = join(scene.dir, `front${i}`);
    const front = await startFront(scene, scene.fronts[i]!, dir, {
      format: FORMATS.full,
      keepalive: true,
      services: ['a'],
    });
    fronts.push(front);
    await startSidecar(scene, scene.fronts[i]!, {
      accessLog: front.accessLog,
      format: FORMATS.full,
      dir: join(dir, 'sidecar'),
      extra: ['--source-address', scene.fronts[i]!.ip],
    });
  }
  await startReaders(scene);
  await measure(`${READERS} readers, no traffic`, () => delay(SECONDS * 1000));
  const total = RATE * SECONDS;
  const traffic = (): Promise<unknown> =>
    Promise.all(
      scene.fronts.slice(0, BUSY).map((front) =>
        load(scene, {
          front,
          connections: 25,
          total: total / BUSY,
          ratePerSecond: RATE / BUSY,
          requests: [{ path: '/a/{n}' }],
        }),
      ),
    );
  await measure('with requests over keepalive', traffic, total);
  await measure(
    `and ${CHANGES_PER_SECOND} slice changes a second`,
    () => Promise.all([traffic(), change(api, SECONDS)]),
    total,
  );
  console.log(
    `\nhighest resident: ${megabytes(pid, 'VmHWM')} MB; gaps: ${metric('realpod_helper_gaps_total')}`,
  );
}

/** `ip netns exec` becomes the program that it starts, so the child is the helper. */
function helperPid({ child }: Program): number {
  return child.pid!;
}

if (!labCanRun()) process.exit(0);
const scene = await createScene({
  pods: 4,
  fronts: READERS,
  services: [{ name: 'a', port: 10000, targetPort: 10000, pods: [0, 1, 2, 3] }],
});
try {
  await run(scene);
} finally {
  await scene.dispose();
}
