/** The clock of the whole machine set under load: in a virtual machine (vm/boot.ts), as it is everybody's. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type FaultRow, writeFaults } from './kit/faults-table.ts';
import { labCanRun } from './kit/requirements.ts';
import { runInVm, VM, vmObstacle } from './vm/boot.ts';

const LIMIT_MS = 280_000;

describe('the clock is set', { skip: !labCanRun(VM, vmObstacle), timeout: LIMIT_MS + 20_000 }, () => {
  let rows: FaultRow[] = [];
  after(() =>
    writeFaults('the clock is set', rows, [
      'Debian 12 kernel in a virtual machine without hardware acceleration; 50 requests/s, one in thirteen takes two seconds.',
    ]),
  );

  test('by an hour either way, and by a little: no line lost, none wrong', async () => {
    const cli = process.env.REALPOD_LAB_CLI ?? fileURLToPath(new URL('../../dist/cli.js', import.meta.url));
    assert.ok(existsSync(cli), `${cli} is missing; run \`npm run build\` first`);
    const script = `
for module in nf_conntrack_netlink nfnetlink_log; do modprobe $module; done
ip link set lo up
cd ${fileURLToPath(new URL('../..', import.meta.url))}
REALPOD_LAB_PATIENCE=5 REALPOD_LAB_CLI=${cli} ${process.execPath} --import tsx test/lab/vm/clock.ts /realpod-vm/rows.json /realpod-vm/notes.txt`;
    const { console: said, files } = await runInVm(script, LIMIT_MS);
    rows = JSON.parse(files.get('rows.json') ?? '[]') as FaultRow[];
    const log = said.slice(-4000);
    assert.equal(files.get('notes.txt'), '', log);
    assert.equal(rows.length, 3, log);
    for (const { name, seen } of rows)
      assert.ok(seen.right > seen.lines / 3, `${name}: ${seen.right} of ${seen.lines} lines named`);
  });
});
