/**
 * The lab's core scenarios with kube-proxy in IPVS mode, to be run inside the virtual machine: `inside.ts ROWS NOTES`.
 * Writes the rows as JSON after each scenario, and what went wrong, if anything, to NOTES.
 */
import { writeFileSync } from 'node:fs';
import { LOCAL_PORT_FIELD } from '../kit/formats.ts';
import type { LoadPlan } from '../kit/load.ts';
import { startBackends } from '../kit/nginx.ts';
import { nodeLogRecords } from '../kit/node-log.ts';
import { startHelper } from '../kit/product.ts';
import type { Row } from '../kit/results.ts';
import { judge } from '../kit/scenario.ts';
import { createScene, type Scene } from '../kit/scene.ts';
import { useIpvs } from './kube-proxy-ipvs.ts';

const [rowsFile, notesFile] = process.argv.slice(2) as [string, string];
const EXTERNAL = '198.51.100.7';
const NODE_PORT = 30080;

const MIX: LoadPlan['requests'] = [
  { path: '/a/item/{n}', weight: 4 },
  { path: '/a/same', weight: 2 },
  { path: '/b/same', weight: 2 },
  { path: '/a/form', method: 'POST', bodyBytes: 600 },
  { path: '/b/status/500', weight: 0.3 },
];

async function run(scene: Scene): Promise<void> {
  const rows: Row[] = [];
  const failures: string[] = [];
  const { scenario } = judge(scene, rows);
  const attempt = async (name: string, steps: () => Promise<unknown>): Promise<void> => {
    try {
      await steps();
    } catch (error) {
      failures.push(`${name}: ${error instanceof Error ? error.message : String(error)}`);
    }
    writeFileSync(rowsFile, JSON.stringify(rows));
    writeFileSync(notesFile, failures.join('\n'));
  };
  await startBackends(scene, [10000, 10001, 10002]);
  let helper = await startHelper(scene);
  for (const keepalive of [false, true]) {
    const name = `IPVS, ${keepalive ? 'keepalive' : 'no keepalive'}`;
    await attempt(name, () =>
      scenario(name, { format: 'full', keepalive }, ({ sentTo }) =>
        sentTo({ connections: 20, total: 1500, requests: MIX }),
      ),
    );
  }
  const locations = `
    location /external/ { proxy_pass http://${EXTERNAL}:10000; }
    location /nodeport/ { proxy_pass http://${scene.node.ip}:${NODE_PORT}; }`;
  await attempt('IPVS, external IP and NodePort', () =>
    scenario('IPVS, external IP and NodePort', { format: 'full', locations }, ({ sentTo }) =>
      sentTo({
        connections: 10,
        total: 600,
        requests: [{ path: '/external/{n}' }, { path: '/nodeport/{n}' }],
      }),
    ),
  );
  await attempt('IPVS, sessionAffinity', () =>
    scenario('IPVS, sessionAffinity', { format: 'full', services: ['sticky', 'solo'] }, ({ sentTo }) =>
      sentTo({ connections: 10, total: 400, requests: [{ path: '/sticky/{n}' }] }),
    ),
  );
  await helper.stop();
  nodeLogRecords('1');
  for (const pod of scene.pods)
    scene.runIn(
      scene.node,
      `iptables -t nat -I POSTROUTING -d ${pod.ip} -j LOG --log-prefix "backend-service: "`,
    );
  helper = await startHelper(scene, ['--sources', 'kernel-log']);
  const options = {
    format: 'times',
    services: ['apart', 'solo'],
    withoutIdHeader: true,
    // The emulated helper is seconds behind.
    sidecarArgs: ['--local-port-field', LOCAL_PORT_FIELD, '--max-wait', '60s'],
  } as const;
  await attempt('IPVS, LOG rules alone', () =>
    scenario("IPVS, article's LOG rules alone, 50 requests/s", options, ({ sentTo }) =>
      sentTo({ connections: 10, total: 500, ratePerSecond: 50, requests: [{ path: '/apart/{n}' }] }),
    ),
  );
  await helper.stop();
}

const pods = [0, 1, 2, 3];
const scene = await createScene({
  pods: 4,
  services: [
    { name: 'a', port: 10000, targetPort: 10000, pods, externalIps: [EXTERNAL], nodePort: NODE_PORT },
    { name: 'b', port: 80, targetPort: 10000, pods },
    { name: 'solo', port: 10000, targetPort: 10001, pods: [0] },
    { name: 'sticky', port: 80, targetPort: 10000, pods, affinitySeconds: 60 },
    { name: 'apart', port: 10000, targetPort: 10002, pods },
  ],
});
try {
  useIpvs(
    scene,
    ['a', 'b', 'solo', 'sticky', 'apart'].map((name) => scene.service(name)),
  );
  await run(scene);
} catch (error) {
  writeFileSync(notesFile, error instanceof Error ? (error.stack ?? error.message) : String(error));
} finally {
  await scene.dispose();
}
