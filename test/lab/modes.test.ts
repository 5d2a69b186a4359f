/** What kube-proxy, the cluster's addresses and time do to connections, with the truth beside every line. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { readMetrics } from './kit/check.ts';
import { LOCAL_PORT_FIELD } from './kit/formats.ts';
import type { LoadPlan } from './kit/load.ts';
import { startBackends } from './kit/nginx.ts';
import { type Program, startHelper } from './kit/product.ts';
import { labCanRun } from './kit/requirements.ts';
import { type Row, writeResults } from './kit/results.ts';
import { assertResolved, type Judge, judge } from './kit/scenario.ts';
import {
  createScene,
  type Pod,
  type Scene,
  type SceneOptions,
  type ServiceSpec,
  UPLINK_IP,
} from './kit/scene.ts';

const ALL = [0, 1, 2, 3];
const EXTERNAL = '198.51.100.7';
const LOAD_BALANCER = '203.0.113.9';
const NODE_PORT = 30080;
const LINES = 6000;

const SERVICES: readonly ServiceSpec[] = [
  {
    name: 'a',
    port: 10000,
    targetPort: 10000,
    pods: ALL,
    // A load balancer's address is handled as an external one.
    externalIps: [EXTERNAL, LOAD_BALANCER],
    nodePort: NODE_PORT,
  },
  { name: 'b', port: 80, targetPort: 10000, pods: ALL },
  { name: 'solo', port: 10000, targetPort: 10001, pods: [0] },
  { name: 'sticky', port: 8443, targetPort: 10000, pods: ALL, affinitySeconds: 60 },
  { name: 'apart', port: 10000, targetPort: 10002, pods: ALL },
];
const SIX: readonly ServiceSpec[] = [
  { name: 'a6', port: 10000, targetPort: 10000, pods: ALL, family: 6 },
  { name: 'b6', port: 80, targetPort: 10000, pods: ALL, family: 6 },
];

function mix(...names: readonly string[]): LoadPlan['requests'] {
  return names.flatMap((name) => [
    { path: `/${name}/item/{n}`, weight: 3 },
    { path: `/${name}/same`, weight: 2 },
    { path: `/${name}/form`, method: 'POST', bodyBytes: 600 },
    { path: `/${name}/status/500`, weight: 0.2 },
  ]);
}

interface Stage {
  scene: Scene;
  scenario: Judge['scenario'];
  helper: Program;
  dispose(): Promise<void>;
}

async function openStage(
  rows: Row[],
  options: SceneOptions,
  front: (scene: Scene) => Pod = (scene) => scene.fronts[0]!,
  helperArgs: readonly string[] = [],
): Promise<Stage> {
  const whole = await createScene({ pods: 4, services: SERVICES, ...options });
  const scene = { ...whole, fronts: [front(whole)] };
  let helper: Program;
  try {
    await startBackends(scene, [10000, 10001, 10002]);
    helper = await startHelper(scene, ['--auth', 'none', ...helperArgs]);
  } catch (error) {
    await whole.dispose();
    throw error;
  }
  return { scene, scenario: judge(scene, rows).scenario, helper, dispose: () => whole.dispose() };
}

const skip = !labCanRun();
const rows: Row[] = [];
after(() => writeResults('modes', rows));

/** One suite with a scene of its own. */
function suite(
  name: string,
  options: SceneOptions,
  tests: (stage: () => Stage) => void,
  front?: (scene: Scene) => Pod,
  helperArgs?: readonly string[],
): void {
  describe(name, { skip, concurrency: false, timeout: 400_000 }, () => {
    let stage: Stage;
    before(async () => {
      stage = await openStage(rows, options, front, helperArgs);
    });
    after(async () => {
      await stage?.dispose();
    });
    tests(() => stage);
  });
}

/** The same traffic without and with upstream keepalive; every line has to name its pod. */
function bothWays(
  stage: () => Stage,
  name: string,
  services: readonly string[],
  locations = '',
  requests = mix(...services),
): void {
  for (const keepalive of [false, true]) {
    const title = `${name}, ${keepalive ? 'keepalive' : 'no keepalive'}`;
    test(`${title}: every line names its pod`, async () => {
      const options = { format: 'full', keepalive, services: [...services, 'solo'], locations } as const;
      const row = await stage().scenario(title, options, ({ sentTo }) =>
        sentTo({ connections: 40, total: LINES, requests }),
      );
      assertResolved(row, 'request-id', 0.999);
    });
  }
}

