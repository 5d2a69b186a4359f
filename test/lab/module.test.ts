/**
 * nginx-module/: `$upstream_local_port` in Debian's nginx, and lines named by it. Needs the package nginx-dev, or in
 * NGINX_SOURCE the directory of the same source; a compiler finds further headers and libraries by CPATH and LIBRARY_PATH.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { LoadPlan } from './kit/load.ts';
import { startBackends } from './kit/nginx.ts';
import { DEBIAN } from './kit/nginx-build.ts';
import { startHelper } from './kit/product.ts';
import { labCanRun } from './kit/requirements.ts';
import { writeResults } from './kit/results.ts';
import { assertResolved, type Judge, judge, type ScenarioOptions } from './kit/scenario.ts';
import { createScene, type Scene } from './kit/scene.ts';
import { startOdd, startProtocols } from './kit/traffic.ts';

const SOURCE = process.env.NGINX_SOURCE ?? '/usr/share/nginx/src';
const BUILD = fileURLToPath(new URL('../../nginx-module/build.sh', import.meta.url));
const ALL = [0, 1, 2, 3];
const PROTOCOLS = { fastcgi: 9000, uwsgi: 9001, grpc: 9002, https: 8443 };
const built = mkdtempSync(join(tmpdir(), 'realpod-module-'));
const module = join(built, 'local_port.so');

function build(): string | undefined {
  if (!existsSync(join(SOURCE, 'configure'))) return `no nginx source in ${SOURCE} (Debian's nginx-dev)`;
  const { status, stderr } = spawnSync('sh', [BUILD, SOURCE, module], { encoding: 'utf8' });
  return status === 0 ? undefined : `nginx-module does not build: ${stderr.trim().split('\n').at(-1)}`;
}

interface Case {
  requests: LoadPlan['requests'];
  locations?: string;
  http?: string;
  options?: Partial<ScenarioOptions>;
  /** Share of the attempts that the port settles. Default 0.98: one that comes round within a minute may settle none. */
  byPort?: number;
}

