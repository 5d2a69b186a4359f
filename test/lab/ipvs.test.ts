/** kube-proxy's IPVS mode, on a kernel that has it: Debian's, in a virtual machine (vm/boot.ts). */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { labCanRun } from './kit/requirements.ts';
import { type Row, writeResults } from './kit/results.ts';
import { assertResolved } from './kit/scenario.ts';
import { runInVm, VM, vmObstacle } from './vm/boot.ts';

const LIMIT_MS = 1_500_000;

describe('IPVS', { skip: !labCanRun(VM, vmObstacle), timeout: LIMIT_MS + 60_000 }, () => {
  let rows: Row[] = [];
  after(() =>
    writeResults('IPVS', rows, ['Debian 12 kernel in a virtual machine without hardware acceleration']),
  );

  test('every line names its pod or is left alone', async () => {
    const cli = process.env.REALPOD_LAB_CLI ?? fileURLToPath(new URL('../../dist/cli.js', import.meta.url));
    assert.ok(existsSync(cli), `${cli} is missing; run \`npm run build\` first`);
    const script = `
for module in ip_vs ip_vs_rr nf_conntrack_netlink nfnetlink_log nf_log_syslog; do modprobe $module; done
ip link set lo up
cd ${fileURLToPath(new URL('../..', import.meta.url))}
REALPOD_LAB_PATIENCE=15 REALPOD_LAB_CLI=${cli} ${process.execPath} --import tsx test/lab/vm/inside.ts /realpod-vm/rows.json /realpod-vm/notes.txt`;
    const { console: said, files } = await runInVm(script, LIMIT_MS);
    rows = JSON.parse(files.get('rows.json') ?? '[]') as Row[];
    const log = said.slice(-4000);
    assert.equal(files.get('notes.txt'), '', log);
    assert.equal(rows.length, 5, log);
    for (const row of rows) assert.equal(row.wrong, 0, row.findings.join('\n'));
    for (const row of rows.slice(0, 4)) assertResolved(row, 'request-id', 0.999);
    assertResolved(rows[4]!, 'source-port', 0.99);
  });
});
