/** Runs a scene of trace-cases.ts and judges it: pods by the output, connections by the helper's own record. */
import { rmSync, statSync, writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { FORMATS } from './formats.ts';
import type { RequestPlan } from './load.ts';
import { FRONT_PORT, startBackends, startFront, until } from './nginx.ts';
import { DEBIAN } from './nginx-build.ts';
import { caughtUp, get, HELPER_PORT } from './product.ts';
import type { Row } from './results.ts';
import type { Bench, Judge } from './scenario.ts';
import { createScene, NODE_IP, type Scene } from './scene.ts';
import { loadModules, njsModule, PROTOCOLS, type TraceCase, type TrafficBench } from './trace-cases.ts';
import { type ByConnection, watchTrace } from './trace-witness.ts';
import { collect, load, startOdd, startProtocols } from './traffic.ts';

/** A second after its beginning the record of the trace counts. */
export const SURE_MS = 1_500;
/** How long the sidecar may take for the last lines. Its limit for one line, and as much again. */
const CATCH_UP_MS = 120_000;
/** Longer than the scenes' `flush=`. */
export const FLUSHED_MS = 1_500;
/** The end of what the sidecar said, where lines were left alone. */
const SAID_BYTES = 2_000;
const ALL = [0, 1, 2, 3];

/**
 * The scene of all cases, with its backends. The caller starts the helper. `fronts`: BPF sees the processes of all scenes on the
 * machine, and those of others have the same addresses, but for the last two of so many.
 */
export async function createTraceScene(fronts = 10): Promise<Scene> {
  const whole = await createScene({
    pods: ALL.length,
    fronts,
    services: [
      { name: 'a', port: 10000, targetPort: 10000, pods: ALL },
      { name: 'solo', port: 10000, targetPort: 10001, pods: [0] },
      { name: 'odd', port: 8000, targetPort: 8000, pods: ALL },
      { name: 'shut', port: 10000, targetPort: 9, pods: ALL },
      { name: 'six', port: 10000, targetPort: 10000, pods: ALL, family: 6 },
      ...Object.entries(PROTOCOLS).map(([name, port]) => ({ name, port, targetPort: port, pods: ALL })),
    ],
  });
  const scene = { ...whole, fronts: whole.fronts.slice(-2) };
  try {
    // Ports come round within seconds, and their events may be read late: the kernel's own times tell the connections apart.
    scene.runIn(scene.node, 'sysctl -qw net.netfilter.nf_conntrack_timestamp=1');
    await startBackends(scene, [10000, 10001]);
    await Promise.all(scene.pods.map((pod) => startOdd(scene, pod, 8000)));
    await startProtocols(scene, PROTOCOLS);
    // What `/a/size/77` answers with, for SSI.
    const page = '<!--# include virtual="/a/one" --> and <!--# include virtual="/odd/two" -->';
    writeFileSync(join(scene.dir, 'files', '77'), page);
    writeFileSync(join(scene.dir, 'asks.js'), njsModule(scene));
    return scene;
  } catch (error) {
    await scene.dispose();
    throw error;
  }
}

export interface Volume {
  /** Requests by the lab's own client, and seconds of other traffic. */
  total: number;
  seconds: number;
  /** Of wrk with the same requests, beside the client: how many. Default none. */
  floodConnections?: number;
  seed?: number;
}

export interface TraceRun {
  row: Row;
  found: ByConnection;
}

/** Over several scenes. */
export function sumOf(runs: readonly TraceRun[]): Record<keyof Omit<ByConnection, 'findings'>, number> {
  const total = { answered: 0, right: 0, wrong: 0, missing: 0, unnamed: 0 };
  for (const { found } of runs)
    for (const key of Object.keys(total) as (keyof typeof total)[]) total[key] += found[key];
  return total;
}

/** Once nginx is traced, and a while longer, for the record to count. */
export async function untilTraced(scene: Scene): Promise<void> {
  const url = `http://${NODE_IP}:${HELPER_PORT}/metrics`;
  await until(
    'nginx to be traced',
    () => /^realpod_helper_trace_binaries [1-9]/m.test(get(scene, scene.fronts[0]!, url).text),
    30_000,
  );
  await delay(SURE_MS);
}

/** What nginx does in the scene, for both ways to run it. */
function frontOf(found: TraceCase, keepalive: boolean) {
  const { locations = '', http = '', options = {} } = found;
  return {
    format: 'article' as const,
    withoutIdHeader: true,
    workers: 4,
    keepalive,
    locations,
    http,
    main: loadModules(found),
    build: DEBIAN,
    services: ['a', 'odd', 'solo', 'six'],
    ...options,
  };
}

async function send(scene: Scene, bench: TrafficBench, found: TraceCase, volume: Volume): Promise<void> {
  const { requests = [], load = {}, traffic } = found;
  const { total, seconds, floodConnections = 0, seed = 1 } = volume;
  const asked = requests.length > 0;
  await Promise.all([
    asked && bench.sentTo({ connections: 40, total, requests, seed, ...load }),
    asked && floodConnections > 0 && flood(scene, bench, requests, { floodConnections, seconds, seed }),
    traffic?.(bench, seconds),
  ]);
}

/** Buffers of the scenes' logs are flushed within `FLUSHED_MS`. */
async function untilFlushed(accessLog: string): Promise<void> {
  let size = -1;
  for (let now = statSync(accessLog).size; now !== size; now = statSync(accessLog).size) {
    size = now;
    await delay(FLUSHED_MS);
  }
}

export async function runTraceCase(
  scene: Scene,
  scenario: Judge['scenario'],
  title: string,
  found: TraceCase,
  keepalive: boolean,
  volume: Volume,
): Promise<TraceRun> {
  let byConnection: ByConnection | undefined;
  let used: string | undefined;
  const row = await scenario(
    title,
    {
      // The machine may be full: each process waits for its turn.
      sidecarArgs: ['--max-wait', '60s'],
      catchUpMs: CATCH_UP_MS,
      warmUp: () => untilTraced(scene),
      ...frontOf(found, keepalive),
    },
    async (bench) => {
      const { accessLog, dir } = bench.front;
      used = dir;
      const watched = watchTrace(scene, scene.fronts[0]!, dir);
      await delay(SURE_MS);
      const from = statSync(accessLog).size;
      // As a request for CPU gives it its share of a full node.
      setPriority(bench.sidecar.child.pid!, -10);
      await send(scene, bench, found, volume);
      if (found.options?.logParameters) await untilFlushed(accessLog);
      await caughtUp(bench.sidecar, CATCH_UP_MS);
      byConnection = await watched.judge(accessLog, from, bench.sidecar.output);
      if (byConnection.unnamed > 0) byConnection.findings.push(bench.sidecar.said().slice(-SAID_BYTES));
    },
  );
  // Logs and records of hundreds of thousands of lines.
  rmSync(used!, { recursive: true, force: true });
  return { row, found: byConnection! };
}

/** The same without a sidecar, for many lines: only the helper's record is judged. */
export async function runConnections(
  scene: Scene,
  found: TraceCase,
  keepalive: boolean,
  volume: Volume,
): Promise<ByConnection> {
  const dir = join(scene.dir, 'connections');
  const pod = scene.fronts[0]!;
  const { format, ...options } = frontOf(found, keepalive);
  const front = await startFront(scene, pod, dir, { ...options, format: FORMATS[format] });
  try {
    const watched = watchTrace(scene, pod, dir);
    await untilTraced(scene);
    await delay(SURE_MS);
    const sentTo: Bench['sentTo'] = async (plan) => void (await load(scene, plan));
    await send(scene, { front, sentTo }, found, volume);
    return await watched.judge(front.accessLog, 0);
  } finally {
    await front.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}

/** The same requests by wrk, which makes many times more of them. */
async function flood(
  scene: Scene,
  { front }: TrafficBench,
  requests: readonly RequestPlan[],
  { floodConnections, seconds, seed }: Required<Omit<Volume, 'total'>>,
): Promise<void> {
  const list = requests
    .filter(({ abortAfterMs, bodyBytes = 0 }) => abortAfterMs === undefined && bodyBytes < 100_000)
    .flatMap(({ path, method = 'GET', bodyBytes = 0, weight = 1 }) =>
      Array.from({ length: weight }, () => `{"${method}", "${path}", ${bodyBytes}}`),
    );
  const script = join(front.dir, 'flood.lua');
  writeFileSync(
    script,
    `math.randomseed(${seed})
local list, n = { ${list.join(', ')} }, 0
request = function()
  n = n + 1
  local it = list[math.random(#list)]
  local path = it[2]:gsub("{n}", n):gsub("{r40}", math.random(40))
  return wrk.format(it[1], path, nil, it[3] > 0 and string.rep("x", it[3]) or nil)
end
`,
  );
  const url = `http://${scene.fronts[0]!.ip}:${FRONT_PORT}`;
  const args = ['-t1', `-c${floodConnections}`, `-d${seconds}s`, '-s', script, url];
  await collect(scene, scene.client, 'wrk', args);
}
