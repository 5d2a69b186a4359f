/** Everything that nginx writes about its upstreams, with the truth of each attempt beside it. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { compare } from './kit/check.ts';
import { STREAM } from './kit/formats.ts';
import type { LoadPlan } from './kit/load.ts';
import { startBackends } from './kit/nginx.ts';
import { nginxUnderTest } from './kit/nginx-build.ts';
import { caughtUp, startHelper, startSidecar } from './kit/product.ts';
import { labCanRun } from './kit/requirements.ts';
import { writeResults } from './kit/results.ts';
import { assertResolved, type Judge, judge, podLogs, type ScenarioOptions } from './kit/scenario.ts';
import { createScene, type Scene } from './kit/scene.ts';
import { load, startOdd, startProtocols } from './kit/traffic.ts';

const STREAM_MODULE = '/usr/lib/nginx/modules/ngx_stream_module.so';
const NEEDS = ['openssl:openssl', `${STREAM_MODULE}:libnginx-mod-stream`];
const ALL = [0, 1, 2, 3];
const ODD_PORT = 8000;
/** Nothing listens there, and nothing answers there at all. */
const SHUT_PORT = 9;
const MUTE_PORT = 10_009;
const PROTOCOLS = { fastcgi: 9000, uwsgi: 9001, grpc: 9002, https: 8443 };
const STREAM_PORT = 8090;

type Requests = LoadPlan['requests'];

interface Case {
  requests: Requests;
  /** nginx's own names of the Services are `svc_NAME`. */
  locations?: string;
  http?: string;
  options?: Partial<ScenarioOptions>;
  load?: Partial<LoadPlan>;
  /** Share of the attempts that the id has to settle. Default 0.999; 0: right or left alone. */
  byId?: number;
}

