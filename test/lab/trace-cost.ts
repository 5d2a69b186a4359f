/**
 * What the source `trace` costs: `npm run bench:trace`. In turns without and with it, nginx is saturated, and the CPU time of each
 * process is divided by its requests. Needs root and what bpf/build.sh needs. `--turns N` (6), `--seconds N` (4) a turn. With
 * `--others` instead what processes pay that have no sidecar: an nginx of the same executable, and a program that calls the kernel.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { readMetrics } from './kit/check.ts';
import { FORMATS } from './kit/formats.ts';
import { type Nginx, startBackends, startFront } from './kit/nginx.ts';
import { DEBIAN } from './kit/nginx-build.ts';
import { countLines, type Program, type Sidecar, startHelper, startSidecar } from './kit/product.ts';
import { labCanRun } from './kit/requirements.ts';
import { writeSection } from './kit/results.ts';
import { createScene, type Scene } from './kit/scene.ts';
import { childPids } from './kit/stage.ts';
import { traceResults } from './kit/trace-witness.ts';
import { saturate } from './kit/traffic.ts';

const SURE_MS = 1_500;
const CALLS = 2_000_000;
/** Long, as the machine is full: what is measured is what lines cost, not how late they are. */
const PATIENT = ['--max-wait', '60s'];

const { values } = parseArgs({
  options: {
    turns: { type: 'string', default: '6' },
    seconds: { type: 'string', default: '4' },
    others: { type: 'boolean', default: false },
  },
});

type Who = 'nginx' | 'backends' | 'helper' | 'loader' | 'sidecar';
type Figures = Record<Who, number> & { requestsPerSecond: number; events: number };

/** CPU time of all threads (µs), by the scheduler's own count (proc_pid_schedstat). */
function cpuUs(pid: number): number {
  return readdirSync(`/proc/${pid}/task`).reduce((sum, thread) => {
    const ns = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'latin1').split(' ')[0];
    return sum + Number(ns) / 1000;
  }, 0);
}

const cpuOfAll = (pids: readonly number[]): number => pids.reduce((sum, pid) => sum + cpuUs(pid), 0);
const resident = (pid: number): string =>
  /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '?';

function median(numbers: readonly number[], digits = 1): string {
  const [least, most] = [Math.min(...numbers), Math.max(...numbers)];
  const sorted = [...numbers].sort((a, b) => a - b);
  const half = sorted.length / 2;
  const middle = (sorted[Math.floor(half)]! + sorted[Math.ceil(half) - 1]!) / 2;
  return `${middle.toFixed(digits)} (${least.toFixed(digits)}–${most.toFixed(digits)})`;
}

interface Turn {
  front: Nginx;
  helper: Program;
  sidecar: Sidecar;
  backends: readonly Nginx[];
}

function workers({ front, backends }: Turn): Record<'nginx' | 'backends', number[]> {
  return {
    nginx: childPids(front.child.pid!),
    backends: backends.flatMap(({ child }) => childPids(child.pid!)),
  };
}

async function measure(scene: Scene, turn: Turn): Promise<Figures> {
  const { helper, sidecar, front } = turn;
  const pids: Record<Who, number[]> = {
    ...workers(turn),
    helper: [helper.child.pid!],
    loader: childPids(helper.child.pid!),
    sidecar: [sidecar.child.pid!],
  };
  const who = Object.keys(pids) as Who[];
  const before = countLines(front.accessLog);
  const used = who.map((name) => cpuOfAll(pids[name]));
  const began = performance.now();
  await saturate(scene, { connections: 100, seconds: Number(values.seconds), path: '/a/same' });
  const seconds = (performance.now() - began) / 1000;
  const lines = countLines(front.accessLog) - before;
  while (countLines(sidecar.output) < before + lines) await delay(50);
  const each = who.map((name, i) => [name, (cpuOfAll(pids[name]) - used[i]!) / lines] as const);
  const events = readMetrics(helper.get('/metrics').text)
    .filter(({ name }) => name === 'realpod_helper_trace_lines_total')
    .reduce((sum, { value }) => sum + value, 0);
  return {
    ...(Object.fromEntries(each) as Record<Who, number>),
    requestsPerSecond: lines / seconds,
    events: events / (before + lines),
  };
}

async function turn(
  scene: Scene,
  backends: readonly Nginx[],
  n: number,
  keepalive: boolean,
  traced: boolean,
): Promise<Figures & { memory: string }> {
  const pod = scene.fronts[0]!;
  const dir = `${scene.dir}/run${n}`;
  const helper = await startHelper(scene, [
    '--auth',
    'none',
    '--sources',
    traced ? 'conntrack,tap,trace' : 'conntrack,tap',
  ]);
  const front = await startFront(scene, pod, dir, {
    services: ['a'],
    format: FORMATS.article,
    withoutIdHeader: true,
    workers: 1,
    keepalive,
    build: DEBIAN,
  });
  const options = { accessLog: front.accessLog, format: FORMATS.article, dir: `${dir}/sidecar` };
  const sidecar = await startSidecar(scene, pod, { ...options, extra: PATIENT });
  try {
    await delay(SURE_MS);
    const figures = await measure(scene, { front, helper, sidecar, backends });
    const loader = childPids(helper.child.pid!)[0];
    const memory = `helper ${resident(helper.child.pid!)} kB${loader ? `, program ${resident(loader)} kB` : ''}`;
    return { ...figures, memory };
  } finally {
    await sidecar.stop();
    await front.stop();
    await helper.stop();
  }
}

