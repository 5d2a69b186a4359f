import { once } from 'node:events';
import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { until } from './nginx.ts';
import type { Pod, Scene } from './scene.ts';
import { labProgram } from './traffic.ts';

/** Whatever arrives at `server` goes on to `to`, and back. */
function forward(server: Server, to: { path: string } | { port: number; host: string }): void {
  server.on('connection', (near) => {
    const far = connect(to);
    near.pipe(far).pipe(near);
    near.on('error', () => far.destroy());
    far.on('error', () => near.destroy());
  });
}

/**
 * Makes a port of a pod's loopback address reachable from outside of its network namespace, as `kubectl port-forward`
 * does; resolves with the port on this side's loopback address. A Unix socket carries it across: those are found by path,
 * whatever the namespace. Ends with the scene and this process.
 */
export async function forwardPort(scene: Scene, pod: Pod, port: number): Promise<number> {
  const path = join(scene.dir, `${pod.name}-${port}.sock`);
  let listens = false;
  const inner = scene.spawnIn(pod, process.execPath, labProgram('port-forward.ts', path, String(port)), {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  inner.stdout!.once('data', () => {
    listens = true;
  });
  await until(`a way to port ${port} of ${pod.name}`, () => listens || inner.exitCode !== null);
  const server = createServer();
  forward(server, { path });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  server.unref();
  return (server.address() as { port: number }).port;
}

/** The pod's side: `port-forward.ts SOCKET PORT`. */
if (process.argv[1] === new URL(import.meta.url).pathname) {
  const [, , path, port] = process.argv;
  const server = createServer();
  forward(server, { port: Number(port), host: '127.0.0.1' });
  server.listen(path, () => process.stdout.write('listens\n'));
}
