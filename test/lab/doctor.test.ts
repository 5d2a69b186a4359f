/** What `realpod doctor` advises, done to a real nginx: its patch, and the command that it says to start. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { LoadPlan } from './kit/load.ts';
import { FRONT_PORT, type Nginx, startBackends, startNginx, until } from './kit/nginx.ts';
import { caughtUp, countLines, startHelper, startSidecar } from './kit/product.ts';
import { labCanRun } from './kit/requirements.ts';
import { createScene, type Pod, type Scene } from './kit/scene.ts';
import { load } from './kit/traffic.ts';
import { readServed } from './kit/truth.ts';

const CLI = fileURLToPath(new URL('../../dist/cli.js', import.meta.url));
const TOTAL = 3_000;

/** As people have it: the usual format, headers set where they were needed, one include a site. */
const http = (dir: string) => `
  log_format main '$remote_addr - $remote_user [$time_local] "$request" $status $upstream_addr $body_bytes_sent '
                  '"$http_referer" "$http_user_agent"';
  access_log ${dir}/access.log main;
  map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
  include ${dir}/conf.d/*.conf;`;

const files = (scene: Scene): Record<string, string> => ({
  'snippets/proxy.conf': `proxy_http_version 1.1;
proxy_set_header Host $host;
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
proxy_set_header Connection "";
`,
  'conf.d/10-upstreams.conf': `upstream orders { server ${scene.service('a').address}; keepalive 16; }
upstream catalog {
  server ${scene.service('b').address};
}
`,
  'conf.d/20-shop.conf': `server {
  listen ${FRONT_PORT};
  include snippets/proxy.conf;

  location /orders/ { proxy_pass http://orders; }
  # Its own headers replace the snippet's.
  location /catalog/ {
    proxy_set_header Host catalog.internal;
    proxy_set_header Connection $connection_upgrade;
    proxy_pass http://catalog;
  }
  location ~ ^/old/(?<rest>.*)$ {
    proxy_pass http://orders/orders/$rest;
  }
  location /private/ {
    auth_request /_auth;
    proxy_pass http://orders;
  }
  location = /_auth {
    internal;
    proxy_pass http://catalog/auth;
    proxy_pass_request_body off;
    proxy_set_header Content-Length "";
  }
  location = /healthz { access_log off; return 200 "ok\\n"; }
}
`,
});

/** The id as the patched format has it, with the times behind it. */
const ID = / ([0-9a-f]{32}) \d+\.\d{3} \d+\.\d{3} "/;

const REQUESTS: LoadPlan['requests'] = [
  { path: '/orders/{n}', weight: 3 },
  { path: '/orders/form', method: 'POST', bodyBytes: 500 },
  { path: '/catalog/{n}', weight: 3 },
  { path: '/old/{n}', weight: 2 },
  { path: '/private/{n}', weight: 1 },
];

