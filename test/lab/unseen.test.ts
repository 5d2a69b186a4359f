/**
 * Scenes in which the tap or the record does not see all that nginx does, or nginx's clock is not the node's. Whatever is
 * named must be right; how much is named is said for each.
 */
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { startBackends } from './kit/nginx.ts';
import { DEBIAN } from './kit/nginx-build.ts';
import { startHelper } from './kit/product.ts';
import { labCanRun } from './kit/requirements.ts';
import { writeResults } from './kit/results.ts';
import { assertResolved, type Judge, judge } from './kit/scenario.ts';
import { createScene, type Scene } from './kit/scene.ts';
import { startBoth } from './kit/traffic.ts';

const FAKETIME = '/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1';
/** An address that nginx's pod gets while the sidecar runs. */
const SECOND_IP = '10.244.0.91';

describe('what is not seen', { skip: !labCanRun([`${FAKETIME}:faketime`]), concurrency: false }, () => {
  let scene: Scene;
  let scenario: Judge['scenario'];
  const rows: Judge['rows'] = [];

  before(async () => {
    scene = await createScene({
      pods: 3,
      services: [
        { name: 'a', port: 10000, targetPort: 10000, pods: [0, 1, 2] },
        { name: 'both', port: 10000, targetPort: 10010, pods: [0, 1, 2] },
        { name: 'host', port: 10000, targetPort: 10000, pods: [0, 1], onNode: true },
        { name: 'solo', port: 10000, targetPort: 10001, pods: [0] },
      ],
    });
    await startBackends(scene, [10000, 10001], [...scene.pods, scene.node]);
    await startBoth(scene, 10010);
    await startHelper(scene);
    ({ scenario } = judge(scene, rows));
  });
  after(async () => {
    await scene?.dispose();
    writeResults('what is not seen', rows, []);
  });

  const ofA = [{ path: '/a/same' }, { path: '/a/item/{n}' }];

  for (const resolution of ['100ms', '1s'] as const)
    for (const format of ['full', 'times'] as const)
      test(`timer_resolution ${resolution}, ${format === 'full' ? 'recommended format' : 'times alone'}`, async () => {
        const row = await scenario(
          `timer_resolution ${resolution}, ${format}`,
          {
            format,
            keepalive: format === 'full',
            services: ['a', 'solo'],
            main: `timer_resolution ${resolution};`,
          },
          ({ sentTo }) => sentTo({ total: 800, ratePerSecond: 150, connections: 20, requests: ofA }),
        );
        if (format === 'full') assertResolved(row, 'request-id', 0.99);
      });

  test('a clock of nginx 50 ms behind the node’s', async () => {
    const row = await scenario(
      'clock 50 ms behind',
      {
        format: 'full',
        keepalive: true,
        services: ['a', 'solo'],
        build: DEBIAN,
        env: { LD_PRELOAD: FAKETIME, FAKETIME: '-0.05s', FAKETIME_NO_CACHE: '1' },
      },
      ({ sentTo }) => sentTo({ total: 600, ratePerSecond: 200, connections: 20, requests: ofA }),
    );
    assertResolved(row, 'request-id', 0.99);
  });

  test('a clock of nginx 50 ms ahead of the node’s', async () => {
    await scenario(
      'clock 50 ms ahead',
      {
        format: 'times',
        keepalive: true,
        services: ['a', 'solo'],
        build: DEBIAN,
        env: { LD_PRELOAD: FAKETIME, FAKETIME: '+0.05s', FAKETIME_NO_CACHE: '1' },
      },
      ({ sentTo }) => sentTo({ total: 600, ratePerSecond: 200, connections: 20, requests: ofA }),
    );
  });

  for (const format of ['full', 'times'] as const)
    test(`backends on nginx's own node, ${format}`, async () => {
      const row = await scenario(
        `backend with hostNetwork on nginx's node, ${format}`,
        { format, keepalive: true, services: ['host', 'solo'] },
        ({ sentTo }) =>
          sentTo({ total: 900, ratePerSecond: 300, connections: 30, requests: [{ path: '/host/{n}' }] }),
      );
      if (format === 'full') assertResolved(row, 'request-id', 0.999);
    });

  /** HTTP/2 to a Service beside HTTP/1 to the same Service. Connections that are kept speak one protocol, so two groups. */
  const both = (auth: boolean) => ({
    http: `  upstream both_h2 { server ${scene.service('both').address}; keepalive 256; }`,
    locations: `
    location /both/h2/ {
      ${auth ? 'auth_request /both/auth;' : ''}
      grpc_set_header X-Request-ID $request_id;
      grpc_pass grpc://both_h2;
    }
    location /both/auth {
      internal;
      proxy_pass http://svc_both/both/auth;
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_set_header Connection "";
      proxy_set_header X-Request-ID $request_id;
    }`,
  });

  for (const auth of [true, false])
    for (const format of ['full', 'times'] as const)
      test(`gRPC beside HTTP/1 to one Service, ${auth ? 'with' : 'without'} auth_request, ${format}`, async () => {
        await scenario(
          `HTTP/2 beside HTTP/1, ${auth ? 'auth_request, ' : ''}${format}`,
          { format, keepalive: true, services: ['a', 'both', 'solo'], ...both(auth) },
          ({ sentTo }) =>
            sentTo({
              total: 600,
              ratePerSecond: 200,
              connections: 20,
              requests: [
                { path: '/both/h2/{n}', method: 'POST', bodyBytes: 300 },
                { path: '/both/h2/wait/20', method: 'POST', bodyBytes: 70_000 },
                { path: '/both/h1/{n}' },
                { path: '/both/h1/wait/20', method: 'POST', bodyBytes: 60_000 },
              ],
            }),
        );
      });

  test('a second source address, from which requests go before anybody has looked', async () => {
    scene.runIn(scene.node, `ip route replace ${SECOND_IP}/32 dev cni0`);
    try {
      await scenario(
        'proxy_bind to an address of a moment ago',
        {
          format: 'times',
          keepalive: true,
          services: ['a', 'solo'],
          locations: `location /a/bound/ { proxy_bind ${SECOND_IP}; proxy_pass http://svc_a; }`,
        },
        async ({ sentTo }) => {
          // One kept connection, and so one pod.
          await sentTo({ total: 20, ratePerSecond: 100, connections: 1, requests: [{ path: '/a/{n}' }] });
          // The addresses are looked at by themselves shortly before each full second.
          await delay(1_050 - (Date.now() % 1_000));
          scene.runIn(scene.fronts[0]!, `ip addr add ${SECOND_IP}/32 dev eth0`);
          const requests = [{ path: '/a/bound/{n}' }];
          await sentTo({ total: 100, ratePerSecond: 200, connections: 4, requests });
        },
      );
    } finally {
      scene.runIn(scene.fronts[0]!, `ip addr del ${SECOND_IP}/32 dev eth0 || true`);
    }
  });

  for (const format of ['full', 'times'] as const)
    test(`a second source address, added while the sidecar runs, ${format}`, async () => {
      scene.runIn(scene.node, `ip route replace ${SECOND_IP}/32 dev cni0`);
      try {
        await scenario(
          `proxy_bind to a second address, ${format}`,
          {
            format,
            keepalive: true,
            services: ['a', 'solo'],
            locations: `location /a/bound/ { proxy_bind ${SECOND_IP}; proxy_pass http://svc_a; }`,
          },
          async ({ sentTo }) => {
            await sentTo({ total: 100, ratePerSecond: 200, connections: 10, requests: ofA });
            scene.runIn(scene.fronts[0]!, `ip addr add ${SECOND_IP}/32 dev eth0`);
            const requests = [...ofA, { path: '/a/bound/{n}', weight: 2 }];
            await sentTo({ total: 600, ratePerSecond: 200, connections: 20, requests });
          },
        );
      } finally {
        scene.runIn(scene.fronts[0]!, `ip addr del ${SECOND_IP}/32 dev eth0 || true`);
      }
    });
});
