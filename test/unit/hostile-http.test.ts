/** What is no proper request of ours: the answer is an error in the one form, and the connection is not left hanging. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { after, test } from 'node:test';
import { COMMAND } from '../../src/config/commands.ts';
import { readOptions } from '../../src/config/read.ts';
import { type App, createApp } from '../../src/http/app.ts';
import { isOwnHost } from '../../src/http/host.ts';
import { HttpServer } from '../../src/http/server.ts';
import { createSidecarServer } from '../../src/http/sidecar/server.ts';
import { servedDemo } from './serve-app.ts';

const LIMIT = { timeout: 120_000 };
const LIMITS = { connections: 50, connectionsPerSource: 50, requestsPerSecond: 500, headersMs: 5_000 };
const closing: HttpServer[] = [];
after(() => Promise.all(closing.map((server) => server.close())));

async function serving(server: HttpServer): Promise<number> {
  closing.push(server);
  return await server.listen('127.0.0.1', 0);
}

const withApp = (app: App, limits = LIMITS) =>
  new HttpServer({ limits, application: app, onError: () => {} });

const served = serving(servedDemo().server);

/** Everything that comes back on one connection until the server ends it. */
async function exchange(port: number, text: string): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  const parts: Buffer[] = [];
  socket.on('data', (part: Buffer) => parts.push(part)).on('error', () => {});
  socket.write(text, 'latin1');
  await once(socket, 'close');
  return Buffer.concat(parts).toString();
}

const HOST = 'Host: localhost\r\n';
const END = 'Connection: close\r\n\r\n';
const chunked = `POST /lines HTTP/1.1\r\n${HOST}Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n`;