describe('the doctor', { skip: !labCanRun(['patch:patch']), concurrency: false, timeout: 300_000 }, () => {
  let scene: Scene;
  let nginx: Nginx;
  before(async () => {
    scene = await createScene({
      pods: 4,
      services: [
        { name: 'a', port: 10000, targetPort: 10000, pods: [0, 1, 2, 3] },
        { name: 'b', port: 80, targetPort: 10000, pods: [0, 1, 2, 3] },
      ],
    });
    await startBackends(scene, [10000]);
    await startHelper(scene);
    const dir = join(scene.dir, 'front');
    for (const [name, text] of Object.entries(files(scene))) {
      const path = join(dir, name);
      mkdirSync(join(path, '..'), { recursive: true });
      writeFileSync(path, text);
    }
    nginx = await startNginx(scene, scene.fronts[0]!, dir, { workers: 1, http: http(dir) });
  });
  after(() => scene?.dispose());

  /** `nginx -T | realpod doctor` */
  function doctor(...args: string[]): { code: number | null; text: string } {
    const dump = scene.runIn(
      scene.fronts[0]!,
      `nginx -T -e ${nginx.dir}/error.log -c ${nginx.dir}/nginx.conf 2>/dev/null`,
    );
    const run = spawnSync(process.execPath, [CLI, 'doctor', ...args], { input: dump, encoding: 'latin1' });
    return { code: run.status, text: run.stdout };
  }

  test('realpod helper --check says what the node can give, beside a helper that runs', async () => {
    await load(scene, { total: 20, connections: 4, requests: REQUESTS });
    const check = (where: Pod, ...args: string[]): string =>
      scene.runIn(where, `${process.execPath} ${CLI} helper --check ${args.join(' ')} || echo ended with $?`);
    const text = check(scene.node);
    assert.match(
      text,
      /^conntrack +yes {2}\d+ connections are tracked, [1-9]\d* of them with a translated destination$/m,
    );
    assert.match(text, /^tap +yes {2}another realpod helper uses it on this node$/m);
    assert.match(text, /^flow tables +none: /m);
    assert.match(text, /\nThis node can give all of --sources conntrack,tap\.\n$/);
    // A group of its own makes no difference: the table is the node's.
    assert.match(check(scene.node, '--tap-group', '9'), /^tap +yes {2}another realpod helper/m);
    assert.match(check(scene.fronts[0]!), /^tap +yes {2}the kernel can copy requests /m);
    assert.match(
      check(scene.node, '--kernel-log', '/dev/nothing', '--sources', 'kernel-log'),
      /^kernel-log +no .*\nThis node cannot give kernel-log of --sources kernel-log\.\nended with 1\n$/ms,
    );
  });

  /** The options of the sidecar that the report says to start, as a shell reads them. */
  function advised(report: string): string[] {
    const line = /^ {2}realpod sidecar (.*)$/m.exec(report)?.[1];
    assert.ok(line, report);
    return spawnSync('sh', ['-c', `printf '%s\\0' ${line}`], { encoding: 'latin1' })
      .stdout.split('\0')
      .slice(0, -1);
  }

  test('a poor configuration is told so, and its patch makes every line exact', async () => {
    const pod = scene.fronts[0]!;
    const poor = doctor();
    assert.equal(poor.code, 1, poor.text);
    assert.match(poor.text, /5 proxying locations: /);
    assert.doesNotMatch(poor.text.split('\n')[0]!, /exact/);
    const sidecarOf = (report: string) => {
      const [, accessLog, , format] = advised(report) as [string, string, string, string];
      assert.equal(accessLog, nginx.accessLog);
      return startSidecar(scene, pod, { accessLog, format, dir: join(scene.dir, 'sidecar') });
    };
    const logged = readFileSync(join(nginx.dir, 'nginx.conf'), 'latin1');

    const patch = doctor('--fix');
    assert.equal(patch.code, 0, patch.text);
    const applied = spawnSync('patch', ['-p0', '-d', '/'], { input: patch.text, encoding: 'latin1' });
    assert.equal(applied.status, 0, applied.stdout + applied.stderr);
    assert.notEqual(readFileSync(join(nginx.dir, 'nginx.conf'), 'latin1'), logged);
    const cured = doctor();
    assert.equal(cured.code, 0, cured.text);
    assert.match(cured.text, /5 proxying locations: 4 exact \(request-id\), 1 not applicable\n/);
    assert.equal(doctor('--fix').text, '');

    nginx.signal('reload');
    const probe = (): string => {
      scene.runIn(scene.client, `curl -s http://${pod.ip}:${FRONT_PORT}/orders/probe`);
      return readFileSync(nginx.accessLog, 'latin1').trimEnd().split('\n').at(-1)!;
    };
    await until('nginx to log ids', () => ID.test(probe()));
    const sidecar = await sidecarOf(cured.text);
    await until('a line to be resolved', () => {
      probe();
      return (sidecar.counts().evidence['request-id'] ?? 0) > 0;
    });
    await caughtUp(sidecar);
    const from = countLines(nginx.accessLog);
    const done = await load(scene, { connections: 20, total: TOTAL, requests: REQUESTS });
    assert.deepEqual(done.statuses, { 200: TOTAL });
    await caughtUp(sidecar);
    // The backends flush their logs every 200 ms.
    await delay(250);
    const { byId } = readServed(
      scene.pods.map(({ name }) => readFileSync(join(scene.dir, name, 'served.log'), 'latin1')),
    );
    const lines = (path: string) => readFileSync(path, 'latin1').split('\n').slice(from, -1);
    const after = lines(sidecar.output);
    let right = 0;
    lines(nginx.accessLog).forEach((line, i) => {
      if (after[i] === line) return;
      const [, target, upstream] = /"\S+ (\S+) HTTP\/1.1" 200 (\S+) /.exec(line)!;
      const id = ID.exec(line)![1]!;
      const uri = target!.replace(/^\/old\//, '/orders/');
      const truth = byId.get(id)?.find((sighting) => sighting.uri === uri)?.pod;
      assert.equal(after[i], line.replace(` 200 ${upstream} `, ` 200 ${truth} `));
      right++;
    });
    console.log(`doctor: ${right} of ${TOTAL} lines resolved and right, ${after.length - right} left alone`);
    assert.equal(after.length, TOTAL);
    assert.ok(right >= 0.999 * TOTAL, JSON.stringify(sidecar.counts()));
    assert.ok((sidecar.counts().evidence['request-id'] ?? 0) >= right);
  });
});
