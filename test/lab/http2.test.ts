/**
 * HTTP/2 without TLS to the pods, by `grpc_pass` and by `proxy_http_version 2` of the newest nginx: the requests are read for
 * their ids, whatever clients write into bodies. The truth beside every line.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { skipBecause } from '../required.ts';
import type { LoadPlan } from './kit/load.ts';
import { startBackends } from './kit/nginx.ts';
import { DEBIAN, newestNginx } from './kit/nginx-build.ts';
import { startHelper } from './kit/product.ts';
import type { Session } from './kit/raw.ts';
import { labCanRun } from './kit/requirements.ts';
import { writeResults } from './kit/results.ts';
import { assertResolved, type Judge, judge, type ScenarioOptions } from './kit/scenario.ts';
import { createScene, type Scene } from './kit/scene.ts';
import { attack, startBoth } from './kit/traffic.ts';

/** A HEADERS frame of a GET with an id, as nginx may write it (RFC 9113, section 6.2). */
function forgedFrame(stream: number, id: string): string {
  const text = (value: string) => String.fromCharCode(value.length) + value;
  const block = `\x82\x86\x84\x41${text('backend')}\0${text('x-request-id')}${text(id)}\0${text('te')}${text('trailers')}`;
  return `\0\0${String.fromCharCode(block.length)}\x01\x05\0\0\0${String.fromCharCode(stream)}${block}`;
}

/** Uploads whose bodies are such frames, of streams that may come next and of ids that others have now; whole, and in pieces that are frames. */
function forgers(): Session[] {
  return [0, 1, 2, 3].map((forger) => {
    const frames = Array.from({ length: 500 }, (_, i) =>
      forgedFrame(1 + 2 * (i % 12), `v${(i * 7 + forger * 150) % 600}`),
    );
    const body = frames.join('');
    const head = `POST /both/h2/forged HTTP/1.1\r\nHost: shop\r\nContent-Length: ${body.length}\r\n\r\n`;
    const pieces = forger % 2 === 0 ? { pieceBytes: frames[0]!.length, gapMs: 0 } : {};
    return { steps: [{ send: head }, { send: body, ...pieces }, { await: '200' }], times: 15 };
  });
}

