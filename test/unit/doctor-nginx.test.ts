/**
 * The fixtures and the patches against the real nginx (`nginx -t`), in a mount namespace of its own where /etc/nginx,
 * /var/log/nginx, /run and /etc/hosts are temporary. Needs root, unshare, nginx and patch; without them it is skipped,
 * but under CI an error.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type DoctorIo, processIo, run } from '../../src/doctor/command.ts';
import { examine } from '../../src/doctor/fix.ts';
import { fromDisk, fromDump } from '../../src/doctor/sources.ts';
import { skipBecause } from '../required.ts';

const ROOT = new URL('../fixtures/nginx-conf/', import.meta.url).pathname;
const NAMES = { field: 'request_id', header: 'X-Request-ID' };
/** What nginx says without the module or the build that these need, which a distribution's package lacks. */
const SPECIAL: ReadonlyMap<string, RegExp> = new Map([
  ['stream', /unknown directive "stream"/],
  ['ingress-lua', /unknown directive "lua_package_path"/],
  ['local-port', /unknown "upstream_local_port" variable/],
]);

const work = mkdtempSync(join(tmpdir(), 'doctor-nginx-'));
after(() => rmSync(work, { recursive: true, force: true }));

function missing(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root for a mount namespace';
  for (const tool of ['unshare', 'nginx', 'patch']) {
    if (spawnSync('sh', ['-c', `command -v ${tool}`]).status !== 0) return `${tool} is not installed`;
  }
  return spawnSync('unshare', ['-m', 'mount', '-t', 'tmpfs', 't', '/run']).status === 0
    ? undefined
    : 'mount namespaces are not allowed here';
}

/** Names that nginx resolves when it reads the configuration. */
function hosts(directory: string): string {
  const names = new Set(['localhost']);
  for (const { routes } of [
    examine(fromDisk(join(directory, 'nginx.conf'), processIo), NAMES, false).model,
  ]) {
    for (const { chain, pass } of routes) {
      const texts = [pass, ...chain[0]!.entries.map((e) => e.directive).flatMap((d) => d.children ?? [])];
      for (const text of texts.map((d) => d.args[0]?.text ?? '')) {
        for (const match of text.matchAll(/[a-z][a-z0-9-]*(?:\.[a-z0-9-]+)+/g)) names.add(match[0]);
      }
    }
  }
  return [...names].map((name) => `127.0.0.1 ${name}\n`).join('');
}

function prepare(name: string): string {
  const base = join(work, name);
  cpSync(join(ROOT, name), join(base, 'etc'), { recursive: true });
  mkdirSync(join(base, 'log'));
  for (const file of ['mime.types', 'fastcgi_params']) {
    if (existsSync(`/etc/nginx/${file}`)) cpSync(`/etc/nginx/${file}`, join(base, 'etc', file));
  }
  writeFileSync(join(base, 'hosts'), hosts(join(base, 'etc')));
  if (readFileSync(join(base, 'etc/nginx.conf'), 'utf8').includes('tls/tls.crt')) {
    const tls = join(base, 'etc/tls');
    mkdirSync(tls);
    const subject = ['-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '1', '-subj', '/CN=test'];
    execFileSync('openssl', ['req', ...subject, '-keyout', `${tls}/tls.key`, '-out', `${tls}/tls.crt`], {
      stdio: 'ignore',
    });
  }
  return base;
}

function nginx(base: string, flag: '-t' | '-T'): { ok: boolean; out: string; errors: string } {
  const mounts = [
    'mount --bind etc /etc/nginx',
    'mount --bind log /var/log/nginx',
    'mount --bind hosts /etc/hosts',
    'mount -t tmpfs t /run',
  ];
  // Into a file: nginx opens /dev/stdout by name, which a socket refuses.
  const script = [...mounts, `exec nginx ${flag} > out`].join(' && ');
  const result = spawnSync('unshare', ['-m', 'sh', '-c', script], { cwd: base, encoding: 'latin1' });
  return { ok: result.status === 0, out: readFileSync(join(base, 'out'), 'latin1'), errors: result.stderr };
}

async function doctor(input: string, fix: boolean): Promise<{ code: number; out: string }> {
  const chunks: Uint8Array[] = [];
  const io: DoctorIo = { ...processIo, stdout: (b) => void chunks.push(b), stderr: () => undefined };
  const code = await run({ input, fix, color: false }, io);
  return { code, out: Buffer.concat(chunks).toString('latin1') };
}

const lacking = missing();
const skip = lacking === undefined ? false : skipBecause(lacking);

for (const entry of readdirSync(ROOT, { withFileTypes: true })) {
  if (!entry.isDirectory()) continue;
  const name = entry.name;
  test(`${name}: nginx accepts it before and after the patch`, { skip }, async () => {
    const base = prepare(name);
    const conf = join(base, 'etc/nginx.conf');
    const first = nginx(base, '-t');
    const refusal = SPECIAL.get(name);
    // Nothing else may be wrong with it.
    if (!first.ok && refusal) {
      assert.match(first.errors.split('\n')[0] ?? '', refusal);
      return;
    }
    assert.ok(first.ok, first.errors);

    const dump = nginx(base, '-T');
    const view = (sources: Parameters<typeof examine>[0]) =>
      examine(sources, NAMES, false).findings.map((f) => [f.target.text, f.grade]);
    assert.deepEqual(
      view(fromDump(dump.out)),
      view(fromDisk(conf, processIo)),
      'the dump says what the files say',
    );

    const { out: patch, code: promised } = await doctor(conf, true);
    if (patch !== '') {
      const applied = spawnSync('patch', ['-p0', '-d', '/'], { input: Buffer.from(patch, 'latin1') });
      assert.equal(applied.status, 0, `${applied.stdout}${applied.stderr}`);
    }
    const second = nginx(base, '-t');
    assert.ok(second.ok, second.errors);
    assert.equal((await doctor(conf, false)).code, promised);
    assert.equal((await doctor(conf, true)).out, '');
  });
}