for (const [what, text, status, code] of [
  ['a target that is not encoded', `GET /%zz HTTP/1.1\r\n${HOST}${END}`, 400, 'bad-request'],
  ['a target that ends in %', `GET /% HTTP/1.1\r\n${HOST}${END}`, 400, 'bad-request'],
  ['a target of bytes above 127', `GET /\xff\xfe HTTP/1.1\r\n${HOST}${END}`, 400, 'bad-request'],
  ['a target of half a character', `GET /page/%ff HTTP/1.1\r\n${HOST}${END}`, 400, 'bad-request'],
  ['a part too long', `GET /page/${'a'.repeat(300)} HTTP/1.1\r\n${HOST}${END}`, 414, 'bad-request'],
  ['a target too long', `GET /${'a'.repeat(20_000)} HTTP/1.1\r\n${HOST}${END}`, 431, 'bad-request'],
  ['a head too long', `GET / HTTP/1.1\r\n${HOST}X-A: ${'a'.repeat(20_000)}\r\n${END}`, 431, 'bad-request'],
  ['headers too many', `GET / HTTP/1.1\r\n${HOST}${'A: b\r\n'.repeat(20_000)}${END}`, 431, 'bad-request'],
  ['a header without a name', `GET / HTTP/1.1\r\n${HOST}: b\r\n${END}`, 400, 'bad-request'],
  ['a zero byte in a header', `GET / HTTP/1.1\r\n${HOST}A: b\0c\r\n${END}`, 400, 'bad-request'],
  [
    'two lengths',
    `POST / HTTP/1.1\r\n${HOST}Content-Length: 1\r\nContent-Length: 2\r\n${END}`,
    400,
    'bad-request',
  ],
  ['another protocol', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', 400, 'bad-request'],
  ['HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 400, 'bad-request'],
  ['no such version', `GET / HTTP/9.9\r\n${HOST}${END}`, 400, 'bad-request'],
  ['no such method', `FETCH / HTTP/1.1\r\n${HOST}${END}`, 400, 'bad-request'],
  ['a method of WebDAV', `PROPFIND /lines HTTP/1.1\r\n${HOST}${END}`, 404, 'no-such-route'],
  ['DELETE', `DELETE /lines HTTP/1.1\r\n${HOST}${END}`, 404, 'no-such-route'],
  ['OPTIONS *', `OPTIONS * HTTP/1.1\r\n${HOST}${END}`, 404, 'no-such-route'],
  ['CONNECT', `CONNECT localhost:22 HTTP/1.1\r\n${HOST}${END}`, 404, 'no-such-route'],
  ['an expectation', `GET / HTTP/1.1\r\n${HOST}Expect: tea\r\n${END}`, 417, 'bad-request'],
  ['a length that is none', `POST / HTTP/1.1\r\n${HOST}Content-Length: 1e3\r\n${END}`, 400, 'bad-request'],
  ['no Host', `GET /healthz HTTP/1.1\r\n${END}`, 400, 'bad-request'],
  ['an empty Host', `GET /healthz HTTP/1.1\r\nHost:\r\n${END}`, 421, 'wrong-host'],
  ['a foreign Host', `GET /lines HTTP/1.1\r\nHost: evil.example\r\n${END}`, 421, 'wrong-host'],
  ['a foreign Host, no route', `GET /nothing HTTP/1.1\r\nHost: evil.example\r\n${END}`, 421, 'wrong-host'],
  ['a foreign Host, a bad target', `GET /%zz HTTP/1.1\r\nHost: evil.example\r\n${END}`, 421, 'wrong-host'],
  ['a foreign Host in HTTP/1.0', `GET /lines HTTP/1.0\r\nHost: evil.example\r\n${END}`, 421, 'wrong-host'],
  [
    'a query that is not encoded',
    `GET /lines?pod=%zz&limit=x HTTP/1.1\r\n${HOST}${END}`,
    400,
    'bad-parameter',
  ],
  ['a bad chunk', `${chunked}${END}zz\r\nabc\r\n`, 400, 'bad-request'],
] as const)
  test(`${what} is answered with ${status} ${code}`, LIMIT, async () => {
    const answer = await exchange(await served, text);
    assert.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `));
    assert.match(answer, /\r\ncontent-type: application\/json; charset=utf-8\r\n/i);
    const body = answer
      .slice(answer.indexOf('\r\n\r\n') + 4)
      .replace(/^[0-9a-f]+\r\n(.*)\r\n0\r\n\r\n$/s, '$1');
    const { error } = JSON.parse(body) as { error: Record<string, string> };
    assert.deepEqual(Object.keys(error), ['code', 'message', 'next']);
    assert.equal(error.code, code);
    for (const said of Object.values(error)) assert.notEqual(said, '');
  });

test('without Host HTTP/1.0 is answered, as plain probes speak it', LIMIT, async () => {
  assert.match(await exchange(await served, 'GET /healthz HTTP/1.0\r\n\r\n'), /^HTTP\/1\.1 200 /);
});

test('a head that does not come in time is answered, too', LIMIT, async () => {
  const port = await serving(
    withApp(
      createApp(() => {}),
      { ...LIMITS, headersMs: 100 },
    ),
  );
  const answer = await exchange(port, `GET / HTTP/1.1\r\n${HOST}X-Slow: `);
  assert.match(answer, /^HTTP\/1\.1 408 /);
  assert.match(answer, /"code":"bad-request","message":"the head of the request took longer than 100 ms"/);
});

test('a body of another type, or too long, is answered with the status for it', LIMIT, async () => {
  const app = createApp(() => {});
  app.post('/', async () => 'taken');
  const port = await serving(withApp(app));
  const post = `POST / HTTP/1.1\r\n${HOST}`;
  const typed = await exchange(port, `${post}Content-Type: a/b\r\nContent-Length: 1\r\n${END}x`);
  assert.match(typed, /^HTTP\/1\.1 415 [\s\S]*"code":"bad-request"/);
  const long = await exchange(
    port,
    `${post}Content-Type: text/plain\r\nContent-Length: 9999\r\n${END}${'x'.repeat(9_999)}`,
  );
  assert.match(long, /^HTTP\/1\.1 413 [\s\S]*"code":"bad-request"/);
  const json = await exchange(port, `${post}Content-Type: application/json\r\nContent-Length: 1\r\n${END}{`);
  assert.match(json, /^HTTP\/1\.1 400 [\s\S]*"code":"bad-request"/);
});

test('no error is written into the middle of another answer', LIMIT, async () => {
  const app = createApp(() => {});
  app.get('/', (_request, reply) => {
    reply.hijack();
    reply.raw.writeHead(200, { 'content-type': 'text/plain' });
    reply.raw.write('the beginning of ');
  });
  const port = await serving(withApp(app));
  const answer = await exchange(port, `GET / HTTP/1.1\r\n${HOST}\r\nNONSENSE\r\n\r\n`);
  assert.doesNotMatch(answer, /HTTP\/1\.1 400/);
});

test('what a kubelet, Prometheus, a browser and the programs of a cluster ask by is allowed', () => {
  for (const host of [
    '10.244.0.70:9798',
    '127.0.0.1:8001',
    '[fd00::70]:9798',
    '[::1]',
    'localhost:9798',
    'LOCALHOST',
    'localhost.:9798',
    'realpod-webhook.realpod.svc:443',
    'realpod.shop.svc.cluster.local:9798',
    'realpod.shop.svc.cluster.local.',
    '10-244-0-70.realpod.shop.svc',
  ])
    assert.equal(isOwnHost(host, []), true, host);
});

test('every other name is refused, whatever it resembles', () => {
  for (const host of [
    '',
    'evil.example',
    'evil.example:9798',
    'realpod',
    'realpod.shop',
    'svc',
    '.example',
    'evilsvc',
    'a.svc.evil.example',
    'a.svc.cluster.local.evil.example',
    'localhost.evil.example',
    '10.0.0.1.evil.example',
    '10.0.0.1@evil.example',
    'evil.example#.svc',
    'evil.example:80.svc',
    'evil.example, localhost',
    'localhost, evil.example',
    '[evil.example]',
    '[10.0.0.1]',
    '[::1',
    '::1',
    '999.0.0.1',
  ])
    assert.equal(isOwnHost(host, ['pods.example.com']), false, host);
});

test('--allow-host adds names, in any case and with any port, and nothing below or above them', async () => {
  const env = { HOST_IP: '10.0.0.5', REALPOD_ALLOW_HOST: 'pods.example.com, Node-7' };
  const { allowHost } = readOptions(COMMAND.sidecar, [], env);
  assert.deepEqual(allowHost, ['pods.example.com', 'node-7']);
  assert.deepEqual(readOptions(COMMAND.helper, ['--allow-host', 'a', '--allow-host', 'b'], {}).allowHost, [
    'a',
    'b',
  ]);
  for (const bad of ['a b', 'a:80', 'http://a', '*', 'a..b'])
    assert.throws(
      () => readOptions(COMMAND.helper, ['--allow-host', bad], {}),
      /--allow-host: .* is not a host's name/,
    );
  const { numbers } = servedDemo();
  const port = await serving(createSidecarServer(numbers, () => {}, allowHost));
  const get = (path: string, host: string) =>
    exchange(port, `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n${END}`);
  // What the server answers by itself, and what it has the application answer.
  for (const path of ['/healthz', '/lines']) {
    for (const host of ['pods.example.com', 'PODS.example.com:8080', 'node-7:9798', '10.0.0.1'])
      assert.match(await get(path, host), /^HTTP\/1\.1 200 /, host);
    for (const host of ['example.com', 'a.pods.example.com', 'node-70'])
      assert.match(await get(path, host), /^HTTP\/1\.1 421 /, host);
  }
  assert.match(await get('/metrics', 'localhost'), /realpod_http_refused_total\{what="host"\} 6\n/);
});
