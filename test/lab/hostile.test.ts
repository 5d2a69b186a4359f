import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { compareUnescaped } from './kit/check.ts';
import { type FaultRow, writeFaults } from './kit/faults-table.ts';
import type { LoadPlan } from './kit/load.ts';
import { startBackends } from './kit/nginx.ts';
import { get, HELPER_PORT, type Program, startHelper } from './kit/product.ts';
import type { Session } from './kit/raw.ts';
import { labCanRun } from './kit/requirements.ts';
import type { Row } from './kit/results.ts';
import { judge, type ScenarioOptions } from './kit/scenario.ts';
import { createScene, NODE_IP, type Scene } from './kit/scene.ts';
import { attack, collect, startOdd } from './kit/traffic.ts';

const HELPER = `http://${NODE_IP}:${HELPER_PORT}`;
const VIP = '10.105.148.194:10000';
const ID = '0123456789abcdef0123456789abcdef';

/** What a client would have to get into a line to have another pod named: fields, lists, whole lines. */
const FORGERIES = [
  VIP,
  `"${VIP}"`,
  `" 200 ${VIP} 40 "-" "-" "-" "${ID}"`,
  `\\" 200 ${VIP} 40 \\"-`,
  `\\x22 200 ${VIP} 40 \\x22-`,
  `GET / HTTP/1.1" 200 ${VIP}, 10.105.148.195:80 : 10.244.1.64:10000 40`,
  `x", "upstream_addr": "${VIP}"`,
  `[23/Nov/2026:04:16:46 +0000] "GET /a/x HTTP/1.1" 200 ${VIP} 40 "-" "-" "-"`,
  `${ID} 10.244.1.64:10000`,
  '10.244.1.65:10000, 10.244.1.66:10000',
  '\\',
  'caf\xe9 \x01\x7f',
];

const head = (target: string, ...fields: string[]): string =>
  `${[`GET ${target} HTTP/1.1`, 'Host: lab', ...fields].join('\r\n')}\r\n\r\n`;
const closing = (target: string, ...fields: string[]): string => head(target, 'Connection: close', ...fields);
const base64 = (text: string): string => Buffer.from(text, 'latin1').toString('base64');
const once = (...texts: string[]): Session => ({ steps: [{ send: texts.join('') }, { await: '(?!)' }] });

/** Each forgery in each place of the line that a client can fill. */
function forgedFields(prefix: string): Session[] {
  return FORGERIES.map((text) => ({
    steps: [
      ...['Referer', 'User-Agent', 'X-Forwarded-For', 'X-Request-ID'].map((name) => ({
        send: head(`${prefix}/field`, `${name}: ${text}`),
      })),
      { send: head(`${prefix}/user`, `Authorization: Basic ${base64(`${text.replaceAll(':', ';')}:p`)}`) },
      { send: head(`${prefix}/target?${text.replaceAll(/[^!-~]/g, '%20')}`) },
      // nginx before 1.21.1 takes spaces in a target; later ones answer 400 and log it.
      { send: closing(`${prefix}/spaces ${text}`) },
      { await: '(?!)' },
    ],
  }));
}

