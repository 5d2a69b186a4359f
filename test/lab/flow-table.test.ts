/** Requests that a flow table takes past the tap, on a kernel that has it: Debian's, in a virtual machine (vm/boot.ts). */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { labCanRun } from './kit/requirements.ts';
import { type Row, writeResults } from './kit/results.ts';
import { assertResolved } from './kit/scenario.ts';
import { runInVm, VM, vmObstacle } from './vm/boot.ts';

const LIMIT_MS = 285_000;

describe('a flow table', { skip: !labCanRun(VM, vmObstacle), concurrency: false }, () => {
  const rows: Row[] = [];
  after(() =>
    writeResults('a flow table', rows, [
      'Debian 12 kernel in a virtual machine without hardware acceleration',
    ]),
  );

  for (const format of ['full', 'times'] as const)
    test(`while it takes requests past the tap no line is named wrongly, ${format}`, {
      timeout: LIMIT_MS + 20_000,
    }, async () => {
      const cli = process.env.REALPOD_LAB_CLI ?? fileURLToPath(new URL('../../dist/cli.js', import.meta.url));
      assert.ok(existsSync(cli), `${cli} is missing; run \`npm run build\` first`);
      const script = `
for module in nf_conntrack_netlink nfnetlink_log nf_flow_table nf_flow_table_inet nft_flow_offload nft_ct; do modprobe $module; done
ip link set lo up
cd ${fileURLToPath(new URL('../..', import.meta.url))}
REALPOD_LAB_PATIENCE=15 REALPOD_LAB_CLI=${cli} ${process.execPath} --import tsx test/lab/vm/flow-table.ts /realpod-vm/rows.json /realpod-vm/notes.txt ${format}`;
      const { console: said, files } = await runInVm(script, LIMIT_MS);
      const seen = JSON.parse(files.get('rows.json') ?? '[]') as Row[];
      rows.push(...seen);
      if (process.env.REALPOD_LAB_ROWS) console.log(JSON.stringify(seen));
      assert.equal(files.get('notes.txt'), '', `${JSON.stringify(seen)}\n${said.slice(-4000)}`);
      const [row] = seen;
      assert.ok(row, said.slice(-4000));
      assert.equal(row.wrong, 0, row.findings.join('\n'));
      assert.ok((row.reasons.gap ?? 0) > 100, JSON.stringify(row));
      // Before the flow table came, and after it was gone.
      if (format === 'full') assertResolved(row, 'request-id', 0.25);
    });
});
