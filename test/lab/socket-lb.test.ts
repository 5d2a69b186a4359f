/** A load balancer that chooses the pod in nginx's connect(), beside one that translates: the same traffic, the truth beside every line. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { compare } from './kit/check.ts';
import {
  CONNECTIONS,
  fewConnections,
  formats,
  ipv6,
  LINES,
  mix,
  NAMES,
  quiet,
  SERVICES,
  suite,
} from './kit/networks.ts';
import { assertResolved } from './kit/scenario.ts';
import type { ServiceSpec } from './kit/scene.ts';

const ALL_FORMATS = ['full', 'id', 'times', 'article'] as const;

for (const mode of ['iptables', 'nftables'] as const)
  suite(`translated (kube-proxy, ${mode})`, mode, (stage) => {
    formats(stage, ALL_FORMATS);
    fewConnections(stage);
    ipv6(stage);
    quiet(stage, ['id', 'times', 'article']);
  });

suite('chosen in connect() (socket load balancing)', 'socket-lb', (stage) => {
  formats(stage, ALL_FORMATS);
  fewConnections(stage);
  ipv6(stage);
  quiet(stage, ['id', 'times', 'article']);

  test('no packet has a Service’s address', async () => {
    const { scene } = stage();
    const { clusterIp } = scene.service('a');
    assert.equal(scene.runIn(scene.node, 'iptables -t nat -S').includes('KUBE'), false);
    assert.equal(scene.runIn(scene.node, `conntrack -L -d ${clusterIp} 2>/dev/null || true`).trim(), '');
  });

  for (const keepalive of [false, true]) {
    const how = keepalive ? 'keepalive' : 'no keepalive';

    test(`pods move between two Services, ${how}: every line names its pod`, async () => {
      const { scene, scenario, tell } = stage();
      const over = (name: string, pods: readonly number[]): ServiceSpec => ({
        ...SERVICES.find((each) => each.name === name)!,
        pods,
      });
      const title = `pods move between two Services, ${how}`;
      const options = { format: 'full', keepalive, keepaliveRequests: 50, services: NAMES } as const;
      const row = await scenario(title, options, async ({ sentTo }) => {
        const requests = mix('a', 'b');
        const sent = sentTo({ connections: CONNECTIONS, total: LINES, ratePerSecond: 1000, requests });
        const halves = [
          [0, 1],
          [2, 3],
        ] as const;
        for (let n = 0; n < 5; n++) {
          await delay(900);
          const specs = [
            over('a', halves[n % 2]!),
            over('b', halves[(n + 1) % 2]!),
            ...SERVICES.filter(({ name }) => name !== 'a' && name !== 'b'),
          ];
          // The load balancer learns of it before the helper, and after.
          if (n % 2 === 0) {
            scene.setServices(specs);
            await delay(200);
            await tell(specs);
          } else {
            await tell(specs);
            await delay(200);
            scene.setServices(specs);
          }
        }
        await sent;
      });
      scene.setServices(SERVICES);
      await tell(SERVICES);
      assertResolved(row, 'request-id', 0.999);
    });
  }

  test('clients send ids of their own, some of them another’s: right or left alone', async () => {
    const { scenario } = stage();
    const options = {
      format: 'full',
      keepalive: true,
      services: NAMES,
      // A location that sets none lets the client's own id through.
      locations: 'location /open/ { proxy_set_header Connection ""; proxy_pass http://svc_b; }',
    } as const;
    await scenario('forged ids', options, ({ sentTo }) =>
      sentTo({
        connections: CONNECTIONS,
        total: LINES,
        requests: [
          ...mix('a', 'b'),
          { path: '/open/{n}', headers: ['X-Request-ID: 0123456789abcdef0123456789abcdef'], weight: 2 },
          { path: '/open/none/{n}' },
        ],
      }),
    );
  });

  test('mirrors and authorizations with the same id, and a plain server beside: right or left alone', async () => {
    const { scene, scenario } = stage();
    const plain = `${scene.pods[1]!.ip}:10000`;
    const options = {
      format: 'full',
      keepalive: true,
      services: NAMES,
      locations: `
    location /mirrored/ { mirror /to-b; proxy_pass http://svc_a; }
    location = /to-b { internal; proxy_pass http://svc_b; }
    location /asked/ { auth_request /to-c; proxy_pass http://svc_a; }
    location = /to-c { internal; proxy_pass_request_body off; proxy_set_header Content-Length ""; proxy_set_header Connection ""; proxy_set_header X-Request-ID $request_id; proxy_pass http://svc_c; }
    location /plain/ { proxy_pass http://${plain}; }`,
    } as const;
    // Another judgement than the default: a plain server's lines are right and resolved by nothing.
    const judgement: typeof compare = (...logs) => compare(...logs);
    const title = 'mirrors, authorizations, a plain server';
    const row = await scenario(title, { ...options, judgement }, ({ sentTo }) =>
      sentTo({
        connections: CONNECTIONS,
        total: LINES,
        requests: [
          ...mix('a', 'b'),
          { path: '/mirrored/{n}' },
          { path: '/asked/{n}', weight: 3 },
          { path: '/plain/{n}', weight: 3 },
        ],
      }),
    );
    // On young connections a subrequest with the id may be the line's own request, whatever is known of endpoints.
    assertResolved(row, 'request-id', 0.5);
    assert.ok((row.reasons.direct ?? 0) > 0, JSON.stringify(row.reasons));
  });

  test('a Service without a pod: connect() fails, and no pod is named', async () => {
    const { scene, scenario } = stage();
    const without = SERVICES.map((each) => (each.name === 'c' ? { ...each, pods: [] } : each));
    scene.setServices(without);
    const row = await scenario('a Service without a pod', { format: 'full', services: NAMES }, ({ sentTo }) =>
      sentTo({ connections: 20, total: 600, requests: mix('a', 'c') }),
    );
    scene.setServices(SERVICES);
    assert.ok((row.reasons.unconnected ?? 0) > 0, JSON.stringify(row.reasons));
  });
});
