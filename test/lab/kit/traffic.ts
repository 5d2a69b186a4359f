import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { LoadPlan, LoadResult } from './load.ts';
import { FRONT_PORT, PATIENCE } from './nginx.ts';
import type { RawResult, Session } from './raw.ts';
import type { Pod, RunOptions, Scene } from './scene.ts';

type LabProgram =
  | 'load.ts'
  | 'odd-backend.ts'
  | 'protocol-backend.ts'
  | 'both-backend.ts'
  | 'raw.ts'
  | 'api-server.ts'
  | 'port-forward.ts';

/** The lab may be compiled (vm/compiled.ts). */
const COMPILED = import.meta.url.endsWith('.js');

/** Arguments that make `node` run one of the lab's own programs. */
export function labProgram(name: LabProgram, ...args: string[]): string[] {
  const file = fileURLToPath(new URL(COMPILED ? name.replace(/ts$/, 'js') : name, import.meta.url));
  return [...(COMPILED ? [] : ['--import', import.meta.resolve('tsx')]), file, ...args];
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
  plan: Omit<LoadPlan, 'host' | 'port'> & { front?: Pod; port?: number },
): Promise<LoadResult> {
  const { front = scene.fronts[0]!, ...rest } = plan;
  const whole: LoadPlan = { host: front.ip, port: FRONT_PORT, limitMs: 60_000 * PATIENCE, ...rest };
  const text = await collect(
    scene,
    scene.client,
    process.execPath,
    labProgram('load.ts', JSON.stringify(whole)),
  );
  return JSON.parse(text) as LoadResult;
}

/** Plays sessions of raw bytes against a front from the client's namespace. */
export async function attack(
  scene: Scene,
  sessions: readonly Session[],
  front: Pod = scene.fronts[0]!,
): Promise<RawResult> {
  const script = join(scene.dir, 'sessions.json');
  writeFileSync(script, JSON.stringify(sessions));
  const args = [process.execPath, ...labProgram('raw.ts', front.ip, String(FRONT_PORT))];
  // Megabytes of bytes to send are no argument of a command.
  const text = await collect(scene, scene.client, 'sh', ['-c', 'exec "$@" < "$0"', script, ...args]);
  return JSON.parse(text) as RawResult;
}

/** Saturates a front for some seconds with wrk. Returns wrk's own report. `bodyBytes`: of a POST; without it the requests are GET. */
export function saturate(
  scene: Scene,
  options: { connections: number; seconds: number; path: string; front?: Pod; bodyBytes?: number },
): Promise<string> {
  const { front = scene.fronts[0]!, connections, seconds, path, bodyBytes } = options;
  const url = `http://${front.ip}:${FRONT_PORT}${path}`;
  const script = join(scene.dir, `upload-${bodyBytes}.lua`);
  if (bodyBytes !== undefined)
    writeFileSync(script, `wrk.method = "POST"\nwrk.body = string.rep("x", ${bodyBytes})\n`);
  const post = bodyBytes === undefined ? [] : ['-s', script];
  return collect(scene, scene.client, 'wrk', ['-t1', `-c${connections}`, `-d${seconds}s`, ...post, url]);
}

/** Starts the odd backend in a pod; resolves when it listens. `slowestMs`, `failing`: odd-backend.ts, DELAY and FAILING. */
export function startOdd(
  scene: Scene,
  pod: Pod,
  port: number,
  { slowestMs = 0, failing = 0 } = {},
): Promise<void> {
  const log = podLog(scene, pod, 'odd-served.log');
  return startBackend(scene, pod, 'odd-backend.ts', [String(port), log, String(slowestMs), String(failing)]);
}

/** Starts the backend of HTTP/1 and HTTP/2 on one port in every pod; resolves when all listen. */
export async function startBoth(scene: Scene, port: number): Promise<void> {
  await Promise.all(
    scene.pods.map((pod) =>
      startBackend(scene, pod, 'both-backend.ts', [String(port), podLog(scene, pod, 'both-served.log')]),
    ),
  );
}

export interface ProtocolPorts {
  fastcgi: number;
  uwsgi: number;
  grpc: number;
  https: number;
}

/** Starts the backends of other protocols in every pod; resolves when they listen. */
export async function startProtocols(scene: Scene, ports: ProtocolPorts): Promise<void> {
  scene.runIn(
    scene.node,
    `cd ${scene.dir} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=lab -keyout key.pem -out cert.pem 2>/dev/null`,
  );
  const { fastcgi, uwsgi, grpc, https } = ports;
  const numbers = [fastcgi, uwsgi, grpc, https].map(String);
  await Promise.all(
    scene.pods.map((pod) =>
      startBackend(scene, pod, 'protocol-backend.ts', [
        ...numbers,
        podLog(scene, pod, 'protocol-served.log'),
        scene.dir,
      ]),
    ),
  );
}

function podLog(scene: Scene, pod: Pod, name: string): string {
  mkdirSync(join(scene.dir, pod.name), { recursive: true });
  return join(scene.dir, pod.name, name);
}

function startBackend(scene: Scene, pod: Pod, program: LabProgram, args: readonly string[]): Promise<void> {
  const child = scene.spawnIn(pod, process.execPath, labProgram(program, ...args), {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return new Promise((resolve, reject) => {
    child.stdout?.once('data', () => resolve());
    child.once('exit', (code) => reject(new Error(`lab: ${program} in ${pod.name} ended with ${code}`)));
  });
}
