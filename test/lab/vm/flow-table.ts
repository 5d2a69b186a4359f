/**
 * A flow table on the node, as kube-proxy's nftables fast path has one (KEP-4963), to be run inside the virtual machine:
 * `flow-table.ts ROWS NOTES FORMAT`. Kept connections of many packets go past the tap, fresh ones do not.
 */
import { writeFileSync } from 'node:fs';
import type { FormatName } from '../kit/formats.ts';
import { startBackends, until } from '../kit/nginx.ts';
import { countLines, startHelper } from '../kit/product.ts';
import type { Row } from '../kit/results.ts';
import { judge } from '../kit/scenario.ts';
import { createScene, type Scene } from '../kit/scene.ts';

const [rowsFile, notesFile, format] = process.argv.slice(2) as [string, string, FormatName];
const TABLE = 'table inet fastpath';
const REQUESTS = [{ path: '/a/kept/{n}' }, { path: '/a/same' }, { path: '/fresh/{n}' }];

const begin = (scene: Scene): void => {
  scene.runIn(
    scene.node,
    `nft "${TABLE} {
  flowtable ft { hook ingress priority 0; devices = { cni0 }; }
  chain forward { type filter hook forward priority 0; ct packets > 20 flow add @ft; }
}"`,
  );
};
const end = (scene: Scene): void => {
  scene.runIn(scene.node, `nft delete ${TABLE}`);
};
const offloaded = (scene: Scene): number =>
  Number(scene.runIn(scene.node, 'conntrack -L -p tcp 2>/dev/null | grep -c OFFLOAD || true'));

async function run(scene: Scene): Promise<void> {
  const rows: Row[] = [];
  const failures: string[] = [];
  const { scenario } = judge(scene, rows);
  await startBackends(scene, [10000, 10001]);
  await startHelper(scene);
  console.log(`helper after ${Math.round(process.uptime())} s`);
  const fresh = `location /fresh/ { proxy_http_version 1.0; proxy_set_header Connection close; proxy_pass http://${scene.service('a').address}/a/; }`;
  writeFileSync(notesFile, 'it was under way');
  try {
    await scenario(
      `a flow table comes and goes, ${format}`,
      { format, keepalive: true, services: ['a', 'solo'], locations: fresh },
      async ({ sentTo, front }) => {
        const before = countLines(front.accessLog);
        const written = (count: number) =>
          until(`${count} lines`, () => countLines(front.accessLog) >= before + count);
        // One load: to start a program takes many seconds here.
        const sent = sentTo({ connections: 10, ratePerSecond: 60, total: 700, requests: REQUESTS });
        sent.catch(() => {});
        await written(150);
        begin(scene);
        console.log(`flow table after ${Math.round(process.uptime())} s`);
        await written(500);
        const taken = offloaded(scene);
        end(scene);
        if (taken === 0) failures.push('no connection was in the flow table');
        console.log(`${taken} connections were in the flow table`);
        await sent;
      },
    );
  } catch (error) {
    failures.push(error instanceof Error ? error.message : String(error));
  }
  writeFileSync(rowsFile, JSON.stringify(rows));
  writeFileSync(notesFile, failures.join('\n'));
}

const scene = await createScene({
  pods: 2,
  services: [
    { name: 'a', port: 10000, targetPort: 10000, pods: [0, 1] },
    { name: 'solo', port: 10000, targetPort: 10001, pods: [0] },
  ],
});
try {
  scene.runIn(scene.node, 'sysctl -qw net.netfilter.nf_conntrack_acct=1');
  await run(scene);
} catch (error) {
  writeFileSync(notesFile, error instanceof Error ? (error.stack ?? error.message) : String(error));
} finally {
  await scene.dispose();
}
