import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** The namespace of everything that the suite looks at, but the helper. */
export const NAMESPACE = 'realpod-example';
/** How kubectl is called; the cluster is the one that it, or KUBECONFIG, names. */
const KUBECTL = (process.env.REALPOD_CLUSTER_KUBECTL ?? 'kubectl').split(' ');
const CALL_MS = 120_000;

/** Rejects with what kubectl printed. */
export function kubectl(...args: string[]): Promise<string> {
  const [program, ...first] = KUBECTL;
  return new Promise((resolve, reject) => {
    const options = { timeout: CALL_MS, maxBuffer: 256 * 1024 * 1024 };
    execFile(program!, [...first, ...args], options, (error, stdout, stderr) => {
      if (error) reject(new Error(`kubectl ${args.join(' ')}: ${stderr || error.message}`));
      else resolve(stdout);
    });
  });
}

/** The same in the suite's namespace. */
export const inNamespace = (...args: string[]): Promise<string> => kubectl('-n', NAMESPACE, ...args);

/** `kubectl apply` of a manifest's text. */
export async function apply(text: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'realpod-cluster-'));
  try {
    writeFileSync(join(folder, 'manifest.yaml'), text);
    await kubectl('apply', '-f', join(folder, 'manifest.yaml'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Follows a container's log; `onLine` gets whole lines. Resolves when the stream ends, which a new one may go on from. */
export function follow(pod: string, container: string, onLine: (line: string) => void): Promise<void> {
  const [program, ...first] = KUBECTL;
  const args = [...first, '-n', NAMESPACE, 'logs', '-f', pod, '-c', container];
  return new Promise((resolve) => {
    const child = spawn(program!, args, { stdio: ['ignore', 'pipe', 'ignore'], detached: true });
    following.add(child.pid!);
    let rest = '';
    child.stdout.setEncoding('utf8');
    child.stdout.on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop()!;
      for (const line of lines) onLine(line);
    });
    child.on('close', () => {
      following.delete(child.pid!);
      resolve();
    });
  });
}

const following = new Set<number>();

/** Ends every stream that `follow` started, each a process group of its own. */
export function endFollowing(): void {
  for (const pid of following) process.kill(-pid);
}

/** Runs a shell command that the environment gives, such as one that stops the API server. */
export function shell(command: string): Promise<void> {
  return new Promise((resolve, reject) => {
    spawn('/bin/sh', ['-c', command], { stdio: ['ignore', 'inherit', 'inherit'] }).on('close', (code) => {
      if (code === 0) resolve();
      else reject(new Error(`${command}: exit code ${code}`));
    });
  });
}

/** Waits until `condition` holds; rejects after `limitMs`. */
export async function until(what: string, condition: () => Promise<boolean> | boolean, limitMs = 120_000) {
  const end = performance.now() + limitMs;
  while (performance.now() < end) {
    if (await condition()) return;
    await delay(200);
  }
  throw new Error(`waited ${limitMs / 1000} s in vain: ${what}`);
}
