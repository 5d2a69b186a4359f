/**
 * A node whose kernel cannot run the tap's rules, to be run inside the virtual machine: `without-rules.ts ROWS NOTES`. There the
 * kernel is kept from loading what logs packets for nftables.
 */
import { writeFileSync } from 'node:fs';
import { startBackends } from '../kit/nginx.ts';
import { CLI, startHelper } from '../kit/product.ts';
import type { Row } from '../kit/results.ts';
import { judge } from '../kit/scenario.ts';
import { createScene } from '../kit/scene.ts';

const [rowsFile, notesFile] = process.argv.slice(2) as [string, string];
const notes: string[] = [];
const scene = await createScene({
  pods: 4,
  services: [
    { name: 'a', port: 10000, targetPort: 10000, pods: [0, 1, 2, 3] },
    { name: 'b', port: 80, targetPort: 10000, pods: [0, 1, 2, 3] },
    { name: 'solo', port: 10000, targetPort: 10001, pods: [0] },
  ],
});
try {
  await startBackends(scene, [10000, 10001]);
  for (const way of ['nflog', 'auto'])
    notes.push(
      scene.runIn(scene.node, `${process.execPath} ${CLI} helper --check --tap-source ${way} || true`),
    );
  const helper = await startHelper(scene, ['--tap-source', 'auto']);
  const rows: Row[] = [];
  const { scenario } = judge(scene, rows);
  for (const keepalive of [false, true]) {
    const name = `no rules, auto, ${keepalive ? 'keepalive' : 'no keepalive'}`;
    // The emulated helper is seconds behind.
    const sidecarArgs = ['--max-wait', '60s'];
    await scenario(name, { format: 'full', keepalive, sidecarArgs }, ({ sentTo }) =>
      sentTo({ connections: 10, total: 400, requests: [{ path: '/a/{n}' }, { path: '/b/same' }] }),
    );
  }
  writeFileSync(rowsFile, JSON.stringify(rows));
  notes.push(helper.said());
} catch (error) {
  notes.push(`failed: ${error instanceof Error ? error.message : String(error)}`);
} finally {
  writeFileSync(notesFile, notes.join('\n'));
  await scene.dispose();
}
