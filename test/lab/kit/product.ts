import type { ChildProcess } from 'node:child_process';
import { closeSync, existsSync, fstatSync, mkdirSync, openSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { countBy, readMetrics } from './check.ts';
import { FRONT_PORT, PATIENCE, until } from './nginx.ts';
import { endChild, NODE_IP, type Pod, type Scene } from './scene.ts';

/** REALPOD_LAB_CLI names another build to judge. */
export const CLI =
  process.env.REALPOD_LAB_CLI ?? fileURLToPath(new URL('../../../dist/cli.js', import.meta.url));
export const HELPER_PORT = 9797;
export const SIDECAR_PORT = 9798;

export interface Answer {
  /** 0 when nothing answered. */
  status: number;
  text: string;
}

/** An HTTP GET from inside a pod. */
export function get(scene: Scene, from: Pod, url: string): Answer {
  // The script never fails: a refused connection is an answer here.
  const text = scene.runIn(from, `curl -sg -m 5 -w '\\n%{http_code}' '${url}' || true`);
  const end = text.lastIndexOf('\n');
  return { status: Number(text.slice(end + 1)), text: text.slice(0, end) };
}

export interface Program {
  child: ChildProcess;
  /** Everything it said on stderr. */
  said(): string;
  get(path: string): Answer;
  stop(): Promise<number | null>;
}

function start(
  scene: Scene,
  pod: Pod,
  name: string,
  args: string[],
  base: string,
  powerless: boolean,
  cli = CLI,
): Program {
  if (!existsSync(cli)) throw new Error(`lab: ${cli} is missing; run \`npm run build\` first`);
  const errors = join(scene.dir, `${name}.stderr`);
  const file = openSync(errors, 'a');
  const child = scene.spawnIn(pod, process.execPath, [cli, ...args], {
    powerless,
    stdio: ['ignore', 'ignore', file],
  });
  closeSync(file);
  return {
    child,
    said: () => readFileSync(errors, 'utf8'),
    get: (path) => get(scene, pod, base + path),
    stop: () => endChild(child),
  };
}

async function answering(program: Program, name: string): Promise<Program> {
  try {
    await until(`${name} to answer /healthz`, () => {
      if (program.child.exitCode !== null || program.child.signalCode !== null)
        throw new Error(
          `lab: ${name} ended with ${program.child.exitCode ?? program.child.signalCode}: ${program.said()}`,
        );
      return program.get('/healthz').status === 200;
    });
  } catch (error) {
    // It would keep its port, and every scene after this one would fail by it.
    await endChild(program.child);
    throw error;
  }
  return program;
}

/** Starts the node helper in the node's namespace. `cli`: of another build. */
export function startHelper(scene: Scene, extra: readonly string[] = [], cli?: string): Promise<Program> {
  const base = `http://${NODE_IP}:${HELPER_PORT}`;
  const args = ['helper', '--listen', `${NODE_IP}:${HELPER_PORT}`, '--auth', 'source-ip', ...extra];
  return answering(start(scene, scene.node, 'helper', args, base, false, cli), 'the helper');
}

export interface SidecarOptions {
  accessLog: string;
  /** `--log-format`. */
  format: string;
  /** Its own directory, below the scene's. */
  dir: string;
  extra?: readonly string[];
  /** Several sidecars may run in one pod. */
  port?: number;
  /** Of another build. */
  cli?: string | undefined;
}

export interface Sidecar extends Program {
  accessLog: string;
  output: string;
  counts(): { evidence: Record<string, number>; reasons: Record<string, number> };
}

/** Starts a sidecar in an nginx pod, without any capability. */
export async function startSidecar(scene: Scene, pod: Pod, options: SidecarOptions): Promise<Sidecar> {
  mkdirSync(options.dir, { recursive: true });
  const output = join(options.dir, 'enriched.log');
  const listen = `127.0.0.1:${options.port ?? SIDECAR_PORT}`;
  const args = [
    'sidecar',
    '--access-log',
    options.accessLog,
    '--log-format',
    options.format,
    '--output',
    output,
  ];
  args.push(
    '--helper',
    `http://${NODE_IP}:${HELPER_PORT}`,
    '--listen',
    listen,
    '--state',
    join(options.dir, 'state'),
  );
  args.push(...(options.extra ?? []));
  const name = options.dir.slice(scene.dir.length + 1).replaceAll('/', '-');
  const program = start(scene, pod, name, args, `http://${listen}`, true, options.cli);
  const sidecar: Sidecar = {
    ...program,
    accessLog: options.accessLog,
    output,
    counts() {
      const samples = readMetrics(program.get('/metrics').text);
      return { evidence: countBy(samples, 'evidence'), reasons: countBy(samples, 'reason') };
    },
  };
  await answering(sidecar, 'the sidecar');
  return sidecar;
}

/** In pieces: after a long soak the file is larger than a buffer can be. */
export function countLines(path: string): number {
  if (!existsSync(path)) return 0;
  const file = openSync(path, 'r');
  try {
    const piece = Buffer.alloc(1 << 20);
    let count = 0;
    for (let read = readSync(file, piece); read > 0; read = readSync(file, piece)) {
      const bytes = piece.subarray(0, read);
      for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, at + 1)) count++;
    }
    return count;
  } finally {
    closeSync(file);
  }
}

/** Waits until the sidecar has written as many lines as nginx has. */
export async function caughtUp(sidecar: Sidecar, limitMs = 15_000): Promise<void> {
  const end = performance.now() + limitMs * PATIENCE;
  let written = 0;
  let wanted = 0;
  while (performance.now() < end) {
    wanted = countLines(sidecar.accessLog);
    written = countLines(sidecar.output);
    if (written >= wanted) return;
    if (sidecar.child.exitCode !== null) break;
    await delay(50);
  }
  throw new Error(
    `lab: the sidecar wrote ${written} of ${wanted} lines within ${limitMs} ms; it says: ${sidecar.said()}`,
  );
}

/** The youngest line of a file, which may be longer than a string can be. */
function lastLine(path: string): string {
  const file = openSync(path, 'r');
  try {
    const { size } = fstatSync(file);
    const tail = Buffer.alloc(Math.min(size, 65_536));
    readSync(file, tail, 0, tail.length, size - tail.length);
    return tail.toString('utf8').trimEnd().split('\n').at(-1) ?? '';
  } finally {
    closeSync(file);
  }
}

/**
 * Sends single requests to the one-backend Service `solo` until the enriched log names its pod: from then on the
 * sidecar has the helper's whole record. Needs the location `/solo/` in the front.
 */
export async function untilExact(scene: Scene, sidecar: Sidecar, pod: Pod): Promise<void> {
  const { ip } = scene.pods[scene.service('solo').pods[0]!]!;
  for (let n = 0; n < 100 * PATIENCE; n++) {
    get(scene, scene.client, `http://${pod.ip}:${FRONT_PORT}/solo/probe`);
    await delay(100);
    const last = lastLine(sidecar.output);
    if (!last.includes(` ${ip}:`) || !last.includes('/solo/probe')) continue;
    // The order of answers names lines before the record is long enough for anything else.
    const { evidence } = sidecar.counts();
    if (Object.keys(evidence).some((name) => name !== 'only-answer' && evidence[name]! > 0))
      return caughtUp(sidecar);
  }
  throw new Error(
    `lab: no probe was resolved within 10 s; counters: ${JSON.stringify(sidecar.counts())}; the sidecar says: ${sidecar.said()}`,
  );
}
