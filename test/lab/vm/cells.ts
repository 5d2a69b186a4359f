/**
 * Cells of the table of networks with kube-proxy in IPVS mode, to be run inside the virtual machine: `cells.ts MODULE WHICH HOW
 * ROWS NOTES`. MODULE: nginx-module, built. WHICH: the place in `cellNginxes`. HOW: `keepalive` or not. Writes the rows as JSON
 * after each one, and what went wrong, if anything, to NOTES.
 */
import { writeFileSync } from 'node:fs';
import { type CellRow, cellNginxes, cellServices, runCells, startCellBackends } from '../kit/cells.ts';
import { startBackends } from '../kit/nginx.ts';
import { startHelper } from '../kit/product.ts';
import { createScene, type Scene } from '../kit/scene.ts';
import { useIpvs } from './kube-proxy-ipvs.ts';

const [module, which, how, rowsFile, notesFile] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  string,
];
const say = (what: string): void => console.log(`${Math.round(process.uptime())} s: ${what}`);
const PLAN = [
  { connections: 1, lines: 30 },
  { connections: 10, lines: 60 },
  { connections: 100, lines: 120 },
];
/** The emulated helper is seconds behind. */
const SIDECAR = ['--max-wait', '60s'];

async function run(scene: Scene): Promise<void> {
  const rows: CellRow[] = [];
  const nginx = cellNginxes(module)[Number(which)]!;
  if ('missing' in nginx) throw new Error(nginx.missing);
  await startBackends(scene, [10000, 10001]);
  await startCellBackends(scene);
  await startHelper(scene);
  say('backends and helper are up');
  const onRow = (row: CellRow): void => {
    rows.push(row);
    writeFileSync(rowsFile, JSON.stringify(rows));
    say(`${row.protocol}, ${row.connections}`);
  };
  await runCells(scene, nginx, how === 'keepalive', { plan: PLAN, sidecarArgs: SIDECAR, onRow });
}

const services = cellServices([0, 1, 2, 3]);
const scene = await createScene({ pods: 4, services });
let failure = '';
try {
  useIpvs(
    scene,
    services.map(({ name }) => scene.service(name)),
  );
  await run(scene);
} catch (error) {
  failure = error instanceof Error ? (error.stack ?? error.message) : String(error);
} finally {
  await scene.dispose();
}
writeFileSync(notesFile, failure);