async function run(scene: Scene): Promise<void> {
  const backends = await startBackends(scene, [10000]);
  const rows: string[] = [];
  const notes: string[] = [];
  let n = 0;
  for (const keepalive of [true, false]) {
    const figures: Record<'without' | 'with', Figures[]> = { without: [], with: [] };
    for (let i = 0; i < Number(values.turns); i++) {
      for (const traced of [false, true]) {
        const { memory, ...found } = await turn(scene, backends, ++n, keepalive, traced);
        figures[traced ? 'with' : 'without'].push(found);
        if (i === 0) notes.push(`${traced ? 'with' : 'without'} the trace, after a turn: ${memory}`);
        console.error(JSON.stringify({ keepalive, traced, ...found, memory }));
      }
    }
    for (const way of ['without', 'with'] as const) {
      const of = (who: keyof Figures) => median(figures[way].map((each) => each[who]));
      rows.push(
        `| ${keepalive ? 'keepalive' : 'no keepalive'}, ${way} | ${(['nginx', 'backends', 'helper', 'loader', 'sidecar'] as const).map(of).join(' | ')} | ${of('requestsPerSecond')} | ${of('events')} |`,
      );
    }
  }
  const head = '| | nginx | the pods’ nginx | helper | its program | sidecar | requests/s | records a line |';
  const body = [head, '|---|---|---|---|---|---|---|---|', ...rows].join('\n');
  console.log(body);
  writeSection(traceResults, 'cost', `CPU µs a request, one worker, 100 connections\n\n${body}`, notes);
}

/** CPU µs for each of many calls of read and write of one byte. */
function callUs(): number {
  const { stderr } = spawnSync(
    'bash',
    ['-c', `TIMEFORMAT='%U %S'; time dd if=/dev/zero of=/dev/null bs=1 count=${CALLS / 2} status=none`],
    { encoding: 'utf8' },
  );
  const [user = Number.NaN, system = Number.NaN] = stderr.trim().split(' ').map(Number);
  return ((user + system) * 1e6) / CALLS;
}

/** CPU µs a request of a worker whose address nobody subscribed, beside one that is traced. */
async function untracedUs(scene: Scene, other: Nginx): Promise<number> {
  const workers = childPids(other.child.pid!);
  const before = countLines(other.accessLog);
  const used = cpuOfAll(workers);
  const front = scene.fronts[0]!;
  await saturate(scene, { connections: 50, seconds: Number(values.seconds), path: '/a/same', front });
  return (cpuOfAll(workers) - used) / (countLines(other.accessLog) - before);
}

async function runOthers(scene: Scene): Promise<void> {
  await startBackends(scene, [10000]);
  const found = new Map<string, number[]>();
  const add = (what: string, figure: number): void =>
    void found.set(what, [...(found.get(what) ?? []), figure]);
  for (let i = 0; i < Number(values.turns); i++)
    for (const traced of [false, true]) {
      const way = traced ? 'with' : 'without';
      const sources = traced ? 'conntrack,tap,trace' : 'conntrack,tap';
      const helper = await startHelper(scene, ['--auth', 'none', '--sources', sources]);
      const options = { services: ['a'], format: FORMATS.article, withoutIdHeader: true, keepalive: true };
      const [other, front] = await Promise.all(
        scene.fronts.map((pod, k) =>
          startFront(scene, pod, `${scene.dir}/${way}${i}-${k}`, { ...options, build: DEBIAN }),
        ),
      );
      const accessLog = front!.accessLog;
      const dir = `${scene.dir}/${way}${i}-sidecar`;
      const sidecar = await startSidecar(scene, scene.fronts[1]!, {
        accessLog,
        format: FORMATS.article,
        dir,
      });
      try {
        await delay(SURE_MS);
        // So that its worker is known, and the probes are there.
        const pod = scene.fronts[1]!;
        await saturate(scene, { connections: 4, seconds: 1, path: '/a/same', front: pod });
        add(`nginx without a sidecar, ${way}`, await untracedUs(scene, other!));
        add(`a call of the kernel, ${way}`, callUs());
        if (traced && binariesOf(helper) !== 1) throw new Error('nginx is not traced');
      } finally {
        await sidecar.stop();
        await Promise.all([other, front].map((nginx) => nginx!.stop()));
        await helper.stop();
      }
    }
  const rows = [...found].map(([what, figures]) => `| ${what} | ${median(figures, 3)} |`);
  const body = ['| CPU µs | |', '|---|---|', ...rows].join('\n');
  console.log(body);
  writeSection(traceResults, 'cost, others', body, [
    `In turns of ${values.seconds} s, ${values.turns} each; medians (least–most). The nginx proxies as the traced one does, by the same executable.`,
    `The calls are read and write of one byte, ${CALLS.toLocaleString('en')} a turn.`,
  ]);
}

const binariesOf = (helper: Program): number =>
  readMetrics(helper.get('/metrics').text).find(({ name }) => name === 'realpod_helper_trace_binaries')
    ?.value ?? 0;

const BUILD = fileURLToPath(new URL('../../bpf/build.sh', import.meta.url));
if (!labCanRun(['clang:clang', '/usr/include/bpf/bpf_helpers.h:libbpf-dev'])) process.exit(0);
const built = spawnSync('sh', [BUILD], { stdio: 'inherit' });
if (built.status !== 0) process.exit(1);
const scene = await createScene({
  pods: 4,
  fronts: 10,
  services: [{ name: 'a', port: 10000, targetPort: 10000, pods: [0, 1, 2, 3] }],
});
try {
  // BPF sees the processes of all scenes, and those of others have the same addresses: all but the last.
  const last = { ...scene, fronts: scene.fronts.slice(-2) };
  if (values.others) await runOthers(last);
  else await run({ ...last, fronts: last.fronts.slice(-1) });
} finally {
  await scene.dispose();
}
