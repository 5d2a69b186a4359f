/** Requests that a flow table takes past the tap, on a kernel that has it: Debian's, in a virtual machine (vm/boot.ts). */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type Comparison, compare } from './kit/check.ts';
import { FORMATS } from './kit/formats.ts';
import { CLI } from './kit/product.ts';
import { labCanRun } from './kit/requirements.ts';
import { runInVm, VM, vmObstacle } from './vm/boot.ts';

const LIMIT_MS = 285_000;
const LOGS = ['full', 'times'] as const;

const NGINX = (http: string): string => `
user root;
worker_processes 1;
pid nginx.pid;
events { worker_connections 1024; }
http {
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  keepalive_requests 100000;
${http}
}`;

const FRONT = NGINX(`
${LOGS.map((name) => `  log_format ${name} '${FORMATS[name]}'; access_log ${name}.log ${name};`).join('\n')}
  upstream kept { server 10.105.148.194:10000; keepalive 16; keepalive_requests 100000; }
  proxy_set_header X-Request-ID $request_id;
  server {
    listen 8080;
    location /kept/ { proxy_http_version 1.1; proxy_set_header X-Request-ID $request_id; proxy_set_header Connection ""; proxy_pass http://kept; }
    location /fresh/ { proxy_pass http://10.105.148.194:10000; }
  }`);

const POD = NGINX(`
  access_log off;
  server {
    listen 10000;
    add_header X-Pod-Ip $server_addr; add_header X-Pod-Port $server_port; add_header X-Client-Port $remote_port;
    location / { return 200 "a short answer\\n"; }
  }`);

describe('a flow table', { skip: !labCanRun(VM, vmObstacle), timeout: LIMIT_MS + 60_000 }, () => {
  let dir: string;
  let files: ReadonlyMap<string, string>;
  let said = '';

  before(async () => {
    assert.ok(existsSync(CLI), `${CLI} is missing; run \`npm run build\` first`);
    dir = mkdtempSync(join(tmpdir(), 'realpod-flow-table-'));
    writeFileSync(join(dir, 'front.conf'), FRONT);
    for (const pod of ['pod0', 'pod1']) writeFileSync(join(dir, `${pod}.conf`), POD);
    const modules =
      'bridge veth nf_conntrack_netlink nfnetlink_log nf_flow_table nf_flow_table_inet nft_flow_offload nft_ct nft_chain_nat nft_numgen';
    const script = fileURLToPath(new URL('vm/flow-table.sh', import.meta.url));
    const run = await runInVm(
      `for module in ${modules}; do modprobe $module; done
ip link set lo up
sh ${script} ${dir} ${process.execPath} ${CLI} /realpod-vm`,
      LIMIT_MS,
    );
    ({ files } = run);
    said = run.console.slice(-4000);
    for (const [name, text] of files) writeFileSync(join(dir, name), text);
  });
  after(() => {
    if (dir) rmSync(dir, { recursive: true });
  });

  /** What the log becomes with this feed. */
  function judged(format: (typeof LOGS)[number], feed: string): Comparison {
    const log = join(dir, `${format}.log`);
    writeFileSync(join(dir, 'used.ndjson'), feed);
    const args = [CLI, 'enrich', log, '--feed', join(dir, 'used.ndjson'), '--log-format', FORMATS[format]];
    const run = spawnSync(process.execPath, args, { maxBuffer: 1 << 26 });
    assert.equal(run.status, 0, run.stderr.toString());
    const seen = compare(Buffer.from(files.get(`${format}.log`)!), run.stdout);
    if (process.env.REALPOD_LAB_ROWS) console.log(format, JSON.stringify(seen));
    return seen;
  }

  test('the flow table takes connections, and the helper says so', () => {
    assert.ok(Number(files.get('offloaded.txt')) > 0, said);
    assert.match(files.get('helper.txt')!, /the node has a flow table \(fastpath\/ft\)/);
    assert.match(files.get('helper.txt')!, /no flow table is left/);
  });

  for (const format of LOGS)
    test(`no line is named wrongly, ${format}`, () => {
      const seen = judged(format, files.get('feed.ndjson')!);
      assert.equal(seen.lines, 640, said);
      const { wrong, lost, repeated, altered } = seen;
      assert.deepEqual([wrong, lost, repeated, altered], [0, 0, 0, 0], seen.findings.join('\n'));
      // Before the flow table came, and after it was gone.
      if (format === 'full') assert.ok(seen.right >= 200, JSON.stringify(seen));
      // While it was there.
      assert.ok(seen.leftAlone >= 380, JSON.stringify(seen));
    });

  test('requests went past the tap, so its record needs the gaps', () => {
    const requests = files.get('feed.ndjson')!.match(/"kind":"request"/g)!.length;
    assert.ok(requests < 600, `${requests} of 640 were seen`);
  });
});