describe('HTTP/2 to the pods', { skip: !labCanRun(), concurrency: false, timeout: 900_000 }, () => {
  let scene: Scene;
  let scenario: Judge['scenario'];
  const rows: Judge['rows'] = [];
  const newest = labCanRun() ? newestNginx() : undefined;

  before(async () => {
    scene = await createScene({
      pods: 4,
      services: [
        { name: 'both', port: 10000, targetPort: 10010, pods: [0, 1, 2, 3] },
        { name: 'solo', port: 10000, targetPort: 10001, pods: [0] },
      ],
    });
    await startBackends(scene, [10001]);
    await startBoth(scene, 10010);
    await startHelper(scene);
    ({ scenario } = judge(scene, rows));
  });
  after(async () => {
    await scene?.dispose();
    writeResults('HTTP/2 to the pods', rows);
  });

  const WAYS = {
    grpc_pass: { build: DEBIAN, pass: 'grpc_set_header X-Request-ID $request_id; grpc_pass grpc://both_h2;' },
    'proxy_http_version 2': {
      build: newest,
      pass: 'proxy_http_version 2; proxy_set_header X-Request-ID $request_id; proxy_set_header Host $host; proxy_pass http://both_h2;',
    },
  } as const;
  type Way = keyof typeof WAYS;
  const ways = Object.keys(WAYS) as Way[];
  const skipOf = (way: Way) => (WAYS[way].build ? false : skipBecause('no newest nginx here'));

  const options = (way: Way, keepalive: boolean, auth = false): Omit<ScenarioOptions, 'format'> => ({
    keepalive,
    services: ['both', 'solo'],
    // Connections that are kept speak one protocol, so two groups.
    http: `upstream both_h2 { server ${scene.service('both').address};${keepalive ? ' keepalive 256;' : WAYS[way].build?.newest ? ' keepalive 0;' : ''} }`,
    locations: `
    location /both/h2/ { ${auth ? 'auth_request /both/auth;' : ''} ${WAYS[way].pass} }
    location = /both/auth {
      internal; proxy_pass http://svc_both; proxy_pass_request_body off; proxy_set_header Content-Length "";
      proxy_set_header Connection ""; proxy_set_header X-Request-ID $request_id;
    }`,
    build: WAYS[way].build!,
  });

  /** gRPC has POST alone, and says so; by HTTP/2 comes what clients send. */
  const messagesOf = (way: Way): LoadPlan['requests'] => {
    const grpc = ['TE: trailers', 'Content-Type: application/grpc'];
    const headers = way === 'grpc_pass' ? grpc : [];
    return [
      { path: '/both/h2/{n}', method: 'POST', bodyBytes: 300, headers, weight: 3 },
      { path: '/both/h2/{n}', method: 'POST', bodyBytes: 5_000, headers },
      {
        path: '/both/h2/same',
        method: 'POST',
        bodyBytes: 40,
        headers: headers.length > 0 ? headers : ['TE: trailers'],
      },
      ...(way === 'grpc_pass' ? [] : [{ path: '/both/h2/{n}', weight: 3 }, { path: '/both/h2/same' }]),
    ];
  };

  for (const way of ways)
    for (const keepalive of [true, false])
      for (const connections of [1, 10, 100]) {
        const name = `${way}, ${connections} connection${connections === 1 ? '' : 's'}, ${keepalive ? 'keepalive' : 'no keepalive'}`;
        test(name, { skip: skipOf(way) }, async () => {
          const row = await scenario(name, { format: 'full', ...options(way, keepalive) }, ({ sentTo }) =>
            sentTo({ total: connections === 1 ? 500 : 1500, connections, requests: messagesOf(way) }),
          );
          assertResolved(row, 'request-id', 0.999);
        });
      }

  test('proxy_http_version 2 without Host, GET beside POST', {
    skip: skipOf('proxy_http_version 2'),
  }, async () => {
    const way = 'proxy_http_version 2';
    const { locations, ...given } = options(way, true);
    const bare = locations!.replace('proxy_set_header Host $host;', '');
    const row = await scenario(
      `${way} without Host, GET beside POST`,
      { format: 'full', ...given, locations: bare },
      ({ sentTo }) => sentTo({ total: 800, connections: 20, requests: messagesOf(way) }),
    );
    assertResolved(row, 'request-id', 0.999);
  });

  for (const way of ways)
    for (const auth of [false, true])
      for (const format of ['full', 'id', 'times'] as const) {
        const name = `${way} beside HTTP/1${auth ? ', auth_request' : ''}, ${format}`;
        test(name, { skip: skipOf(way) }, async () => {
          const row = await scenario(name, { format, ...options(way, true, auth) }, ({ sentTo }) =>
            sentTo({
              total: 800,
              connections: 20,
              ratePerSecond: 300,
              requests: [...messagesOf(way), { path: '/both/h1/{n}', weight: 2 }],
            }),
          );
          if (format === 'full') assertResolved(row, 'request-id', 0.999);
          assert.equal(format === 'times' ? row.evidence['request-id'] : undefined, undefined);
        });
      }

  for (const way of ways) {
    const name = `${way}, clients that write frames with others' ids into bodies`;
    test(name, { skip: skipOf(way) }, async () => {
      const given = options(way, true);
      await scenario(
        name,
        {
          format: 'chosen',
          ...given,
          http: `${given.http} map $http_x_request_id $chosen_id { default $http_x_request_id; '' $request_id; }`,
          locations: given.locations!.replaceAll('$request_id', '$chosen_id'),
        },
        async ({ sentTo }) => {
          await Promise.all([
            attack(scene, forgers()),
            sentTo({
              total: 600,
              connections: 10,
              ratePerSecond: 100,
              requests: [
                { path: '/both/h2/{n}', method: 'POST', bodyBytes: 300, headers: ['X-Request-ID: v{n}'] },
                { path: '/both/h1/{n}', headers: ['X-Request-ID: v{n}'] },
                { path: '/both/h2/{n}', headers: ['X-Request-ID: v{n}'] },
              ],
            }),
          ]);
        },
      );
    });
  }

  for (const way of ways) {
    const name = `${way}, large bodies among small ones`;
    test(name, { skip: skipOf(way) }, async () => {
      await scenario(name, { format: 'full', ...options(way, true) }, ({ sentTo }) =>
        sentTo({
          total: 800,
          connections: 20,
          ratePerSecond: 200,
          requests: [
            ...messagesOf(way),
            { path: '/both/h2/wait/20', method: 'POST', bodyBytes: 70_000 },
            { path: '/both/h2/big', method: 'POST', bodyBytes: 1_000_000, weight: 0.3 },
          ],
        }),
      );
    });
  }
});