for (const mode of ['iptables', 'nftables'] as const) {
  suite(`kube-proxy in ${mode} mode`, { mode, services: [...SERVICES, ...SIX] }, (stage) => {
    bothWays(stage, `${mode}: two Services`, ['a', 'b']);
    bothWays(stage, `${mode}: sessionAffinity`, ['sticky', 'a']);
    bothWays(stage, `${mode}: IPv6 and IPv4`, ['a6', 'b6', 'a']);
    const portals = { external: EXTERNAL, balancer: LOAD_BALANCER, node: UPLINK_IP };
    const locations = Object.entries(portals)
      .map(([name, ip]) => {
        const port = name === 'node' ? NODE_PORT : 10000;
        return `location /${name}/ { proxy_pass http://${ip}:${port}; }`;
      })
      .join('\n');
    bothWays(
      stage,
      `${mode}: external IP, load balancer, NodePort`,
      ['a'],
      locations,
      mix('external', 'balancer', 'node', 'a'),
    );
  });

  suite(
    `hairpin in ${mode} mode`,
    { mode },
    (stage) => bothWays(stage, `${mode}: nginx in one of its Service's own pods`, ['a', 'b']),
    (scene) => scene.pods[1]!,
  );

  suite(`masquerade-all in ${mode} mode`, { mode, masqueradeAll: true }, (stage) => {
    bothWays(stage, `${mode}: masquerade-all`, ['a', 'b']);
  });

  suite(
    `hostNetwork in ${mode} mode`,
    { mode },
    (stage) => bothWays(stage, `${mode}: nginx on the node's network`, ['a', 'b']),
    (scene) => scene.node,
  );
}

