import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ConfWatch } from '../../src/doctor/conf-watch.ts';
import { disk, loadFile } from '../../src/doctor/load.ts';

function conf(context: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), 'conf-watch-'));
  context.after(() => rmSync(dir, { recursive: true }));
  mkdirSync(join(dir, 'conf.d'));
  const main = join(dir, 'nginx.conf');
  const site = join(dir, 'conf.d', 'site.conf');
  writeFileSync(main, 'http { include conf.d/*.conf; }');
  writeFileSync(site, 'server { listen 80; }');
  const watch = new ConfWatch(main, loadFile(main, disk).texts);
  assert.ok(watch.isUnchanged(0));
  return { dir, main, site, watch };
}

test('a configuration that stays is unchanged', (context) => {
  const { watch } = conf(context);
  for (const now of [1, 999, 1_000, 5_000]) assert.ok(watch.isUnchanged(now));
});

test('a file that is written or replaced is seen at the next look, and for good', (context) => {
  const { dir, site, watch } = conf(context);
  writeFileSync(join(dir, 'new'), 'server { listen 81; }');
  renameSync(join(dir, 'new'), site);
  assert.equal(watch.isUnchanged(1), false);
  writeFileSync(site, 'server { listen 80; }');
  assert.equal(watch.isUnchanged(9_000), false);
});

test('a file that is gone is seen', (context) => {
  const { main, watch } = conf(context);
  rmSync(main);
  assert.equal(watch.isUnchanged(1), false);
});

test('a new file that an include names is seen within a second', (context) => {
  const { dir, watch } = conf(context);
  writeFileSync(join(dir, 'conf.d', 'more.conf'), 'server { listen 82; }');
  assert.equal(watch.isUnchanged(1_000), false);
});

test('of the output of nginx -T, the file itself is watched', (context) => {
  const { dir } = conf(context);
  const dump = join(dir, 'dump');
  writeFileSync(dump, '# configuration file /etc/nginx/nginx.conf:\nhttp { }\n');
  const watch = new ConfWatch(dump, loadFile(dump, disk).texts);
  assert.ok(watch.isUnchanged(0));
  writeFileSync(dump, '# configuration file /etc/nginx/nginx.conf:\nhttp { sendfile on; }\n');
  assert.equal(watch.isUnchanged(1), false);
});
