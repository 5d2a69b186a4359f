import type { ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { DEBIAN, type NginxBuild, nginxUnderTest } from './nginx-build.ts';
import { endChild, type Pod, type Scene } from './scene.ts';

export const FRONT_PORT = 8080;

export interface Nginx {
  child: ChildProcess;
  dir: string;
  accessLog: string;
  /** `reopen` makes it reopen its logs (USR1), `reload` read its configuration again (HUP). */
  signal(what: 'reopen' | 'reload'): void;
  stop(): Promise<void>;
}

/** Makes all of the lab's limits longer, for machines that are slow or do other work too, as those of CI may. */
export const PATIENCE = Number(process.env.REALPOD_LAB_PATIENCE ?? (process.env.CI ? 3 : 1));

/** Polls `done` until it holds. Throws `what` after `limitMs`. */
export async function until(what: string, done: () => boolean, limitMs = 10_000): Promise<void> {
  const patienceMs = limitMs * PATIENCE;
  const end = performance.now() + patienceMs;
  while (!done()) {
    if (performance.now() > end) throw new Error(`lab: gave up after ${patienceMs} ms waiting for ${what}`);
    await delay(10);
  }
}

/** Starts nginx with the given `http { … }` content in a pod, in the foreground, and waits until it listens. */
export async function startNginx(
  scene: Scene,
  pod: Pod,
  dir: string,
  options: { workers: number; http: string; main?: string; build?: NginxBuild; env?: NodeJS.ProcessEnv },
): Promise<Nginx> {
  mkdirSync(dir, { recursive: true });
  const conf = join(dir, 'nginx.conf');
  const pidFile = join(dir, 'nginx.pid');
  const errorLog = join(dir, 'error.log');
  const temp = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((kind) => `  ${kind}_temp_path ${join(dir, `tmp-${kind}`)};`)
    .join('\n');
  writeFileSync(
    conf,
    `user root;
worker_processes ${options.workers};
worker_rlimit_nofile 16384;
pid ${pidFile};
error_log ${errorLog} warn;
${options.main ?? ''}
events { worker_connections 4096; }
http {
${temp}
  keepalive_requests 100000000;
${options.http}
}
`,
  );
  const { command } = options.build ?? DEBIAN;
  const args = ['-p', dir, '-e', errorLog, '-c', conf, '-g', 'daemon off;'];
  const child = scene.spawnIn(pod, command, args, options.env ? { env: options.env } : {});
  await until(`nginx in ${pod.name}`, () => {
    if (child.exitCode !== null)
      throw new Error(`lab: nginx in ${pod.name} ended: ${readFileSync(errorLog, 'utf8').trim()}`);
    return existsSync(pidFile) && readFileSync(pidFile, 'utf8').trim() !== '';
  });
  return {
    child,
    dir,
    accessLog: join(dir, 'access.log'),
    signal: (what) => void child.kill(what === 'reopen' ? 'SIGUSR1' : 'SIGHUP'),
    stop: async () => {
      await endChild(child);
    },
  };
}

export interface FrontOptions {
  /** Text of the log_format. */
  format: string;
  escape?: 'default' | 'json' | 'none';
  workers?: number;
  /** Upstream keepalive, with HTTP/1.1. Off: a connection a request, HTTP/1.0, as nginx before 1.29.7 does by default. */
  keepalive?: boolean;
  /** An upstream connection is given up after so many requests. Default: never. */
  keepaliveRequests?: number;
  /** Names of the Services to proxy to; `/NAME/…` goes to the Service NAME. */
  services: readonly string[];
  /** Locations of a scenario's own, put before the ones for the Services. */
  locations?: string;
  /** Added to `http { }`. */
  http?: string;
  /** Added beside `http { }`. */
  main?: string;
  /** Parameters of access_log, such as `buffer=32k flush=1s`. */
  logParameters?: string;
  /** Environment of nginx, added to the lab's. */
  env?: NodeJS.ProcessEnv;
  /** Leave out `proxy_set_header X-Request-ID`. */
  withoutIdHeader?: boolean;
  /** Default: the build that REALPOD_NGINX names. */
  build?: NginxBuild;
}

const quote = (text: string) => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;

/** `http { }` content of the nginx under test. The upstream group of the Service `a` is `svc_a`. */
export function frontHttp(scene: Scene, dir: string, options: FrontOptions): string {
  const groups = options.services.map((name) => {
    // The port in a line is believed by several ports, and `untilExact` sends one request after the other.
    const requests = name === 'solo' ? 2 : (options.keepaliveRequests ?? 100_000_000);
    const keep = options.keepalive ? ` keepalive 256; keepalive_requests ${requests};` : '';
    return `  upstream svc_${name} { server ${scene.service(name).address};${keep} }`;
  });
  const locations = options.services.map(
    (name) => `    location /${name}/ { proxy_pass http://svc_${name}; }`,
  );
  return `
  log_format lab escape=${options.escape ?? 'default'} ${quote(options.format)};
  access_log ${join(dir, 'access.log')} lab ${options.logParameters ?? ''};
  client_max_body_size 64m;
  large_client_header_buffers 8 64k;
  proxy_http_version ${options.keepalive ? '1.1' : '1.0'};
  ${options.keepalive ? 'proxy_set_header Connection "";' : ''}
  ${options.withoutIdHeader ? '' : 'proxy_set_header X-Request-ID $request_id;'}
${options.http ?? ''}
${groups.join('\n')}
  server {
    listen ${FRONT_PORT} backlog=4096;
    listen [::]:${FRONT_PORT} ipv6only=on backlog=4096;
${options.locations ?? ''}
${locations.join('\n')}
  }`;
}

export async function startFront(scene: Scene, pod: Pod, dir: string, options: FrontOptions): Promise<Nginx> {
  const http = frontHttp(scene, dir, options);
  const { main, env, workers = 1, build = nginxUnderTest() } = options;
  const more = { ...(main === undefined ? {} : { main }), ...(env ? { env } : {}) };
  return startNginx(scene, pod, dir, { workers, http, build, ...more });
}

/** Sizes in bytes that `…/size/N` serves. */
export const SIZES = [0, 1, 40, 512, 1000, 4096, 20_000, 65_536, 1_048_576] as const;

/** Who answers, in headers that fronts log. */
const SAY_WHO =
  'add_header X-Pod-Ip $server_addr always; add_header X-Pod-Port $server_port always; add_header X-Client-Port $remote_port always;';

/**
 * The fast backend: a real nginx that says in headers who it is and which port it was called from. `…/size/N` answers
 * with N bytes, `…/status/N` with that status, `…/rate/N` with 64 KiB at N bytes/s, `/accel/NAME/…` with an X-Accel-Redirect
 * to `/NAME/accel/NAME/…`, all else with a short text.
 * Its own log keeps `ID IP:PORT CLIENT:PORT METHOD URI SECONDS TOOK` for requests whose answer never got to the front.
 */
function backendHttp(dir: string, files: string, ports: readonly number[]): string {
  const listen = ports.map(
    (port) => `    listen ${port} backlog=4096;\n    listen [::]:${port} ipv6only=on backlog=4096;`,
  );
  const statuses = [201, 204, 301, 404, 429, 500, 503];
  return `
  default_type text/plain;
  log_format truth '$http_x_request_id $server_addr:$server_port $remote_addr:$remote_port $request_method $request_uri $msec $request_time';
  access_log ${join(dir, 'served.log')} truth buffer=64k flush=200ms;
  client_max_body_size 64m;
  large_client_header_buffers 8 64k;
  server {
${listen.join('\n')}
    ${SAY_WHO}
    location ~ ^/accel/(?<name>[^/]+)/ {
      ${SAY_WHO}
      add_header X-Accel-Redirect /$name$request_uri;
      return 200;
    }
    location / { return 200 "a short answer, forty bytes with newline\\n"; }
    location ~ /size/(?<bytes>[0-9]+)$ { alias ${files}/$bytes; error_page 405 =200 $uri; }
    location ~ /rate/(?<rate>[0-9]+)$ { alias ${files}/65536; limit_rate $rate; }
${statuses.map((code) => `    location ~ /status/${code}$ { return ${code}; }`).join('\n')}
  }`;
}

/** Starts the fast backend in these pods, on these ports. Default: in every pod of the scene. */
export async function startBackends(
  scene: Scene,
  ports: readonly number[],
  pods: readonly Pod[] = scene.pods,
): Promise<Nginx[]> {
  const files = join(scene.dir, 'files');
  mkdirSync(files, { recursive: true });
  for (const size of SIZES) writeFileSync(join(files, String(size)), Buffer.alloc(size, 'x'));
  return Promise.all(
    pods.map((pod) => {
      const dir = join(scene.dir, pod.name);
      return startNginx(scene, pod, dir, { workers: 1, http: backendHttp(dir, files, ports) });
    }),
  );
}
