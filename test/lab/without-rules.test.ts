/** `--tap-source auto` on a kernel that cannot run the tap's rules: Debian's without nft_log, in a virtual machine (vm/boot.ts). */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { CLI } from './kit/product.ts';
import { labCanRun } from './kit/requirements.ts';
import { type Row, writeResults } from './kit/results.ts';
import { assertResolved } from './kit/scenario.ts';
import { runInVm, VM, vmObstacle } from './vm/boot.ts';

const LIMIT_MS = 540_000;

describe('a kernel without rules', { skip: !labCanRun(VM, vmObstacle), timeout: LIMIT_MS + 30_000 }, () => {
  let rows: Row[] = [];
  after(() => writeResults('a kernel that cannot run the rules', rows));

  test('the tap reads a packet socket, says why, and lines name their pods', async () => {
    const script = `
echo 'install nft_log /bin/false' >/etc/modprobe.d/without-rules.conf
modprobe nf_conntrack_netlink
ip link set lo up
cd ${fileURLToPath(new URL('../..', import.meta.url))}
REALPOD_LAB_PATIENCE=15 REALPOD_LAB_CLI=${CLI} ${process.execPath} --import tsx test/lab/vm/without-rules.ts /realpod-vm/rows.json /realpod-vm/notes.txt`;
    const { console: said, files } = await runInVm(script, LIMIT_MS);
    const notes = files.get('notes.txt') ?? said.slice(-4000);
    rows = JSON.parse(files.get('rows.json') ?? '[]') as Row[];
    assert.match(
      notes,
      /tap +no +this kernel \(Linux 6\.1\S*\) cannot run the tap's rules: .*--tap-source packet/,
    );
    assert.match(notes, /tap +yes .*packet socket.*\(by rules not: this kernel/);
    assert.match(notes, /The tap reads a packet socket instead/);
    assert.equal(rows.length, 2, notes);
    for (const row of rows) assertResolved(row, 'request-id', 0.999);
  });
});