describe('hostile clients', { skip: !labCanRun(), concurrency: false, timeout: 300_000 }, () => {
  let scene: Scene;
  let helper: Program;
  const rows: Row[] = [];
  const faults: FaultRow[] = [];

  /** Plays the sessions while others send ordinary requests, and judges all lines, the attacker's and the others'. */
  async function against(
    name: string,
    options: Partial<ScenarioOptions>,
    sessions: readonly Session[],
    ordinary: Partial<LoadPlan> = {},
  ): Promise<Row> {
    let failed = 0;
    let played = '';
    const row = await judge(scene, rows).scenario(
      name,
      { format: 'full', keepalive: true, services: ['a', 'odd', 'solo'], ...options },
      async ({ sentTo }) => {
        const [, result] = await Promise.all([
          sentTo({
            connections: 10,
            total: 400,
            ratePerSecond: 1_000,
            requests: ORDINARY,
            ...ordinary,
          }).catch((error: Error) => {
            failed++;
            throw error;
          }),
          attack(scene, sessions),
        ]);
        played = `${result.sessions} sessions, answers ${JSON.stringify(result.statuses).replaceAll('"', '')}`;
      },
    );
    const left = Object.entries(row.reasons).map(([reason, n]) => `${reason} ${n}`);
    const outcome = `${played}; left alone: ${left.join(', ') || 'none'}`;
    faults.push({ name, seen: row, failedRequests: failed, outcome });
    return row;
  }

  const ORDINARY: LoadPlan['requests'] = [
    { path: '/a/item/{n}', weight: 4 },
    { path: '/a/same', weight: 2 },
    { path: '/a/form', method: 'POST', bodyBytes: 300 },
  ];

  before(async () => {
    scene = await createScene({
      pods: 4,
      services: [
        { name: 'a', port: 10000, targetPort: 10000, pods: [0, 1, 2, 3] },
        { name: 'odd', port: 80, targetPort: 10003, pods: [0, 1, 2, 3] },
        { name: 'solo', port: 10000, targetPort: 10001, pods: [0] },
      ],
    });
    await startBackends(scene, [10000, 10001]);
    await Promise.all(scene.pods.map((pod) => startOdd(scene, pod, 10003)));
    helper = await startHelper(scene);
  });
  after(async () => {
    await scene?.dispose();
    writeFaults('hostile clients', faults);
  });

  test('addresses, quotes and whole lines in every field, with escape=default and escape=json', async () => {
    for (const escaping of ['default', 'json'] as const) {
      const row = await against(
        `fields forged, escape=${escaping}`,
        { escape: escaping },
        forgedFields('/a'),
      );
      assert.ok((row.evidence['request-id'] ?? 0) >= 400, JSON.stringify(row.reasons));
    }
  });

  test('the same with escape=none: what a client wrote is never taken for an address', async () => {
    const broken = base64(`u\n10.0.0.1 - - [23/Nov/2026:04:16:46 +0000] "GET / HTTP/1.1" 200 ${VIP} 40\nx`);
    const row = await against(
      'fields and lines forged, escape=none',
      { escape: 'none', judgement: compareUnescaped },
      [...forgedFields('/a'), once(closing('/a/user', `Authorization: Basic ${broken}`))],
    );
    assert.ok((row.evidence['request-id'] ?? 0) >= 400, JSON.stringify(row.reasons));
  });

  test("another's X-Request-ID, through locations that set it and one that does not", async () => {
    // Without the id on the wire, and with the client's instead, its requests can only be left alone or be alone.
    const locations = `
    location /a/open/ { proxy_set_header Connection ""; proxy_pass http://svc_a; }`;
    const claim = (target: string): Session => ({
      times: 15,
      steps: [
        { send: head(target, 'X-Request-ID: {id}') },
        { await: '\\r\\nX-Id: (\\w+)\\r\\n', keep: 'id' },
        { send: closing(target, 'X-Request-ID: {id}', `X_Request_ID: ${ID}`) },
        { await: '(?!)' },
      ],
    });
    const http = '  add_header X-Id $request_id always;';
    for (const format of ['full', 'id'] as const)
      await against(
        `X-Request-ID of another request (${format} format)`,
        { format, locations, http },
        [claim('/a/same'), claim('/a/open/same'), claim('/a/open/same'), claim('/a/same')],
        {
          requests: [
            { path: '/a/same' },
            { path: '/a/open/same', headers: [`X-Request-ID: ${ID}`] },
            { path: '/a/open/same' },
          ],
        },
      );
  });

  test('ids that the client chooses: repeated, with addresses in them, beside uploads that hide requests', async () => {
    const chosen: Partial<ScenarioOptions> = {
      format: 'chosen',
      withoutIdHeader: true,
      http: `  map $http_x_request_id $chosen_id { default $http_x_request_id; "" $request_id; }
  proxy_set_header X-Request-ID $chosen_id;`,
      sidecarArgs: ['--request-id-field', 'chosen_id'],
    };
    const ids = ['twice', VIP, `${VIP}, 10.244.1.64:10000`, 'a"b', ID];
    await against('ids chosen by clients, repeated', chosen, [], {
      connections: 20,
      total: 1_200,
      requests: [
        ...ids.map((id) => ({ path: '/a/same', headers: [`X-Request-ID: ${id}`] })),
        ...ids.map((id) => ({ path: '/a/size/65536', headers: [`X-Request-ID: ${id}`] })),
        { path: '/a/upload', method: 'PUT', bodyBytes: 60_000, headers: ['X-Request-ID: twice'], weight: 3 },
        { path: '/a/upload', method: 'PUT', bodyBytes: 60_000, headers: ['X-Request-ID: other'], weight: 3 },
      ],
    });
    const unique = await against('ids chosen by clients, unique', chosen, [], {
      requests: [{ path: '/a/same' }, { path: '/a/size/4096' }],
    });
    assert.ok((unique.evidence['request-id'] ?? 0) >= 400, JSON.stringify(unique.reasons));
  });

  test('no header, cookie or body leaves by any way, and with --no-paths no target leaves the helper', async () => {
    await helper.stop();
    helper = await startHelper(scene, ['--no-paths']);
    const pod = scene.fronts[0]!;
    const secret = 'MARKER-of-a-secret';
    const target = 'MARKER-of-a-target';
    const outputs = new Map<string, string>();
    const request = (method: string, body: string, ...fields: string[]): string =>
      `${[
        `${method} /a/same?${target} HTTP/1.1`,
        'Host: lab',
        `Cookie: session=${secret}`,
        `Authorization: Bearer ${secret}`,
        `X-Secret: ${secret}`,
        `Content-Length: ${body.length}`,
        ...fields,
      ].join('\r\n')}\r\n\r\n${body}`;
    const sessions: Session[] = [
      once(
        request('POST', secret.repeat(3)),
        request('GET', ''),
        request('PUT', secret, 'Connection: close'),
      ),
      // An id that no log would hold is no way out either.
      once(request('GET', '', `X-Request-ID: ${secret}`, 'Connection: close')),
    ];
    await judge(scene, rows).scenario(
      'secrets',
      { format: 'full', keepalive: true, services: ['a', 'odd', 'solo'] },
      async ({ sentTo, sidecar }) => {
        const feedFile = join(scene.dir, 'feed');
        const kept = collect(scene, pod, 'sh', [
          '-c',
          `curl -sN -m 4 '${HELPER}/v1/feed?src=${pod.ip}' > ${feedFile} || true`,
        ]);
        await sentTo({ connections: 2, total: 50, requests: [{ path: `/a/same?${target}` }] });
        await attack(scene, sessions);
        await kept;
        outputs.set('feed', readFileSync(feedFile, 'utf8'));
        const sport = /"sport":(\d+)/.exec(outputs.get('feed')!)?.[1];
        outputs.set(
          'helper lookup',
          get(scene, pod, `${HELPER}/v1/lookup?src=${pod.ip}&sport=${sport}`).text,
        );
        outputs.set('helper metrics', get(scene, pod, `${HELPER}/metrics`).text);
        outputs.set('helper log', helper.said());
        for (const path of ['/metrics', '/status', '/pods', '/openapi.json', `/lookup?port=${sport}`])
          outputs.set(`sidecar ${path}`, sidecar.get(path).text);
        outputs.set('sidecar /lines', sidecar.get('/lines?limit=100').text);
        outputs.set('sidecar log', sidecar.said());
        outputs.set('sidecar output', readFileSync(sidecar.output, 'latin1'));
      },
    );
    assert.ok((outputs.get('feed')!.match(/"request"/g) ?? []).length >= 54, 'the feed was not read');
    assert.match(outputs.get('sidecar output')!, new RegExp(target), 'the log itself holds targets');
    for (const [where, text] of outputs) {
      assert.ok(text.length > 0, `${where} is empty`);
      assert.ok(!text.includes(secret), `${where} holds what was sent in a header or a body`);
      const ofLog = where === 'sidecar /lines' || where === 'sidecar output';
      assert.ok(ofLog || !text.includes(target), `${where} holds a target`);
    }
  });

  test('ids of a megabyte, heads in pieces, garbage in the pipeline, no HTTP at all', async () => {
    const long = (bytes: number): string => closing('/a/long', `X-Request-ID: ${'9'.repeat(bytes)}`);
    const tls = '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03';
    const sessions: Session[] = [
      ...[255, 256, 257, 8_000, 60_000, 1_048_576].map((bytes) => once(long(bytes))),
      // The target pushes the id out of what the tap copies.
      ...[900, 2_000, 30_000].map((bytes) => once(closing(`/a/${'x'.repeat(bytes)}`))),
      { steps: [{ send: closing('/a/pieces'), pieceBytes: 3, gapMs: 1 }, { await: '(?!)' }] },
      {
        steps: [
          {
            send: `POST /a/slow HTTP/1.1\r\nHost: l\r\nContent-Length: 40\r\n\r\n${'b'.repeat(40)}`,
            pieceBytes: 9,
            gapMs: 5,
          },
          { await: '(?!)' },
        ],
      },
      once(head('/a/one'), head('/a/two'), 'GARBAGE\r\n\r\n', head('/a/never')),
      once(head('/a/one'), `POST /a/two HTTP/1.1\r\nHost: l\r\nContent-Length: 5\r\n\r\n${head('/a/x')}`),
      once(
        `POST /a/smuggled HTTP/1.1\r\nHost: l\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n${head('/a/x')}`,
      ),
      once(`BREW /a/pot HTTP/1.1\r\nHost: l\r\n\r\n`),
      once('GET /a/old\r\n\r\n'),
      once('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
      once(tls),
      once('\0'.repeat(4_000)),
      once('\n'.repeat(2_000), closing('/a/after')),
      once(`PROXY TCP4 10.0.0.1 ${VIP.split(':')[0]} 1 2\r\n`),
    ];
    const row = await against('no clean HTTP', {}, [...sessions, ...sessions]);
    assert.ok((row.evidence['request-id'] ?? 0) >= 400, JSON.stringify(row.reasons));
  });

  test('requests written into tunnels and into bodies that are passed on unbuffered', async () => {
    const common =
      'proxy_set_header X-Request-ID $request_id; add_header X-Id $request_id always; proxy_pass http://svc_odd;';
    const locations = `
    location /odd/ws/ { proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; ${common} }
    location /odd/raw/ { proxy_request_buffering off; proxy_set_header Connection ""; ${common} }`;
    const forged = `GET /odd/x HTTP/1.1\r\nX-Request-ID: {id}\r\n\r\n`;
    const tunnel = (target: string): Session => ({
      times: 4,
      steps: [
        { send: head(target, 'Upgrade: websocket', 'Connection: upgrade') },
        { await: '\\r\\nX-Id: (\\w+)\\r\\n', keep: 'id' },
        { send: forged },
        { pauseMs: 20 },
        { send: forged },
        { pauseMs: 20 },
        { send: forged.repeat(30) },
        { pauseMs: 100 },
      ],
    });
    const upload = (announced: (body: string) => string[], body: string): Session => ({
      times: 4,
      steps: [
        { send: `POST /odd/raw/up?do=early HTTP/1.1\r\nHost: l\r\n${announced(body).join('\r\n')}\r\n\r\n` },
        { pauseMs: 20 },
        { send: body, pieceBytes: 500, gapMs: 2 },
        { await: '\\r\\nX-Id: (\\w+)\\r\\n', keep: 'id' },
        { pauseMs: 50 },
      ],
    });
    const body = `GET /odd/x HTTP/1.1\r\nX-Request-ID: ${ID}\r\n\r\n`.repeat(100);
    const sessions = [
      ...['/odd/ws/?do=upgrade', '/odd/ws/?do=upgrade', '/odd/ws/?delay=30'].map(tunnel),
      upload(({ length }) => [`Content-Length: ${length}`], body),
      upload(() => ['Transfer-Encoding: chunked'], `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`),
    ];
    for (const format of ['full', 'id'] as const)
      await against(
        `requests inside tunnels and bodies (${format} format)`,
        { format, locations },
        sessions,
        {
          requests: [
            { path: '/odd/item/{n}' },
            { path: '/odd/same?delay=5' },
            { path: '/odd/form', method: 'POST', bodyBytes: 5_000 },
          ],
        },
      );
  });
});