describe('the upstream’s local port, by the module', {
  skip: !labCanRun(['openssl:openssl'], build),
  concurrency: false,
  timeout: 600_000,
}, () => {
  let scene: Scene;
  let scenario: Judge['scenario'];
  const rows: Judge['rows'] = [];

  before(async () => {
    scene = await createScene({
      pods: 4,
      services: [
        { name: 'a', port: 10000, targetPort: 10000, pods: ALL },
        { name: 'solo', port: 10000, targetPort: 10001, pods: [0] },
        { name: 'odd', port: 8000, targetPort: 8000, pods: ALL },
        { name: 'shut', port: 10000, targetPort: 9, pods: ALL },
        ...Object.entries(PROTOCOLS).map(([name, port]) => ({ name, port, targetPort: port, pods: ALL })),
      ],
    });
    await startBackends(scene, [10000, 10001]);
    await Promise.all(scene.pods.map((pod) => startOdd(scene, pod, 8000)));
    await startProtocols(scene, PROTOCOLS);
    await startHelper(scene);
    ({ scenario } = judge(scene, rows));
  });
  after(async () => {
    await scene?.dispose();
    rmSync(built, { recursive: true });
    writeResults('module', rows);
  });

  const group = (name: string, keepalive: boolean, ...services: string[]) => {
    const servers = services.map((service) => `server ${scene.service(service).address} max_fails=0;`);
    return `upstream ${name} { ${servers.join(' ')} ${keepalive ? 'keepalive 64;' : ''} }`;
  };

  function run(name: string, make: (keepalive: boolean) => Case, ways = [false, true]): void {
    for (const keepalive of ways) {
      const title = `${name}, ${keepalive ? 'keepalive' : 'no keepalive'}`;
      test(title, async () => {
        const { requests, locations = '', http = '', options = {}, byPort = 0.98 } = make(keepalive);
        const row = await scenario(
          title,
          {
            format: 'ports',
            keepalive,
            locations,
            http,
            main: `load_module ${module};`,
            build: DEBIAN,
            services: ['a', 'odd', 'solo'],
            sidecarArgs: ['--local-port-field', 'upstream_local_port'],
            ...options,
          },
          async (bench) => {
            await bench.sentTo({ connections: 20, total: 1500, requests });
            assertInStep(readFileSync(bench.front.accessLog, 'latin1'));
          },
        );
        assertResolved(row, 'source-port', byPort);
      });
    }
  }

  run('HTTP/1', () => ({
    requests: [
      { path: '/a/{n}', weight: 3 },
      { path: '/a/form/{n}', method: 'POST', bodyBytes: 3_000 },
    ],
  }));
  run('no id on the wire', () => ({ requests: [{ path: '/a/same' }], options: { withoutIdHeader: true } }));
  run('attempts that are tried again', (keepalive) => ({
    http: `${group('again', keepalive, 'odd', 'odd', 'odd')} ${group('refused', keepalive, 'shut', 'odd')}`,
    locations: `
      location /again/ { proxy_next_upstream http_503 error timeout; proxy_pass http://again; }
      location /refused/ { proxy_pass http://refused; }`,
    requests: [
      { path: '/again/{n}?chance=40&status=503' },
      { path: '/again/{n}?chance=40&do=reset' },
      { path: '/refused/{n}' },
    ],
    // A refused attempt has the port that it was refused on; conntrack may not have seen it.
    byPort: 0.9,
  }));
  run('internal redirects', () => ({
    locations: `
      location /fallback/ { proxy_intercept_errors on; error_page 503 = @same; proxy_pass http://svc_odd; }
      location @same { proxy_pass http://svc_odd; }`,
    requests: [{ path: '/fallback/{n}?chance=50&status=503' }],
  }));
  run('subrequests', () => ({
    locations: `
      location /both/ { auth_request /second; proxy_pass http://svc_a; }
      location = /second { internal; proxy_pass_request_body off; proxy_set_header Content-Length ""; proxy_pass http://svc_odd/second; }`,
    requests: [{ path: '/both/{n}' }],
  }));
  run(
    'an address that is known at run time only',
    () => ({
      locations: `location /later/ { set $to ${scene.service('a').address}; proxy_pass http://$to; }`,
      requests: [{ path: '/later/{n}' }],
    }),
    [false],
  );
  run('clients that leave', () => ({
    requests: [
      { path: '/odd/{n}?delay=300', abortAfterMs: 60 },
      { path: '/odd/{n}?delay=20', weight: 2 },
    ],
    byPort: 0.9,
  }));
  const others = `
    location /fastcgi/ { fastcgi_param REQUEST_METHOD $request_method; fastcgi_param REQUEST_URI $request_uri; fastcgi_pass svc_fastcgi; }
    location /uwsgi/ { uwsgi_param REQUEST_METHOD $request_method; uwsgi_param REQUEST_URI $request_uri; uwsgi_param CONTENT_LENGTH $content_length; uwsgi_pass svc_uwsgi; }
    location /grpc/ { grpc_pass grpc://svc_grpc; }
    location /https/ { proxy_pass https://svc_https; }`;
  for (const name of Object.keys(PROTOCOLS))
    run(
      `${name}_pass`,
      (keepalive) => ({
        locations: others,
        http: Object.keys(PROTOCOLS)
          .map((service) => group(`svc_${service}`, keepalive, service))
          .concat(keepalive ? 'fastcgi_keep_conn on;' : '')
          .join(' '),
        requests: [
          { path: `/${name}/{n}`, weight: 3 },
          { path: `/${name}/{n}`, method: 'POST', bodyBytes: 3_000 },
        ],
      }),
      name === 'uwsgi' ? [false] : [false, true],
    );
});

/** Each line has as many ports as addresses, with the same separators. */
function assertInStep(log: string): void {
  for (const line of log.trimEnd().split('\n')) {
    const [, addresses] =
      / \d{3} ((?:[\d.]+:\d+|svc_\w+|again|refused)(?:(?:, | : )(?:[\d.]+:\d+|again|refused))*) /.exec(
        line,
      ) ?? [];
    const ports = /" "((?:\d+|-)(?:(?:, | : )(?:\d+|-))*)" "[0-9a-f]{32}" /.exec(line)?.[1];
    const separators = (list: string | undefined) => list?.match(/, | : /g)?.join('|') ?? '';
    assert.equal(separators(ports), separators(addresses), line);
    assert.ok(ports, line);
  }
}
