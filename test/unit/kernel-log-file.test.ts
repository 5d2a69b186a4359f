import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { MessageReading } from '../../src/capture/kernel-log/messages.ts';
import { SyslogFile } from '../../src/capture/kernel-log/syslog-file.ts';

/** A syslog file with what `lines` adds to it; what was read of it, and what the operator was shown. */
async function read(lines: string): Promise<{ reading: MessageReading; notices: string[] }> {
  const dir = mkdtempSync(join(tmpdir(), 'realpod-syslog-'));
  const path = join(dir, 'kern.log');
  writeFileSync(path, 'before\n');
  const notices: string[] = [];
  const file = new SyslogFile(path, Date.now, (level, text) => notices.push(`${level} ${text}`));
  try {
    appendFileSync(path, `${lines}Nov 23 05:14:19 node kernel: last\n`);
    await new Promise<void>((resolve) => file.watch(resolve));
    return { reading: await file.read(), notices };
  } finally {
    file.close();
    rmSync(dir, { recursive: true, force: true });
  }
}

test('a file whose layout is not known is said once, with a line of it, and counted', async () => {
  const { reading, notices } = await read('{"msg":"IN= OUT=cni0 SRC=10.0.0.1"}\n{"msg":"more"}\n');
  assert.equal(reading.unknownLayout, 2);
  assert.equal(reading.messages.length, 1);
  const said = notices.filter((notice) => notice.includes('layout'));
  assert.equal(said.length, 1);
  assert.match(said[0]!, /^warn .*kern\.log: the layout of its lines is not known.*SRC=10\.0\.0\.1/);
});

test('lines of other programs are counted, and no reason to warn', async () => {
  const { reading, notices } = await read('Nov 23 05:14:18 node sshd[1]: hello\nodd\n');
  assert.deepEqual([reading.notKernel, reading.unknownLayout], [1, 1]);
  assert.deepEqual(notices, []);
});
