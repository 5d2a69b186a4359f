/** What stands beside an ordinary request: subrequests, other logs, upgraded connections, addresses that move. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { compare } from './kit/check.ts';
import { FORMATS } from './kit/formats.ts';
import type { RequestPlan } from './kit/load.ts';
import { startBackends, startFront, until } from './kit/nginx.ts';
import { DEBIAN } from './kit/nginx-build.ts';
import { caughtUp, countLines, type Program, startHelper, startSidecar, untilExact } from './kit/product.ts';
import { labCanRun } from './kit/requirements.ts';
import { writeResults } from './kit/results.ts';
import { assertResolved, type Bench, type Judge, judge, type ScenarioOptions } from './kit/scenario.ts';
import { createScene, endChild, type Scene, type ServiceSpec } from './kit/scene.ts';
import { attack, load, startOdd } from './kit/traffic.ts';

const ALL = [0, 1, 2, 3];
const SERVICES: ServiceSpec[] = [
  { name: 'a', port: 10000, targetPort: 10000, pods: ALL },
  { name: 'b', port: 80, targetPort: 10000, pods: ALL },
  { name: 'odd', port: 8000, targetPort: 8000, pods: ALL },
  { name: 'solo', port: 10000, targetPort: 10001, pods: [0] },
];
const LOAD = { connections: 20, total: 1_000, ratePerSecond: 400 };
const HTTP = 'proxy_connect_timeout 500ms; proxy_read_timeout 2s;';

describe('beside an ordinary request', {
  skip: !labCanRun(),
  concurrency: false,
  timeout: 600_000,
}, () => {
  let scene: Scene;
  let helper: Program;
  let scenario: Judge['scenario'];
  const rows: Judge['rows'] = [];

  before(async () => {
    scene = await createScene({
      pods: 4,
      services: SERVICES,
    });
    await startBackends(scene, [10000, 10001]);
    await Promise.all(scene.pods.map((pod) => startOdd(scene, pod, 8000)));
    helper = await startHelper(scene);
    ({ scenario } = judge(scene, rows));
  });
  after(async () => {
    await scene?.dispose();
    writeResults('beside an ordinary request', rows);
  });

  /** The same scene with ids and with times alone; ids have to settle `byId` of the attempts. */
  function both(
    name: string,
    byId: number,
    options: Partial<ScenarioOptions> | (() => Partial<ScenarioOptions>),
    traffic: RequestPlan[] | ((bench: Bench) => Promise<void>),
  ): void {
    for (const format of ['full', 'times'] as const)
      test(`${name}, ${format}`, async () => {
        const row = await scenario(
          `${name}, ${format}`,
          {
            format,
            keepalive: true,
            services: ['a', 'b', 'odd', 'solo'],
            http: HTTP,
            ...(typeof options === 'function' ? options() : options),
          },
          (bench) =>
            typeof traffic === 'function' ? traffic(bench) : bench.sentTo({ ...LOAD, requests: traffic }),
        );
        if (format === 'full' && byId > 0) assertResolved(row, 'request-id', byId);
      });
  }

  both(
    'pages made of subrequests with one id (SSI)',
    0,
    {
      build: DEBIAN,
      locations: `location /page/ { ssi on; ssi_types *; default_type text/html; return 200 '<!--# include virtual="/a/one" --><!--# include virtual="/b/two" -->'; }`,
    },
    [{ path: '/page/{n}' }, { path: '/a/{n}' }],
  );
  both(
    'answers in slices',
    0,
    () => ({
      build: DEBIAN,
      http: `${HTTP} proxy_cache_path ${join(scene.dir, 'slices')} keys_zone=sliced:1m;`,
      locations:
        'location /sliced/ { slice 16k; proxy_cache sliced; proxy_cache_key $uri$slice_range; proxy_set_header Connection ""; proxy_set_header X-Request-ID $request_id; proxy_set_header Range $slice_range; proxy_cache_valid 200 206 1s; proxy_pass http://svc_a/; }',
    }),
    [{ path: '/sliced/size/65536' }, { path: '/a/{n}' }],
  );
  both(
    'post_action asks another Service with the same id',
    0,
    {
      locations: `location /posted/ { post_action /after; proxy_pass http://svc_a; }
    location = /after { internal; proxy_pass http://svc_b; }`,
    },
    [{ path: '/posted/{n}' }],
  );
  for (const format of ['full', 'id'] as const)
    for (const by of ['auth_request', 'mirror'] as const) {
      const name = `${by} sends nginx's id while the location passes on its client's, ${format}`;
      test(name, async () => {
        const passesOn = 'proxy_set_header Connection ""; proxy_pass http://svc_a;';
        const sends = `proxy_set_header X-Request-ID $request_id; ${passesOn}`;
        const row = await scenario(
          name,
          {
            format,
            keepalive: true,
            services: ['a', 'solo'],
            http: HTTP,
            locations: `
    location /a/open/ { ${by} /asked; ${passesOn} }
    location /a/gone/ { ${by} /asked; proxy_intercept_errors on; error_page 503 = @again; ${sends} }
    location @again { ${passesOn} }
    location = /asked { internal; proxy_pass_request_body off; proxy_set_header Content-Length ""; ${sends} }`,
          },
          ({ sentTo }) => {
            const headers = ['X-Request-ID: of-a-client-{n}'];
            const requests: RequestPlan[] = [
              { path: '/a/open/{n}', headers },
              { path: '/a/open/{n}', method: 'POST', bodyBytes: 900, headers },
              { path: '/a/gone/status/503', method: 'POST', bodyBytes: 900, headers },
              { path: '/a/{n}', weight: 3 },
            ];
            return sentTo({ ...LOAD, requests });
          },
        );
        assertResolved(row, 'request-id', 0.4);
      });
    }
  test('one client that asks again as soon as it has its answer', async () => {
    await scenario(
      'one client in a closed loop, times',
      { format: 'times', services: ['a', 'odd', 'solo'], withoutIdHeader: true, http: HTTP },
      ({ sentTo }) =>
        sentTo({
          connections: 1,
          total: 600,
          requests: [{ path: '/odd/{n}?delay=2-20' }, { path: '/a/{n}' }],
        }),
    );
  });
  for (const format of ['id', 'full'] as const)
    test(`a hundred source ports for three Services over the same pods, ${format}`, async () => {
      const range = (from: number, to: number) =>
        scene.runIn(scene.fronts[0]!, `sysctl -qw net.ipv4.ip_local_port_range="${from} ${to}"`);
      range(40_000, 40_099);
      scene.runIn(scene.fronts[0]!, 'sysctl -qw net.ipv4.tcp_tw_reuse=1');
      try {
        await scenario(
          `a hundred source ports, ${format}`,
          { format, services: ['a', 'b', 'odd', 'solo'], http: HTTP },
          ({ sentTo }) =>
            sentTo({
              connections: 10,
              total: 800,
              ratePerSecond: 80,
              requests: [{ path: '/a/{n}' }, { path: '/b/{n}' }, { path: '/odd/{n}' }],
            }),
        );
      } finally {
        range(32_768, 60_999);
      }
    });
  both(
    'some requests are not logged',
    0.99,
    {
      http: `${HTTP} map $request_uri $lab_kept { default 1; ~[13579]$ 0; }`,
      logParameters: 'if=$lab_kept',
    },
    [{ path: '/a/{n}' }, { path: '/b/{n}' }],
  );
  both('a log that nginx buffers', 0.99, { logParameters: 'buffer=16k flush=500ms' }, [
    { path: '/a/{n}' },
    { path: '/b/{n}' },
  ]);
  both('long polling beside short requests', 0.99, {}, [
    { path: '/odd/{n}?delay=1200-1800', weight: 0.05 },
    { path: '/odd/{n}' },
  ]);
  both(
    'upgraded connections that carry what looks like requests',
    0.9,
    {
      locations:
        'location /up/ { proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; proxy_set_header X-Request-ID $request_id; proxy_pass http://svc_odd; }',
    },
    async (bench) => {
      const open =
        'GET /up/?do=upgrade HTTP/1.1\r\nHost: lab\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n';
      const inside = 'GET /odd/forged HTTP/1.1\r\nX-Request-ID: 0123456789abcdef0123456789abcdef\r\n\r\n';
      const sessions = ALL.map(() => ({
        steps: [{ send: open }, { await: ' 101 ' }, { send: inside }, { pauseMs: 500 }, { send: inside }],
        times: 3,
      }));
      await Promise.all([
        bench.sentTo({ ...LOAD, requests: [{ path: '/odd/{n}' }] }),
        attack(scene, sessions),
      ]);
    },
  );
  both('HEAD, and bodies that wait for 100 Continue', 0.99, {}, [
    { path: '/odd/{n}', method: 'HEAD' },
    { path: '/odd/{n}' },
    { path: '/a/{n}', method: 'HEAD' },
    { path: '/odd/{n}', method: 'POST', bodyBytes: 20_000, expect: true, weight: 0.5 },
  ]);
  both('a ClusterIP is given to another Service, and back', 0, {}, async (bench) => {
    const sent = bench.sentTo({ ...LOAD, total: 1_600, requests: [{ path: '/a/{n}' }, { path: '/b/{n}' }] });
    const { clusterIp } = scene.service('a');
    const others = scene.service('b').clusterIp;
    const given = (pods: number[], ip: string, otherPods: number[]) =>
      scene.setServices(
        SERVICES.map((spec) => {
          if (spec.name === 'a') return { ...spec, name: 'other', pods, clusterIp: ip };
          return spec.name === 'b' ? { ...spec, pods: otherPods, clusterIp: others } : spec;
        }),
      );
    try {
      for (const [pods, otherPods] of [
        [
          [0, 1],
          [2, 3],
        ],
        [
          [2, 3],
          [0, 1],
        ],
        [[3], [0]],
      ] as const) {
        await delay(900);
        given([...pods], clusterIp, [...otherPods]);
      }
      await sent;
    } finally {
      scene.setServices(SERVICES);
    }
  });
  both('conntrack is flushed', 0, {}, async (bench) => {
    const sent = bench.sentTo({ ...LOAD, total: 1_600, requests: [{ path: '/a/{n}' }, { path: '/b/{n}' }] });
    for (let i = 0; i < 3; i++) {
      await delay(800);
      scene.runIn(scene.node, 'conntrack -F 2>/dev/null');
    }
    await sent;
  });
  both('a pod is half open: what comes to it is dropped', 0, {}, async (bench) => {
    const sent = bench.sentTo({
      ...LOAD,
      connections: 60,
      requests: [{ path: '/a/{n}' }, { path: '/b/{n}' }],
    });
    await delay(500);
    scene.runIn(scene.pods[1]!, 'iptables -I INPUT -p tcp --dport 10000 -j DROP');
    await delay(800);
    scene.runIn(scene.pods[1]!, 'iptables -F INPUT');
    await sent;
  });
  both("a pod's address is used by another pod within a second", 0, {}, async (bench) => {
    const [, , from, to] = scene.pods;
    const move = (source: string, target: string) => {
      scene.runIn(scene.node, `ip -n ${source} addr del ${from!.ip}/32 dev eth0`);
      scene.runIn(scene.node, `ip -n ${target} addr add ${from!.ip}/32 dev eth0`);
      scene.runIn(scene.node, 'ip neigh flush dev cni0');
    };
    const sent = bench.sentTo({
      ...LOAD,
      connections: 60,
      requests: [{ path: '/a/{n}' }, { path: '/b/{n}' }],
    });
    await delay(700);
    move(from!.ns, to!.ns);
    await delay(900);
    move(to!.ns, from!.ns);
    await sent;
  });

  test('two logs of one nginx in two formats: each line right or left alone', async () => {
    const file = join(scene.dir, 'second.log');
    const second = FORMATS.times;
    await scenario(
      'two logs',
      {
        format: 'full',
        keepalive: true,
        http: `log_format second '${second}';`,
        locations: `location /twice/ { access_log ${file} second; access_log ${join(scene.dir, 'unread.log')} combined; proxy_pass http://svc_a; }`,
      },
      async ({ sentTo }) => {
        const sidecar = await startSidecar(scene, scene.fronts[0]!, {
          accessLog: file,
          format: second,
          dir: join(scene.dir, 'second-sidecar'),
          port: 9799,
        });
        await sentTo({ ...LOAD, requests: [{ path: '/twice/{n}' }, { path: '/a/{n}' }] });
        await caughtUp(sidecar);
        const seen = compare(readFileSync(file), readFileSync(sidecar.output));
        await sidecar.stop();
        rows.push({ scenario: 'two logs: the second', ...seen, evidence: {}, reasons: {} });
        const { wrong, lost, repeated, altered } = seen;
        assert.deepEqual([wrong, lost, repeated, altered], [0, 0, 0, 0], seen.findings.join('\n'));
      },
    );
  });

  for (const format of ['full', 'times'] as const)
    test(`helper and sidecar killed together, ${format}`, async () => {
      await scenario(
        `helper and sidecar killed together, ${format}`,
        // The second sidecar counts from zero, so the counters are not held against the log.
        { format, keepalive: true, judgement: (before, after, served) => compare(before, after, served) },
        async ({ sentTo, sidecar, front }) => {
          const sent = sentTo({ ...LOAD, total: 1_600, requests: [{ path: '/a/{n}' }, { path: '/b/{n}' }] });
          await delay(1_200);
          const ends = [endChild(helper.child, 'SIGKILL'), endChild(sidecar.child, 'SIGKILL')];
          await Promise.all(ends);
          await delay(300);
          helper = await startHelper(scene);
          const { accessLog, output } = sidecar;
          const dir = dirname(output);
          const next = await startSidecar(scene, scene.fronts[0]!, {
            accessLog,
            format: FORMATS[format],
            dir,
          });
          Object.assign(sidecar, next);
          await sent;
          await untilExact(scene, sidecar, scene.fronts[0]!);
          assert.ok(countLines(front.accessLog) > 1_600);
        },
      );
    });

  test('a log that nginx compresses as it writes is refused, and not passed on', async () => {
    const pod = scene.fronts[0]!;
    const dir = join(scene.dir, 'compressed');
    const front = await startFront(scene, pod, dir, {
      format: FORMATS.full,
      services: ['a', 'solo'],
      logParameters: 'gzip=1 flush=500ms',
    });
    try {
      const sidecar = await startSidecar(scene, pod, {
        accessLog: front.accessLog,
        format: FORMATS.full,
        dir: join(dir, 'sidecar'),
      });
      await load(scene, { connections: 4, total: 40, requests: [{ path: '/a/{n}' }] });
      await until('the sidecar to end', () => sidecar.child.exitCode !== null);
      assert.equal(sidecar.child.exitCode, 1);
      assert.match(sidecar.said(), /access\.log is compressed by nginx as it writes, and cannot be followed/);
      assert.equal(readFileSync(sidecar.output).length, 0);
    } finally {
      await front.stop();
    }
  });

  test('helper killed while nginx serves, and started again', async () => {
    await scenario('helper killed', { format: 'full', keepalive: true }, async ({ sentTo, sidecar }) => {
      const sent = sentTo({ ...LOAD, total: 1_600, requests: [{ path: '/a/{n}' }] });
      await delay(800);
      await endChild(helper.child, 'SIGKILL');
      helper = await startHelper(scene);
      await sent;
      await untilExact(scene, sidecar, scene.fronts[0]!);
    });
  });
});
