/** A load balancer that chooses the pod in nginx's connect(), beside one that translates: the same traffic, the truth beside every line. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { type Stored, service, slice } from '../unit/api-server.ts';
import { compare, readMetrics } from './kit/check.ts';
import { type ApiServer, startApiServer } from './kit/cluster.ts';
import type { FormatName } from './kit/formats.ts';
import type { LoadPlan } from './kit/load.ts';
import { startBackends, until } from './kit/nginx.ts';
import { type Program, startHelper } from './kit/product.ts';
import { labCanRun } from './kit/requirements.ts';
import { type ResultsFile, type Row, table, writeSection } from './kit/results.ts';
import { assertResolved, type Judge, judge } from './kit/scenario.ts';
import { createScene, type Scene, type SceneOptions, type ServiceSpec } from './kit/scene.ts';
import { SOCKET_LB, socketLbObstacle } from './kit/socket-lb.ts';

const RESULTS: ResultsFile = {
  url: new URL('../../docs/results/networks.md', import.meta.url),
  header: `# Networks

Written by \`npm run test:socket-lb\` when \`REALPOD_LAB_RESULTS=write\` is set; not by hand. Each line's truth comes from the
backend that answered it. A helper with the names of an API server's stand-in; half of the pods are said to be on another node.
`,
};

const NODE = 'worker-1';
const ALL = [0, 1, 2, 3];
const CONNECTIONS = 100;
const LINES = 6000;

/** Two Services over the same pods and port, and one over the same addresses with another port. */
const SERVICES: readonly ServiceSpec[] = [
  { name: 'a', port: 10000, targetPort: 10000, pods: ALL },
  { name: 'b', port: 80, targetPort: 10000, pods: ALL },
  { name: 'c', port: 10000, targetPort: 10002, pods: ALL },
  { name: 'solo', port: 10000, targetPort: 10001, pods: [0] },
];
const NAMES = SERVICES.map(({ name }) => name);

const mix = (...names: readonly string[]): LoadPlan['requests'] =>
  names.flatMap((name) => [
    { path: `/${name}/item/{n}`, weight: 3 },
    { path: `/${name}/same`, weight: 2 },
    { path: `/${name}/form`, method: 'POST', bodyBytes: 600 },
    { path: `/${name}/status/500`, weight: 0.2 },
  ]);

interface Stage {
  scene: Scene;
  api: ApiServer;
  helper: Program;
  scenario: Judge['scenario'];
  /** Tells the API server of these Services. */
  tell(specs: readonly ServiceSpec[]): Promise<void>;
}

async function openStage(mode: SceneOptions['mode'], rows: Row[]): Promise<Stage> {
  const scene = await createScene({ pods: 4, services: SERVICES, ...(mode ? { mode } : {}) });
  try {
    const api = await startApiServer(scene);
    const tell = async (specs: readonly ServiceSpec[]): Promise<void> => {
      for (const { name, port, targetPort, pods } of specs) {
        const endpoints = pods.map((i) => ({
          ip: scene.pods[i]!.ip,
          pod: scene.pods[i]!.name,
          node: i < 2 ? NODE : 'worker-2',
        }));
        const at = (object: Stored, ports: object[]): Stored =>
          object.kind === 'Service'
            ? { ...object, spec: { ...(object.spec as object), ports } }
            : { ...object, ports };
        await api.send({
          put: at(slice('shop', name, 'v4', endpoints), [{ name: 'http', port: targetPort }]),
        });
        const { clusterIp } = scene.service(name);
        await api.send({
          put: at(service('shop', name, [clusterIp]), [{ name: 'http', port, targetPort: 'http' }]),
        });
      }
    };
    await tell(SERVICES);
    await startBackends(scene, [10000, 10001, 10002]);
    process.env.NODE_NAME = NODE;
    const helper = await startHelper(scene, ['--kubeconfig', api.kubeconfig]);
    delete process.env.NODE_NAME;
    await until('the helper to have listed both kinds', () => {
      const lists = readMetrics(helper.get('/metrics').text).filter(
        ({ name }) => name === 'realpod_helper_api_lists_total',
      );
      return lists.length === 2 && lists.every(({ value }) => value > 0);
    });
    return { scene, api, helper, tell, scenario: judge(scene, rows).scenario };
  } catch (error) {
    await scene.dispose();
    throw error;
  }
}

const skip = !labCanRun(SOCKET_LB, socketLbObstacle);

function suite(
  title: string,
  mode: SceneOptions['mode'],
  tests: (stage: () => Stage) => void,
  notes: readonly string[] = [],
): void {
  describe(title, { skip, concurrency: false, timeout: 400_000 }, () => {
    const rows: Row[] = [];
    let stage: Stage;
    before(async () => {
      stage = await openStage(mode, rows);
    });
    after(async () => {
      await stage?.scene.dispose();
      if (rows.length > 0) writeSection(RESULTS, title, table(rows), notes);
    });
    tests(() => stage);
  });
}

/** Each format, without and with upstream keepalive. */
function formats(stage: () => Stage, names: readonly FormatName[]): void {
  for (const format of names) {
    for (const keepalive of [false, true]) {
      const title = `${format}, ${keepalive ? 'keepalive' : 'no keepalive'}`;
      test(`${title}: no line names a wrong pod`, async () => {
        const options = {
          format,
          keepalive,
          services: NAMES,
          ...(format === 'times' || format === 'article' ? { withoutIdHeader: true } : {}),
        };
        const row = await stage().scenario(title, options, ({ sentTo }) =>
          sentTo({ connections: CONNECTIONS, total: LINES, requests: mix('a', 'b', 'c') }),
        );
        if (format === 'full') assertResolved(row, 'request-id', 0.999);
      });
    }
  }
}

suite('translated (kube-proxy, iptables)', 'iptables', (stage) =>
  formats(stage, ['full', 'id', 'times', 'article']),
);

suite(
  'chosen in connect() (socket load balancing)',
  'socket-lb',
  (stage) => {
    formats(stage, ['full']);

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
      // Other Services' requests with the id are told apart by their ports.
      assertResolved(row, 'request-id', 0.6);
      assert.ok((row.reasons.direct ?? 0) > 0, JSON.stringify(row.reasons));
    });

    test('a Service without a pod: connect() fails, and no pod is named', async () => {
      const { scene, scenario } = stage();
      const without = SERVICES.map((each) => (each.name === 'c' ? { ...each, pods: [] } : each));
      scene.setServices(without);
      const row = await scenario(
        'a Service without a pod',
        { format: 'full', services: NAMES },
        ({ sentTo }) => sentTo({ connections: 20, total: 600, requests: mix('a', 'c') }),
      );
      scene.setServices(SERVICES);
      assert.ok((row.reasons.unconnected ?? 0) > 0, JSON.stringify(row.reasons));
    });
  },
  [
    "Other formats (`id` alone, `times`, `article`) have no row: not one line of theirs was named, nor a wrong pod. The sidecar's own connections to the helper are direct ones that no Service explains.",
  ],
);
