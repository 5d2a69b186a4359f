import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { ApiCommand } from './api-server.ts';
import { type Nginx, startNginx } from './nginx.ts';
import type { Pod, Scene } from './scene.ts';
import { labProgram } from './traffic.ts';

export interface ApiServer {
  kubeconfig: string;
  pid: number;
  /** Carries out one command; resolves with its answer, which for `issue` is the token. */
  send(command: ApiCommand): Promise<string>;
}

/** Starts the API server's stand-in on the node. */
export async function startApiServer(scene: Scene): Promise<ApiServer> {
  const kubeconfig = join(scene.dir, 'kubeconfig');
  const child = scene.spawnIn(scene.node, process.execPath, labProgram('api-server.ts', kubeconfig), {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const answers = createInterface(child.stdout!)[Symbol.asyncIterator]();
  const next = async (): Promise<string> => {
    const { value, done } = await answers.next();
    if (done) throw new Error('lab: the API server’s stand-in ended');
    return JSON.parse(value) as string;
  };
  await next();
  return {
    kubeconfig,
    pid: child.pid!,
    send(command) {
      child.stdin!.write(`${JSON.stringify(command)}\n`);
      return next();
    },
  };
}

/** A backend that says in headers what its pod is called. */
export function startNamed(scene: Scene, where: Pod, name: string, port: number): Promise<Nginx> {
  const dir = join(scene.dir, name);
  const http = `
  access_log off;
  server {
    listen ${port} reuseport backlog=4096;
    listen [::]:${port} ipv6only=on reuseport backlog=4096;
    add_header X-Pod-Name ${name} always;
    add_header X-Pod-Ip $server_addr always;
    add_header X-Pod-Port $server_port always;
    add_header X-Client-Port $remote_port always;
    location / { return 200 "from ${name}\\n"; }
  }`;
  return startNginx(scene, where, dir, { workers: 1, http });
}
