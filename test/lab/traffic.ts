import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { LoadPlan, LoadResult } from './load.ts';
import { FRONT_PORT } from './nginx.ts';
import type { Pod, RunOptions, Scene } from './scene.ts';

/** Arguments that make `node` run one of the lab's own programs. */
export function labProgram(
  name: 'load.ts' | 'odd-backend.ts' | 'cluster-names.ts',
  ...args: string[]
): string[] {
  return ['--import', import.meta.resolve('tsx'), fileURLToPath(new URL(name, import.meta.url)), ...args];
}

/** Starts a program in a pod and resolves with its whole stdout when it ends well. */
export function collect(
  scene: Scene,
  pod: Pod,
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<string> {
  const child = scene.spawnIn(pod, command, args, { ...options, stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout?.setEncoding('utf8').on('data', (piece: string) => {
    text += piece;
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) =>
      code === 0
        ? resolve(text)
        : reject(new Error(`lab: ${command} in ${pod.name} ended with ${code ?? signal}`)),
    );
  });
}

/** Sends a LoadPlan to a front from the client's namespace. */
export async function load(
  scene: Scene,
  plan: Omit<LoadPlan, 'host' | 'port'> & { front?: Pod },
): Promise<LoadResult> {
  const { front = scene.fronts[0]!, ...rest } = plan;
  const whole: LoadPlan = { host: front.ip, port: FRONT_PORT, ...rest };
  const text = await collect(
    scene,
    scene.client,
    process.execPath,
    labProgram('load.ts', JSON.stringify(whole)),
  );
  return JSON.parse(text) as LoadResult;
}

/** Saturates a front for some seconds with wrk. Returns wrk's own report. */
export function saturate(
  scene: Scene,
  options: { connections: number; seconds: number; path: string; front?: Pod },
): Promise<string> {
  const { front = scene.fronts[0]!, connections, seconds, path } = options;
  const url = `http://${front.ip}:${FRONT_PORT}${path}`;
  return collect(scene, scene.client, 'wrk', ['-t1', `-c${connections}`, `-d${seconds}s`, url]);
}

/** Starts the odd backend in a pod; resolves when it listens. `slowestMs`, `failing`: odd-backend.ts, DELAY and FAILING. */
export function startOdd(
  scene: Scene,
  pod: Pod,
  port: number,
  { slowestMs = 0, failing = 0 } = {},
): Promise<void> {
  mkdirSync(join(scene.dir, pod.name), { recursive: true });
  const servedLog = join(scene.dir, pod.name, 'odd-served.log');
  const child = scene.spawnIn(
    pod,
    process.execPath,
    labProgram('odd-backend.ts', String(port), servedLog, String(slowestMs), String(failing)),
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  return new Promise((resolve, reject) => {
    child.stdout?.once('data', () => resolve());
    child.once('exit', (code) => reject(new Error(`lab: the odd backend in ${pod.name} ended with ${code}`)));
  });
}
