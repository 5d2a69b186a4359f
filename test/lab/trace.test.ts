/**
 * The source `trace` with real nginx: every line's pod, and behind it every connection, by what the pods say. Needs what
 * bpf/build.sh needs.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { FORMATS } from './kit/formats.ts';
import type { LoadPlan } from './kit/load.ts';
import { FRONT_PORT, startBackends, startFront } from './kit/nginx.ts';
import { DEBIAN, newestNginx } from './kit/nginx-build.ts';
import { caughtUp, type Program, startHelper } from './kit/product.ts';
import { labCanRun } from './kit/requirements.ts';
import { writeResults } from './kit/results.ts';
import { assertResolved, type Bench, type Judge, judge, type ScenarioOptions } from './kit/scenario.ts';
import { createScene, type Scene } from './kit/scene.ts';
import { type ByConnection, watchTrace } from './kit/trace-witness.ts';
import { collect, load, saturate, startOdd, startProtocols } from './kit/traffic.ts';

const BUILD = fileURLToPath(new URL('../../bpf/build.sh', import.meta.url));
const MOST_FRONTS = 10;
const SURE_MS = 1_500;
const ALL = [0, 1, 2, 3];
const PROTOCOLS = { fastcgi: 9000, uwsgi: 9001, grpc: 9002, https: 8443 };

function build(): string | undefined {
  const { status, stderr } = spawnSync('sh', [BUILD], { encoding: 'utf8' });
  return status === 0 ? undefined : `bpf/build.sh: ${stderr.trim().split('\n').at(-1)}`;
}

interface Case {
  requests: LoadPlan['requests'];
  locations?: string;
  http?: string;
  options?: Partial<ScenarioOptions>;
  load?: Partial<LoadPlan>;
  traffic?: (bench: Bench) => Promise<void>;
  /** Share of the attempts that the trace settles. Default 0.99: a port may come round while its events are read late. */
  byTrace?: number;
}

