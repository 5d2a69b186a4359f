/**
 * More scenes in which the record is not whole: HTTP/2 by `proxy_http_version 2` of the newest nginx, and downloads whose
 * upstream part was over before helper and sidecar started. Whatever is named must be right.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { skipBecause } from '../required.ts';
import { compare } from './kit/check.ts';
import { FORMATS } from './kit/formats.ts';
import { startBackends, startFront, startNginx, until } from './kit/nginx.ts';
import { type NginxBuild, newestNginx } from './kit/nginx-build.ts';
import { caughtUp, countLines, type Program, startHelper, startSidecar } from './kit/product.ts';
import { labCanRun } from './kit/requirements.ts';
import { writeResults } from './kit/results.ts';
import { type Judge, judge } from './kit/scenario.ts';
import { createScene, endChild, type Pod, type Scene } from './kit/scene.ts';
import { load } from './kit/traffic.ts';

/** HTTP/1 and HTTP/2 on one port: nginx reads a body whole before it passes the request on to itself. */
async function startBoth(scene: Scene, pod: Pod, build: NginxBuild): Promise<void> {
  const dir = join(scene.dir, `both-${pod.name}`);
  const inner = join(dir, 'inner.sock');
  await startNginx(scene, pod, dir, {
    workers: 1,
    build,
    http: `
  access_log off;
  client_max_body_size 64m;
  server {
    listen 10010 backlog=4096;
    http2 on;
    add_header X-Pod-Ip $server_addr always; add_header X-Pod-Port $server_port always; add_header X-Client-Port $remote_port always;
    location / { proxy_pass http://unix:${inner}:; }
  }
  server { listen unix:${inner}; location / { return 200 "by one of two protocols\\n"; } }`,
  });
}

describe('a record that is not whole', { skip: !labCanRun(), concurrency: false, timeout: 400_000 }, () => {
  let scene: Scene;
  let helper: Program;
  let scenario: Judge['scenario'];
  const rows: Judge['rows'] = [];
  const newest = labCanRun() ? newestNginx() : undefined;

  before(async () => {
    scene = await createScene({
      pods: 4,
      services: [
        { name: 'a', port: 10000, targetPort: 10000, pods: [0, 1, 2, 3] },
        { name: 'both', port: 10000, targetPort: 10010, pods: [0, 1, 2, 3] },
        { name: 'solo', port: 10000, targetPort: 10001, pods: [0] },
      ],
    });
    await startBackends(scene, [10000, 10001]);
    if (newest) await Promise.all(scene.pods.map((pod) => startBoth(scene, pod, newest)));
    helper = await startHelper(scene);
    ({ scenario } = judge(scene, rows));
  });
  after(async () => {
    await scene?.dispose();
    writeResults('a record that is not whole', rows);
  });

  const skip = newest ? false : skipBecause('no newest nginx here');
  /** HTTP/2 and HTTP/1 to one Service; an `auth_request` over HTTP/1 goes before the HTTP/2 one. */
  const both = (auth: boolean): string => `
    location /both/h2/ {
      ${auth ? 'auth_request /both/auth;' : ''}
      proxy_http_version 2; proxy_pass http://both_h2;
    }
    location = /both/auth {
      internal; proxy_pass http://svc_both; proxy_pass_request_body off; proxy_set_header Content-Length "";
      proxy_set_header Connection ""; proxy_set_header X-Request-ID $request_id;
    }`;
  for (const auth of [true, false])
    for (const format of ['full', 'times', 'article'] as const) {
      const name = `proxy_http_version 2 beside HTTP/1, ${auth ? 'auth_request, ' : ''}${format}`;
      test(name, { skip }, async () => {
        await scenario(
          name,
          {
            format,
            keepalive: true,
            services: ['both', 'solo'],
            locations: both(auth),
            // A group that both protocols share would send HTTP/1 over a kept HTTP/2 connection.
            http: `upstream both_h2 { server ${scene.service('both').address}; keepalive 256; }`,
            build: newest!,
          },
          ({ sentTo }) =>
            sentTo({
              total: 600,
              ratePerSecond: 200,
              connections: 20,
              requests: [
                { path: '/both/h2/{n}' },
                { path: '/both/h2/post', method: 'POST', bodyBytes: 70_000 },
                { path: '/both/h1/{n}' },
                { path: '/both/h1/post', method: 'POST', bodyBytes: 60_000 },
              ],
            }),
        );
      });
    }

  for (const keepalive of [false, true])
    test(`downloads whose upstream part was over before helper and sidecar started, ${keepalive ? 'keepalive' : 'no keepalive'}`, async () => {
      await endChild(helper.child);
      const pod = scene.fronts[0]!;
      const dir = join(scene.dir, `early-${keepalive}`);
      const format = FORMATS.article;
      const front = await startFront(scene, pod, dir, {
        format,
        keepalive,
        services: ['a', 'solo'],
        // nginx has the answer at once and passes it on in 20 seconds.
        locations: 'location /a/slow/ { limit_rate 52k; proxy_pass http://svc_a/size/1048576?; }',
      });
      try {
        const slow = load(scene, { connections: 8, total: 8, requests: [{ path: '/a/slow/{n}' }] });
        slow.catch(() => {});
        await until(
          'all downloads to be under way',
          () => scene.runIn(pod, "ss -Htn state established 'sport = :8080' | wc -l").trim() === '8',
        );
        await load(scene, { connections: 1, total: 4, ratePerSecond: 2, requests: [{ path: '/a/same' }] });
        helper = await startHelper(scene);
        const sidecar = await startSidecar(scene, pod, {
          accessLog: front.accessLog,
          format,
          dir: join(dir, 'sidecar'),
        });
        const requests = [{ path: '/a/same' }];
        // A single connection to a single pod, so that the record alone would name that pod for all of them.
        await load(scene, { connections: 1, total: keepalive ? 30 : 1, ratePerSecond: 2, requests });
        await slow;
        await until('the last line', () => countLines(front.accessLog) >= (keepalive ? 42 : 13));
        await caughtUp(sidecar);
        const seen = compare(readFileSync(front.accessLog), readFileSync(sidecar.output));
        const { evidence, reasons } = sidecar.counts();
        const row = { scenario: `downloads older than the record, ${keepalive}`, ...seen, evidence, reasons };
        rows.push(row);
        if (process.env.REALPOD_LAB_ROWS) console.log(JSON.stringify(row));
        await sidecar.stop();
        assert.deepEqual([row.wrong, row.lost, row.altered], [0, 0, 0], row.findings.join('\n'));
      } finally {
        await front.stop();
      }
    });
});