describe("nginx's upstream grammar", {
  skip: !labCanRun(NEEDS),
  concurrency: false,
  timeout: 900_000,
}, () => {
  let scene: Scene;
  let scenario: Judge['scenario'];
  const rows: Judge['rows'] = [];

  before(async () => {
    scene = await createScene({
      pods: 4,
      services: [
        { name: 'a', port: 10000, targetPort: 10000, pods: ALL },
        { name: 'b', port: 80, targetPort: 10000, pods: ALL },
        { name: 'solo', port: 10000, targetPort: 10001, pods: [0] },
        { name: 'odd', port: 8000, targetPort: ODD_PORT, pods: ALL },
        { name: 'shut', port: 10000, targetPort: SHUT_PORT, pods: ALL },
        { name: 'mute', port: 10000, targetPort: MUTE_PORT, pods: ALL },
        { name: 'apart', port: 10000, targetPort: 10002, pods: ALL },
        ...Object.entries(PROTOCOLS).map(([name, port]) => ({ name, port, targetPort: port, pods: ALL })),
      ],
    });
    for (const pod of scene.pods) scene.runIn(pod, `iptables -A INPUT -p tcp --dport ${MUTE_PORT} -j DROP`);
    await startBackends(scene, [10000, 10001, 10002]);
    await Promise.all(scene.pods.map((pod) => startOdd(scene, pod, ODD_PORT)));
    await startProtocols(scene, PROTOCOLS);
    await startHelper(scene);
    ({ scenario } = judge(scene, rows));
  });
  after(async () => {
    await scene?.dispose();
    writeResults('grammar', rows);
  });

  /** An upstream group of several Services, or of one twice. */
  const group = (name: string, keepalive: boolean, ...services: string[]) => {
    const servers = services.map((service) => `server ${scene.service(service).address} max_fails=0;`);
    return `upstream ${name} { ${servers.join(' ')} ${keepalive ? 'keepalive 64;' : ''} }`;
  };

  function run(name: string, make: (keepalive: boolean) => Case, ways = [false, true]): void {
    for (const keepalive of ways) {
      const title = `${name}, ${keepalive ? 'keepalive' : 'no keepalive'}`;
      test(title, async () => {
        const {
          requests,
          locations = '',
          http = '',
          options = {},
          load: plan = {},
          byId = 0.999,
        } = make(keepalive);
        const row = await scenario(
          title,
          {
            format: 'full',
            keepalive,
            locations,
            http,
            services: ['a', 'b', 'solo', 'odd', 'apart'],
            witnessed: true,
            ...options,
          },
          ({ sentTo }) => sentTo({ connections: 20, total: 1500, ...plan, requests }),
        );
        if (byId > 0) assertResolved(row, 'request-id', byId);
      });
    }
  }

  const RETRY = 'proxy_next_upstream error timeout http_503 non_idempotent; proxy_next_upstream_tries 3;';

  run('tried again at another Service', (keepalive) => ({
    http: group('again', keepalive, 'odd', 'b'),
    locations: `location /again/ { ${RETRY} proxy_pass http://again; }`,
    requests: ['reset', 'close'].flatMap((act) => [
      { path: `/again/{n}?chance=50&do=${act}` },
      { path: `/again/{n}?chance=50&status=503` },
    ]),
  }));
  run('tried again at the same Service', (keepalive) => ({
    http: group('again', keepalive, 'odd', 'odd', 'odd'),
    locations: `location /again/ { ${RETRY} proxy_pass http://again; }`,
    requests: ['reset', 'close'].flatMap((act) => [
      { path: `/again/{n}?chance=50&do=${act}` },
      { path: `/again/{n}?chance=50&status=503` },
      { path: `/again/{n}?chance=50&do=${act}`, method: 'POST', bodyBytes: 300 },
    ]),
  }));
  run('refused, then tried at another Service', (keepalive) => ({
    http: group('again', keepalive, 'shut', 'a'),
    locations: `location /again/ { ${RETRY} proxy_pass http://again; }`,
    requests: [{ path: '/again/{n}' }],
    byId: 0.5,
  }));
  run('no answer to the connection, then tried at another Service', (keepalive) => ({
    http: group('again', keepalive, 'mute', 'a'),
    locations: `location /again/ { ${RETRY} proxy_connect_timeout 100ms; proxy_pass http://again; }`,
    requests: [{ path: '/again/{n}' }],
    byId: 0.5,
  }));
  run('internal redirects to another Service', () => ({
    locations: `
      location /accel/ { proxy_pass http://svc_a; }
      location /hop-b/ { internal; proxy_pass http://svc_b; }
      location /fallback/ { proxy_intercept_errors on; error_page 503 = @other; proxy_pass http://svc_odd; }
      location @other { proxy_pass http://svc_b; }`,
    requests: [
      { path: '/accel/hop-b/{n}' },
      { path: '/fallback/{n}?chance=50&status=503' },
      { path: '/fallback/{n}?chance=50&do=reset' },
    ],
  }));
  run('internal redirects to the same Service', () => ({
    locations: `
      location /accel/ { proxy_pass http://svc_a; }
      location /hop-a/ { internal; proxy_pass http://svc_a; }
      location /fallback/ { proxy_intercept_errors on; error_page 503 = @same; proxy_pass http://svc_odd; }
      location @same { proxy_pass http://svc_odd; }`,
    requests: [{ path: '/accel/hop-a/{n}' }, { path: '/fallback/{n}?chance=50&status=503' }],
  }));
  run("unix sockets, an upstream's name, and no upstream at all", (keepalive) => ({
    http: `
      upstream dead { ${[1, 2].map(() => `server ${scene.service('shut').address} fail_timeout=1s;`).join(' ')} }
      server { listen unix:${join(scene.dir, `own-${keepalive}.sock`)}; access_log off; return 200 "own\\n"; }`,
    locations: `
      location /own/ { proxy_pass http://unix:${join(scene.dir, `own-${keepalive}.sock`)}:/; }
      location /dead/ { proxy_pass http://dead; }
      location /said/ { return 200 "said\\n"; }`,
    requests: [
      { path: '/own/{n}' },
      { path: '/dead/{n}', weight: 0.5 },
      { path: '/said/{n}' },
      { path: '/a/{n}', weight: 4 },
    ],
    // Those that a Service without listeners has refused sent no id.
    byId: 0.9,
  }));
  run("answers from nginx's cache, old ones too", (keepalive) => ({
    http: `proxy_cache_path ${join(scene.dir, `cache-${keepalive}`)} keys_zone=cached:1m;`,
    locations: `location /cached/ {
      proxy_cache cached; proxy_cache_key $request_uri;
      proxy_cache_valid 200 1s; proxy_cache_use_stale error timeout http_503 updating;
      proxy_pass http://svc_odd;
    }`,
    requests: [1, 2, 3].flatMap((n) => [
      { path: `/cached/${n}?chance=40&status=503` },
      { path: `/cached/${n}?chance=40&do=reset` },
      { path: '/cached/{n}', weight: 0.3 },
    ]),
    load: { total: 3000, ratePerSecond: 750 },
  }));
  run('clients that leave, and backends that take too long', () => ({
    locations: 'location /late/ { proxy_read_timeout 100ms; proxy_pass http://svc_odd; }',
    requests: [
      { path: '/odd/{n}?delay=300', abortAfterMs: 60 },
      { path: '/late/{n}?delay=300' },
      { path: '/odd/{n}?delay=20', weight: 2 },
    ],
    load: { total: 1000 },
  }));
  run('bodies of many sizes', () => ({
    locations:
      'location /streamed/ { proxy_request_buffering off; proxy_http_version 1.1; proxy_pass http://svc_odd; }',
    requests: [
      ...[1, 500, 5_000, 60_000, 300_000].map((bodyBytes) => ({
        path: '/odd/{n}',
        method: 'POST',
        bodyBytes,
      })),
      { path: '/odd/{n}', method: 'PUT', bodyBytes: 9_000, chunkBytes: 2_000 },
      { path: '/odd/{n}', method: 'POST', bodyBytes: 20_000, expect: true },
      { path: '/streamed/{n}', method: 'POST', bodyBytes: 60_000 },
      { path: '/streamed/{n}', method: 'PUT', bodyBytes: 9_000, chunkBytes: 2_000 },
      { path: '/streamed/{n}', method: 'POST', bodyBytes: 20_000, expect: true },
    ],
  }));
  run('targets of 32,000 bytes push the id out of what is copied', () => ({
    requests: [{ path: '/odd/{pad}/{n}' }, { path: '/odd/{n}', weight: 3 }],
    load: { total: 1000 },
    byId: 0,
  }));
  run('methods outside the usual', () => ({
    requests: [
      'PROPFIND',
      'VERSION-CONTROL',
      'M-SEARCH',
      'A_METHOD_OF_TWENTY_SIX_BYTES',
      'PATCH',
      'OPTIONS',
      'X',
    ].map((method) => ({ path: '/a/{n}', method })),
  }));
  run('ids that clients choose, and repeat', () => ({
    http: `
      map $http_x_request_id $chosen_id { default $http_x_request_id; '' $request_id; }
      proxy_set_header X-Request-ID $chosen_id;`,
    options: { format: 'chosen', withoutIdHeader: true, sidecarArgs: ['--request-id-field', 'chosen_id'] },
    requests: [
      { path: '/a/{n}', weight: 6 },
      { path: '/a/same', headers: [`X-Request-ID: ${'ab'.repeat(16)}`] },
      { path: '/a/{n}', headers: [`X-Request-ID: ${'cd'.repeat(16)}`] },
    ],
    byId: 0.7,
  }));
  for (const kind of ['auth_request', 'mirror'])
    run(
      `${kind} to another Service`,
      () => ({
        locations: `
      location /both/ { ${kind} /second; proxy_pass http://svc_a; }
      location = /second { internal; proxy_pass_request_body off; proxy_set_header Content-Length ""; proxy_set_header X-Request-ID $request_id; proxy_pass http://svc_odd/second; }`,
        requests: [{ path: '/both/{n}' }, { path: '/both/{n}', method: 'POST', bodyBytes: 100 }],
      }),
      [false],
    );
  const others = `
    location /fastcgi/ { fastcgi_param REQUEST_METHOD $request_method; fastcgi_param REQUEST_URI $request_uri; fastcgi_param HTTP_X_REQUEST_ID $request_id; fastcgi_pass svc_fastcgi; }
    location /uwsgi/ { uwsgi_param REQUEST_METHOD $request_method; uwsgi_param REQUEST_URI $request_uri; uwsgi_param CONTENT_LENGTH $content_length; uwsgi_param HTTP_X_REQUEST_ID $request_id; uwsgi_pass svc_uwsgi; }
    location /grpc/ { grpc_set_header X-Request-ID $request_id; grpc_pass grpc://svc_grpc; }
    location /https/ { proxy_pass https://svc_https; }`;
  for (const name of Object.keys(PROTOCOLS)) {
    const requests = [
      { path: `/${name}/{n}`, weight: 3 },
      { path: `/${name}/{n}`, method: 'POST', bodyBytes: 3_000 },
    ];
    const ways = name === 'uwsgi' ? [false] : [false, true];
    run(
      `${name}_pass, several pods`,
      (keepalive) => ({
        locations: others,
        http: Object.keys(PROTOCOLS)
          .map((service) => group(`svc_${service}`, keepalive, service))
          .concat(keepalive ? 'fastcgi_keep_conn on;' : '')
          .join(' '),
        requests,
        byId: 0,
      }),
      ways,
    );
  }

  test('stream: a line a connection', async () => {
    const title = 'stream';
    const servers = (['a', 'solo', 'again'] as const)
      .map(
        (name, i) => `server { listen ${STREAM_PORT + i}; proxy_pass ${name}; proxy_connect_timeout 200ms; }`,
      )
      .join('\n');
    const file = join(scene.dir, 'stream.log');
    // Debian builds it as a module of its own.
    const module = nginxUnderTest().name === 'debian' ? `load_module ${STREAM_MODULE};` : '';
    const main = `${module}
stream {
  log_format lab '${STREAM}';
  access_log ${file} lab;
  upstream a { server ${scene.service('a').address}; }
  upstream solo { server ${scene.service('solo').address}; }
  ${group('again', false, 'mute', 'b')}
  ${servers}
}`;
    await scenario('HTTP beside a stream', { format: 'full', main }, async ({ sentTo }) => {
      const pod = scene.fronts[0]!;
      const sidecar = await startSidecar(scene, pod, {
        accessLog: file,
        format: STREAM,
        dir: join(scene.dir, 'stream-sidecar'),
        port: 9799,
      });
      await sentTo({ connections: 10, total: 200, requests: [{ path: '/a/{n}' }] });
      for (let i = 0; i < 3; i++)
        await load(scene, {
          port: STREAM_PORT + i,
          connections: 5,
          total: 500,
          ratePerSecond: 250,
          keepalive: false,
          requests: [{ path: `/port/{port}/${STREAM_PORT + i}/{n}` }],
        });
      await caughtUp(sidecar);
      await delay(250);
      // A client's port comes round within seconds, as the backend closes first.
      const byPort = new Map<string, { pod: string; at: number }[]>();
      for (const path of podLogs(scene))
        for (const line of readFileSync(path, 'latin1').split('\n')) {
          const [, pod, , , uri, at] = line.split(' ');
          const port = /^\/port\/(\d+\/\d+)\//.exec(uri ?? '')?.[1];
          if (port && pod) byPort.set(port, [...(byPort.get(port) ?? []), { pod, at: Number(at) }]);
        }
      const compared = compare(readFileSync(file), readFileSync(sidecar.output), (line, attempts) => {
        const [, , client, , , , server] = line.split(' ');
        const end = Number(/ (\d{10}\.\d{3}) /.exec(line)![1]);
        const pods = (byPort.get(`${client}/${server?.slice(0, -1)}`) ?? [])
          .filter(({ at }) => Math.abs(end - at) < 0.5)
          .map(({ pod }) => pod);
        return Array.from({ length: attempts }, (_, k) =>
          pods.length > 0 && k === attempts - 1 ? { pods } : undefined,
        );
      });
      const { evidence, reasons } = sidecar.counts();
      const row = { scenario: title, ...compared, evidence, reasons };
      rows.push(row);
      await sidecar.stop();
      assert.deepEqual(
        [row.wrong, row.lost, row.repeated, row.altered],
        [0, 0, 0, 0],
        row.findings.join('\n'),
      );
      assert.equal(row.lines, 1500);
      assert.ok((evidence['sole-backend'] ?? 0) >= 499, JSON.stringify(row));
    });
  });
});