describe('nginx’s own word, by the trace', {
  skip: !labCanRun(['clang:clang', '/usr/include/bpf/bpf_helpers.h:libbpf-dev', 'openssl:openssl'], build),
  concurrency: false,
  timeout: 900_000,
}, () => {
  let scene: Scene;
  let helper: Program;
  let scenario: Judge['scenario'];
  const rows: Judge['rows'] = [];

  before(async () => {
    const whole = await createScene({
      pods: 4,
      fronts: MOST_FRONTS,
      services: [
        { name: 'a', port: 10000, targetPort: 10000, pods: ALL },
        { name: 'solo', port: 10000, targetPort: 10001, pods: [0] },
        { name: 'odd', port: 8000, targetPort: 8000, pods: ALL },
        { name: 'shut', port: 10000, targetPort: 9, pods: ALL },
        { name: 'six', port: 10000, targetPort: 10000, pods: ALL, family: 6 },
        ...Object.entries(PROTOCOLS).map(([name, port]) => ({ name, port, targetPort: port, pods: ALL })),
      ],
    });
    // BPF sees the processes of all scenes, and those of others have the same addresses: all but the last.
    scene = { ...whole, fronts: whole.fronts.slice(-2) };
    await startBackends(scene, [10000, 10001]);
    await Promise.all(scene.pods.map((pod) => startOdd(scene, pod, 8000)));
    await startProtocols(scene, PROTOCOLS);
    helper = await startHelper(scene, ['--auth', 'none', '--sources', 'conntrack,tap,trace']);
    ({ scenario } = judge(scene, rows));
  });
  after(async () => {
    if (process.env.TRACE_SAID)
      spawnSync('sh', [
        '-c',
        `cp ${scene.dir}/*.stderr ${scene.dir}/run*/trace.ndjson ${scene.dir}/run*/access.log ${process.env.TRACE_SAID}; true`,
      ]);
    await scene?.dispose();
    writeResults('trace', rows);
  });

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
          load = {},
          traffic,
          byTrace = 0.99,
        } = make(keepalive);
        let found: ByConnection | undefined;
        const row = await scenario(
          title,
          {
            format: 'article',
            withoutIdHeader: true,
            workers: 4,
            keepalive,
            locations,
            http,
            build: DEBIAN,
            services: ['a', 'odd', 'solo', 'six'],
            // A second after its beginning the record of the trace counts.
            warmUp: () => delay(SURE_MS),
            ...options,
          },
          async (bench) => {
            const { accessLog, dir } = bench.front;
            const watched = watchTrace(scene, scene.fronts[0]!, dir);
            await delay(SURE_MS);
            const from = statSync(accessLog).size;
            if (requests.length > 0) await bench.sentTo({ connections: 40, total: 3000, requests, ...load });
            await traffic?.(bench);
            await caughtUp(bench.sidecar);
            found = await watched.judge(accessLog, from);
          },
        );
        if (process.env.REALPOD_LAB_ROWS) console.log(JSON.stringify({ title, ...found }));
        assert.equal(found?.wrong, 0, JSON.stringify(found));
        assertResolved(row, 'source-port', byTrace);
      });
    }
  }

  run('HTTP/1', () => ({
    requests: [
      { path: '/a/{n}', weight: 3 },
      { path: '/a/same', weight: 3 },
      { path: '/a/form/{n}', method: 'POST', bodyBytes: 3_000 },
    ],
  }));
  run('IPv6', () => ({ requests: [{ path: '/six/same' }] }));
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
    // Nothing is written on a connection that is refused.
    byTrace: 0.8,
  }));
  run('internal redirects', () => ({
    locations: `
      location /fallback/ { proxy_intercept_errors on; error_page 503 = @same; proxy_pass http://svc_odd; }
      location @same { proxy_pass http://svc_odd; }`,
    requests: [{ path: '/fallback/{n}?chance=50&status=503' }],
  }));
  const others = `
    location /fastcgi/ { fastcgi_param REQUEST_METHOD $request_method; fastcgi_param REQUEST_URI $request_uri; fastcgi_pass svc_fastcgi; }
    location /uwsgi/ { uwsgi_param REQUEST_METHOD $request_method; uwsgi_param REQUEST_URI $request_uri; uwsgi_param CONTENT_LENGTH $content_length; uwsgi_pass svc_uwsgi; }
    location /grpc/ { grpc_pass grpc://svc_grpc; }
    location /https/ { proxy_pass https://svc_https; }`;
  run('other protocols', (keepalive) => ({
    locations: others,
    http: Object.keys(PROTOCOLS)
      .map((service) => group(`svc_${service}`, keepalive && service !== 'uwsgi', service))
      .concat(keepalive ? 'fastcgi_keep_conn on;' : '')
      .join(' '),
    requests: Object.keys(PROTOCOLS).flatMap((name) => [
      { path: `/${name}/{n}`, weight: 3 },
      { path: `/${name}/{n}`, method: 'POST', bodyBytes: 3_000 },
    ]),
  }));
  run('auth_request and mirror to one Service', () => ({
    locations: `
      location /both/ { auth_request /second; mirror /copy; proxy_pass http://svc_a; }
      location = /second { internal; proxy_pass_request_body off; proxy_set_header Content-Length ""; proxy_pass http://svc_a/second; }
      location = /copy { internal; proxy_pass http://svc_a/copy; }`,
    requests: [{ path: '/both/same' }, { path: '/both/{n}' }],
  }));
  run('slow clients and those that leave', () => ({
    requests: [
      { path: '/odd/{n}?delay=300', abortAfterMs: 60 },
      { path: '/odd/{n}?delay=20', weight: 2 },
      { path: '/a/size/65536' },
    ],
    // An attempt of a client that left may have been left before anything was written.
    byTrace: 0.9,
  }));
  run('lines that are not written, and lines of subrequests', () => ({
    locations: `
      location /quiet/ { access_log off; proxy_pass http://svc_a; }
      location /told/ { log_subrequest on; auth_request /asked; proxy_pass http://svc_a; }
      location = /asked { log_subrequest on; proxy_pass http://svc_a/asked; }`,
    requests: [{ path: '/quiet/same' }, { path: '/told/same' }, { path: '/a/same', weight: 2 }],
    // Those of subrequests are left to other evidence.
    byTrace: 0.5,
  }));
  run('two logs', () => ({
    locations: `
      location /twice/ { access_log ${scene.dir}/second.log lab; access_log ${scene.dir}/third.log combined; access_log ${scene.dir}/run-access.log lab; proxy_pass http://svc_a; }`,
    requests: [{ path: '/a/same' }],
  }));
  run('a log that is written in pieces', () => ({
    options: { logParameters: 'buffer=4k flush=100ms' },
    requests: [{ path: '/a/same' }, { path: '/a/{n}' }],
    // A buffer is of no one request.
    byTrace: 0,
  }));
  run('HTTP/2 clients', () => ({
    http: `server { listen 8081 http2; location / { proxy_pass http://svc_a; } }`,
    requests: [],
    traffic: () => sendHttp2(scene, `http://${scene.fronts[0]!.ip}:8081`),
  }));
  run('flat out', () => ({
    requests: [],
    traffic: () =>
      saturate(scene, { connections: 100, seconds: 4, path: '/a/same', front: scene.fronts[0]! }).then(
        () => {},
      ),
  }));
  run('reload', () => ({
    requests: [],
    // Workers that end close their connections to clients.
    traffic: async ({ front }) => {
      const running = saturate(scene, {
        connections: 20,
        seconds: 5,
        path: '/a/same',
        front: scene.fronts[0]!,
      });
      for (let i = 0; i < 3; i++) {
        await delay(1_000);
        front.signal('reload');
      }
      await running;
    },
  }));
  run('the program is killed', () => ({
    requests: [],
    traffic: async ({ sentTo }) => {
      const sent = sentTo({
        connections: 20,
        total: 3000,
        ratePerSecond: 400,
        requests: [{ path: '/a/same' }],
      });
      await delay(2_000);
      for (const pid of childrenOf(helper.child.pid!)) process.kill(pid, 'SIGKILL');
      await sent;
      assert.match(helper.said(), /nginx is traced again/);
    },
    byTrace: 0.3,
  }));
  run('workers are killed', () => ({
    requests: [],
    traffic: async ({ front }) => {
      const running = saturate(scene, {
        connections: 20,
        seconds: 5,
        path: '/a/same',
        front: scene.fronts[0]!,
      });
      for (let i = 0; i < 3; i++) {
        await delay(1_000);
        const [pid] = childrenOf(front.child.pid!);
        process.kill(pid!, 'SIGKILL');
      }
      await running;
    },
    byTrace: 0,
  }));
  run(
    'two nginx pods',
    () => ({
      requests: [],
      traffic: async ({ sentTo }) => {
        const [, other] = scene.fronts;
        const dir = `${scene.dir}/other`;
        const format = FORMATS.article;
        const front = await startFront(scene, other!, dir, {
          services: ['a'],
          format,
          workers: 2,
          build: DEBIAN,
        });
        const watched = watchTrace(scene, other!, dir);
        await delay(SURE_MS);
        const plan = { connections: 20, total: 3000, requests: [{ path: '/a/same' }] };
        await Promise.all([sentTo(plan), load(scene, { ...plan, front: other!, port: FRONT_PORT })]);
        await delay(SURE_MS);
        const found = await watched.judge(front.accessLog, 0);
        await front.stop();
        assert.deepEqual(found, { answered: 3000, right: 3000, wrong: 0, missing: 0 });
      },
    }),
    [true],
  );
  run(
    'an nginx without symbols',
    () => ({
      options: { build: newestNginx() ?? DEBIAN },
      requests: [{ path: '/a/same' }],
      traffic: async () => assert.match(helper.said(), /is not traced: it has no symbols/),
      byTrace: 0,
    }),
    [true],
  );
});

function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  return text === '' ? [] : text.split(' ').map(Number);
}

/** 20 connections, ten streams at a time on each. */
async function sendHttp2(scene: Scene, url: string): Promise<void> {
  const script = `
    const { connect } = require('node:http2');
    const one = () => new Promise((resolve) => {
      const session = connect('${url}');
      let left = 150, open = 0;
      const next = () => {
        if (left === 0 && open === 0) { session.close(); resolve(); return; }
        while (left > 0 && open < 10) {
          left--; open++;
          const stream = session.request({ ':path': '/a/same' });
          stream.resume();
          stream.on('close', () => { open--; next(); });
        }
      };
      next();
    });
    Promise.all(Array.from({ length: 20 }, one)).then(() => process.exit(0));`;
  await collect(scene, scene.client, process.execPath, ['-e', script]);
}
