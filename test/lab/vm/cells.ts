/**
 * Cells of the table of networks with kube-proxy in IPVS mode, to be run inside the virtual machine: `cells.ts MODULE WHICH
 * ROWS NOTES`. MODULE: nginx-module, built. WHICH: the place in `cellNginxes`. Writes the rows as JSON after each one, and what
 * went wrong, if anything, to NOTES.
 */
import { writeFileSync } from 'node:fs';
import { type CellRow, cellNginxes, cellServices, runCells, startCellBackends } from '../kit/cells.ts';
import { startBackends } from '../kit/nginx.ts';
import { startHelper } from '../kit/product.ts';
import { createScene, type Scene } from '../kit/scene.ts';
import { useIpvs } from './kube-proxy-ipvs.ts';

const [module, which, rowsFile, notesFile] = process.argv.slice(2) as [string, string, string, string];
const PLAN = [
  { connections: 1, lines: 30 },
  { connections: 10, lines: 60 },
  { connections: 100, lines: 120 },
];
/** The emulated helper is seconds behind. */
const SIDECAR = ['--max-wait', '60s'];

async function run(scene: Scene): Promise<string[]> {
  const rows: CellRow[] = [];
  const failures: string[] = [];
  const nginx = cellNginxes(module)[Number(which)]!;
  if ('missing' in nginx) return [nginx.missing];
  await startBackends(scene, [10000, 10001]);
  await startCellBackends(scene);
  await startHelper(scene);
  const onRow = (row: CellRow): void => {
    rows.push(row);
    writeFileSync(rowsFile, JSON.stringify(rows));
    console.log(`${Math.round(process.uptime())} s: ${row.protocol}, ${row.connections}`);
  };
  for (const keepalive of [false, true])
    try {
      await runCells(scene, nginx, keepalive, { plan: PLAN, sidecarArgs: SIDECAR, onRow });
    } catch (error) {
      failures.push(`${nginx.protocols}, ${keepalive}: ${error instanceof Error ? error.message : error}`);
    }
  return failures;
}

const services = cellServices([0, 1, 2, 3]);
const scene = await createScene({ pods: 4, services });
let failures: string[];
try {
  useIpvs(
    scene,
    services.map(({ name }) => scene.service(name)),
  );
  failures = await run(scene);
} catch (error) {
  failures = [error instanceof Error ? (error.stack ?? error.message) : String(error)];
} finally {
  await scene.dispose();
}
writeFileSync(notesFile, failures.join('\n'));
