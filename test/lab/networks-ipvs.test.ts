/** The table of networks with kube-proxy in IPVS mode, on a kernel that has it: Debian's, in a virtual machine (vm/boot.ts). */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type CellRow, cellNginxes, cellTable } from './kit/cells.ts';
import { RESULTS } from './kit/networks.ts';
import { CLI } from './kit/product.ts';
import { labCanRun } from './kit/requirements.ts';
import { writeSection } from './kit/results.ts';
import { runInVm, VM, vmObstacle } from './vm/boot.ts';
import { compileLab } from './vm/compiled.ts';

const built = mkdtempSync(join(tmpdir(), 'realpod-cells-'));
const lab = join(built, 'lab');
after(() => rmSync(built, { recursive: true }));

const IPVS = 'IPVS';
const LIMIT_MS = 1_500_000;
/** In the order of `cellNginxes`. Each has a machine of its own. */
const NGINXES = ['h1, h2c, gRPC', 'TLS + port'];

describe(IPVS, {
  skip: !labCanRun(VM, vmObstacle),
  concurrency: false,
  timeout: 4 * LIMIT_MS + 60_000,
}, () => {
  const rows: CellRow[] = [];
  before(() => compileLab(lab));
  after(() => {
    if (rows.length > 0)
      writeSection(
        RESULTS,
        IPVS,
        `${cellTable(rows)}\n\nDebian 12 kernel in a virtual machine without hardware acceleration.`,
      );
  });

  for (const [i, what] of NGINXES.entries())
    for (const how of ['no keepalive', 'keepalive'])
      test(`${what}, ${how}`, async () => {
        const module = join(built, 'port.so');
        cellNginxes(module);
        const script = `
for each in ip_vs ip_vs_rr nf_conntrack_netlink nfnetlink_log nf_log_syslog; do modprobe $each; done
ip link set lo up
REALPOD_LAB_PATIENCE=15 REALPOD_LAB_CLI=${CLI} ${process.execPath} ${lab}/test/lab/vm/cells.js ${module} ${i} '${how}' /realpod-vm/rows.json /realpod-vm/notes.txt`;
        const { console: said, files } = await runInVm(script, LIMIT_MS);
        const found = JSON.parse(files.get('rows.json') ?? '[]') as CellRow[];
        rows.push(...found);
        if (process.env.REALPOD_LAB_ROWS) console.log(found.map((row) => JSON.stringify(row)).join('\n'));
        assert.equal(files.get('notes.txt'), '', said.slice(-4000));
      });
});