suite('churn', {}, (stage) => {
  const without = (name: string) => SERVICES.filter((service) => service.name !== name);

  for (const keepalive of [false, true]) {
    const how = keepalive ? 'keepalive' : 'no keepalive';

    test(`pods come and go, ${how}: every line names its pod`, async () => {
      const { scene, scenario } = stage();
      const row = await scenario(
        `pods come and go, ${how}`,
        { format: 'full', keepalive },
        async ({ sentTo }) => {
          const sent = sentTo({
            connections: 20,
            total: LINES,
            ratePerSecond: 1000,
            requests: mix('a', 'b'),
          });
          for (const pods of [[0, 1], [2, 3], [1], [0, 2, 3], [3], ALL]) {
            await delay(900);
            scene.setServices(SERVICES.map((s) => (s.name === 'a' || s.name === 'b' ? { ...s, pods } : s)));
          }
          await sent;
        },
      );
      scene.setServices(SERVICES);
      assertResolved(row, 'request-id', 0.999);
    });

    test(`a Service is deleted and its ClusterIP given to another, ${how}: every line names its pod`, async () => {
      const { scene, scenario } = stage();
      const { clusterIp } = scene.service('b');
      const given = (name: string, pods: readonly number[]): ServiceSpec[] => [
        ...without('b'),
        { name, port: 80, targetPort: 10000, pods, clusterIp },
      ];
      scene.setServices([
        ...without('b'),
        { name: 'b', port: 80, targetPort: 10000, pods: [0, 1], clusterIp },
      ]);
      const title = `ClusterIP given to another Service, ${how}`;
      const row = await scenario(title, { format: 'full', keepalive }, async ({ sentTo }) => {
        const sent = sentTo({ connections: 20, total: LINES, ratePerSecond: 1000, requests: mix('b') });
        for (const [name, pods] of [
          ['c', [2, 3]],
          ['d', [1, 2]],
          ['e', [0]],
        ] as const) {
          await delay(1500);
          scene.setServices(given(name, pods));
        }
        await sent;
      });
      scene.setServices(SERVICES);
      assertResolved(row, 'request-id', 0.999);
    });

    test(`nginx reloads, ${how}: every line names its pod`, async () => {
      const { scenario } = stage();
      const row = await scenario(
        `nginx reloads, ${how}`,
        { format: 'full', keepalive },
        async ({ sentTo, front }) => {
          const sent = sentTo({
            connections: 20,
            total: LINES,
            ratePerSecond: 1500,
            requests: mix('a', 'b'),
            keepalive: false,
          });
          for (let i = 0; i < 4; i++) {
            await delay(700);
            front.signal('reload');
          }
          await sent;
        },
      );
      assertResolved(row, 'request-id', 0.999);
    });
  }

  const withPorts = async (run: () => Promise<Row>): Promise<Row> => {
    const { scene } = stage();
    const range = (from: number, to: number) =>
      scene.runIn(scene.fronts[0]!, `sysctl -qw net.ipv4.ip_local_port_range="${from} ${to}"`);
    range(40_000, 40_149);
    // Otherwise TIME_WAIT keeps each port for a minute, and nginx soon has none left.
    scene.runIn(scene.fronts[0]!, 'sysctl -qw net.ipv4.tcp_tw_reuse=1');
    try {
      return await run();
    } finally {
      range(32_768, 60_999);
    }
  };

  test('150 source ports used again and again: every line names its pod', async () => {
    const row = await withPorts(() =>
      stage().scenario('150 source ports, by id', { format: 'full' }, ({ sentTo }) =>
        sentTo({ connections: 20, total: 1500, ratePerSecond: 80, requests: mix('a', 'b') }),
      ),
    );
    // Two connections that follow one another on a port may not be told apart.
    assertResolved(row, 'request-id', 0.98);
  });

  test('150 source ports used again and again, the port in the line: every line names its pod', async () => {
    const row = await withPorts(() =>
      stage().scenario(
        '150 source ports, by local port',
        {
          format: 'times',
          services: ['apart', 'solo'],
          withoutIdHeader: true,
          sidecarArgs: ['--local-port-field', LOCAL_PORT_FIELD],
        },
        ({ sentTo }) => sentTo({ connections: 10, total: 1500, ratePerSecond: 80, requests: mix('apart') }),
      ),
    );
    // The connection that had the port before can still have answered when this one opened; then the request decides.
    assert.ok(row.right >= 0.98 * row.attempts, JSON.stringify(row));
  });

  test('conntrack forgets connections that idle: right or left alone', async () => {
    const { scene, scenario } = stage();
    const established = (seconds: number) =>
      scene.runIn(scene.node, `sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_established=${seconds}`);
    established(2);
    try {
      const row = await scenario(
        'conntrack entries time out',
        // A request on a connection that conntrack forgot may meet another pod, which resets it; only tcpdump sees that.
        { format: 'full', keepalive: true, witnessed: true },
        async ({ sentTo }) => {
          for (let i = 0; i < 4; i++) {
            await sentTo({ connections: 20, total: 400, requests: mix('a', 'b') });
            await delay(3500);
          }
        },
      );
      assert.ok(row.right > 0.8 * row.attempts, JSON.stringify(row));
    } finally {
      established(432_000);
    }
  });
});

suite(
  'events are lost',
  {},
  (stage) => {
    for (const keepalive of [false, true]) {
      const title = `a tiny receive buffer and a helper that stands still, ${keepalive ? 'keepalive' : 'no keepalive'}`;
      test(`${title}: gaps are told, and no pod is named across them`, async () => {
        const { scenario, helper } = stage();
        const lost = () =>
          readMetrics(helper.get('/metrics').text)
            .filter(({ name }) => name === 'realpod_helper_overruns_total')
            .reduce((sum, { value }) => sum + value, 0);
        const before = lost();
        const row = await scenario(title, { format: 'full', keepalive }, async ({ sentTo }) => {
          const sent = sentTo({
            connections: 40,
            total: LINES,
            ratePerSecond: 1500,
            requests: mix('a', 'b'),
          });
          for (let i = 0; i < 3; i++) {
            await delay(600);
            helper.child.kill('SIGSTOP');
            await delay(300);
            helper.child.kill('SIGCONT');
          }
          await sent;
        });
        assert.ok(lost() > before, 'nothing was lost');
        assert.ok((row.reasons.gap ?? 0) > 0, JSON.stringify(row));
      });
    }
  },
  undefined,
  ['--receive-buffer', '16384'],
);
