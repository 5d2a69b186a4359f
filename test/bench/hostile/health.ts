/** Asks /healthz again and again, in a process of its own: the load's own delays are not the sidecar's. */
import { fork } from 'node:child_process';
import { Agent, get } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const EVERY_MS = 50;

/** `stop` resolves with the longest answer (ms). */
export function watchHealth(port: number): { stop(): Promise<number> } {
  const child = fork(fileURLToPath(import.meta.url), [String(port)]);
  return {
    stop: () =>
      new Promise((resolve, reject) => {
        child.once('message', (most: number) => resolve(most));
        child.once('exit', () => reject(new Error('/healthz could not be asked')));
        child.send('stop');
      }),
  };
}

async function ask(port: number): Promise<number> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  let stopped = false;
  process.once('message', () => {
    stopped = true;
  });
  let most = 0;
  while (!stopped) {
    const begun = performance.now();
    await new Promise<void>((resolve, reject) =>
      get({ host: '127.0.0.1', port, path: '/healthz', agent }, (response) =>
        response.resume().once('end', resolve),
      ).once('error', reject),
    );
    most = Math.max(most, performance.now() - begun);
    await delay(EVERY_MS);
  }
  agent.destroy();
  return most;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.send!(await ask(Number(process.argv[2])));
  process.disconnect();
}
