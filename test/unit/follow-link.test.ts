import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { beginning } from '../../src/follow/position.ts';
import { LogReader } from '../../src/follow/reader.ts';
import { openSink } from '../../src/write/open-sink.ts';

function scene(context: TestContext, mode: number) {
  const root = mkdtempSync(join(tmpdir(), 'realpod-link-'));
  context.after(() => rmSync(root, { recursive: true }));
  const volume = join(root, 'volume');
  mkdirSync(volume);
  chmodSync(volume, mode);
  const secret = join(root, 'token');
  writeFileSync(secret, 'the sidecar’s own token\n');
  const log = join(volume, 'access.log');
  const notices: string[] = [];
  const read = async (): Promise<string> => {
    const reader = new LogReader(log, {
      resume: beginning(0),
      onNotice: (level, text) => notices.push(`${level}: ${text}`),
    });
    let text = '';
    for (let block = await reader.look(true); block; block = await reader.look(true)) text += block.bytes;
    reader.close();
    return text;
  };
  return { volume, secret, log, notices, read };
}

test('a link out of a volume that everybody may write to is not followed', async (context) => {
  const { secret, log, notices, read } = scene(context, 0o777);
  symlinkSync(secret, log);
  assert.equal(await read(), '');
  assert.match(notices.join('\n'), /access\.log: cannot be opened \(it is a link out of .*volume/);
});

test('a link within that volume is', async (context) => {
  const { volume, log, read } = scene(context, 0o777);
  writeFileSync(join(volume, 'today.log'), 'a line\n');
  symlinkSync('today.log', log);
  assert.equal(await read(), 'a line\n');
});

test('where only its owner may write, a link out of the directory is the owner’s will', async (context) => {
  const { secret, log, read } = scene(context, 0o755);
  symlinkSync(secret, log);
  assert.equal(await read(), 'the sidecar’s own token\n');
});

test('nothing is written through a link out of a volume that everybody may write to', async (context) => {
  const { volume, secret, log } = scene(context, 0o777);
  const output = join(volume, 'enriched.log');
  symlinkSync(secret, output);
  await assert.rejects(openSink({ outputs: [output], log }), /it is a link out of /);
  renameSync(output, join(volume, 'elsewhere'));
  await (await openSink({ outputs: [output], log })).close();
});
