import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import { connect, type Socket } from 'node:net';
import { after, test } from 'node:test';
import { CAPTURE_DEFAULTS, type KnownFlow } from '../../src/capture/capture.ts';
import { createCapture } from '../../src/capture/create.ts';
import { createAuthorizer } from '../../src/cluster/authorize.ts';
import { Feed } from '../../src/feed/feed.ts';
import { createApp } from '../../src/http/app.ts';
import { createHelperHttp } from '../../src/http/helper/app.ts';
import { HttpServer } from '../../src/http/server.ts';
import { Sources } from '../../src/http/sources.ts';
import type { Observation } from '../../src/model/feed.ts';

/** A connection that is not closed as it should be would be waited for without end. */
const LIMIT = { timeout: 120_000 };
/** Pods are told apart by their addresses; all of 127.0.0.0/8 is this machine's. */
const HOSTILE = '127.0.0.66';
const HONEST = '127.0.0.70';

const closing: (() => unknown)[] = [];
after(async () => {
  for (const close of closing) await close();
});

/** A helper whose capture is the test's, on a port of its own. */
async function helper() {
  const { stats } = createCapture({ ...CAPTURE_DEFAULTS, log: () => {} }, { batch: () => {} });
  const feed = new Feed(Date.now);
  const logs: string[] = [];
  const waiting: (() => void)[] = [];
  const capture = {
    stats,
    subscribe: async () => ({ flows: [], completeSince: { conntrack: Date.now(), tap: Date.now() } }),
    unsubscribe() {},
    readPromptly() {},
    gather() {},
    flush: async () => feed.batch([], Date.now()),
    addressesBeside: async () => ({ addresses: [], answered: [] }),
    lookup: () => new Promise<KnownFlow[]>((resolve) => waiting.push(() => resolve([]))),
    start: async () => {},
    close: async () => {},
  };
  feed.connect(capture);
  const authorizer = createAuthorizer({ mode: 'source-ip', isLocal: () => false });
  const cluster = { authorizer, names: undefined, reviewer: undefined };
  const { server } = createHelperHttp({ feed, capture }, cluster, (level, message) =>
    logs.push(`${level} ${message}`),
  );
  const port = await server.listen('127.0.0.1', 0).catch(() => 0);
  assert.ok(port > 0);
  closing.push(
    () => feed.close(),
    () => server.close(),
  );
  return { feed, logs, port, waiting };
}

interface Answer {
  status: number;
  text: string;
}

function get(
  port: number,
  from: string,
  path: string,
  headers: http.OutgoingHttpHeaders = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, path, headers, localAddress: from, agent: false };
    const request = http.get(options, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (piece: string) => {
        text += piece;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
    });
    request.on('error', reject);
  });
}

function open(port: number, from: string): Socket {
  const socket = connect({ host: '127.0.0.1', port, localAddress: from });
  socket.on('error', () => {});
  closing.push(() => socket.destroy());
  return socket;
}

/** Writes the bytes, and gives what comes back until the other side closes. */
async function exchange(port: number, from: string, bytes: string): Promise<string> {
  const socket = open(port, from);
  let back = '';
  socket.setEncoding('latin1').on('data', (piece: string) => {
    back += piece;
  });
  socket.write(bytes);
  await once(socket, 'close');
  return back;
}

/** A feed that is read, line by line. */
function read(
  port: number,
  from: string,
): { lines: string[]; begun: Promise<unknown>; count(n: number): Promise<void> } {
  const lines: string[] = [];
  let wake = (): void => {};
  let rest = '';
  const options = { host: '127.0.0.1', port, path: `/v1/feed?src=${from}`, localAddress: from, agent: false };
  const request = http.get(options);
  request.on('error', () => {});
  closing.push(() => request.destroy());
  const begun = once(request, 'response').then(([response]: http.IncomingMessage[]) => {
    response!.setEncoding('utf8').on('data', (piece: string) => {
      const whole = (rest + piece).split('\n');
      rest = whole.pop() ?? '';
      lines.push(...whole);
      wake();
    });
  });
  return {
    lines,
    begun,
    async count(n) {
      while (lines.filter((line) => line.includes('"request"')).length < n)
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
    },
  };
}

const requestOf = (src: string, id: string, path = '/'): Observation => ({
  kind: 'request',
  t: Date.now(),
  via: 'tap',
  src,
  sport: 40_000,
  ip: '10.244.1.64',
  port: 80,
  id,
  path,
});

test(
  "a pod cannot read another's feed, watermark or connections, whatever it says of itself",
  LIMIT,
  async () => {
    const { port, logs } = await helper();
    for (const path of [
      `/v1/feed?src=${HONEST}`,
      `/v1/feed?src=${HOSTILE}&src=${HONEST}`,
      `/v1/feed?src=::ffff:${HONEST}`,
      `/v1/watermark?src=${HONEST}`,
      `/v1/lookup?src=${HONEST}&sport=40000`,
    ]) {
      const { status, text } = await get(port, HOSTILE, path, {
        'x-forwarded-for': HONEST,
        'x-real-ip': HONEST,
        forwarded: `for=${HONEST}`,
        authorization: 'Bearer token',
      });
      assert.equal(status, 403, `${path}: ${text}`);
    }
    for (const path of [
      '/v1/feed',
      '/v1/feed?src=',
      '/v1/feed?src=*',
      '/v1/feed?src=0.0.0.0/0',
      '/v1/feed?src[]=1',
    ]) {
      const { status, text } = await get(port, HOSTILE, path);
      assert.ok(status === 400 || status === 403, `${path}: ${status} ${text}`);
    }
    assert.deepEqual(logs, []);
  },
);

test('hundreds of connections of one pod: few are kept, and another pod is served', LIMIT, async () => {
  const { port } = await helper();
  const sockets = Array.from({ length: 400 }, () => open(port, HOSTILE));
  await Promise.all(sockets.slice(64).map((socket) => socket.closed || once(socket, 'close')));
  const kept = sockets.filter((socket) => !socket.closed);
  assert.ok(kept.length <= 64, `${kept.length} connections kept`);
  assert.equal((await get(port, HONEST, '/healthz')).status, 200);
  const { text } = await get(port, HONEST, '/metrics');
  assert.ok(Number(/http_refused_total\{what="connection"\} (\d+)/.exec(text)?.[1]) >= 336, 'not counted');
});

test('as many feeds of one address as sidecars need, and no more', LIMIT, async () => {
  const { port } = await helper();
  const feeds = Array.from({ length: 16 }, () => read(port, HOSTILE));
  await Promise.all(feeds.map(({ begun }) => begun));
  const { status, text } = await get(port, HOSTILE, `/v1/feed?src=${HOSTILE}`);
  assert.equal(status, 503, text);
  const honest = read(port, HONEST);
  await honest.begun;
});

test('a pod that does not take its records is cut off, and another gets all of its own', LIMIT, async () => {
  const { port, feed } = await helper();
  const slow = open(port, HOSTILE);
  slow.pause();
  slow.write(`GET /v1/feed?src=${HOSTILE} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
  const honest = read(port, HONEST);
  await honest.begun;
  while (!feed.addresses.includes(HOSTILE) || feed.stats.readers < 2)
    await new Promise((resolve) => setImmediate(resolve));
  const path = `/${'x'.repeat(60_000)}`;
  let rounds = 0;
  for (; feed.stats.readers > 1 && rounds < 2_000; rounds++) {
    feed.batch([requestOf(HOSTILE, 'h', path), requestOf(HONEST, `id-${rounds}`)], Date.now());
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.equal(feed.stats.readers, 1, `still there after ${rounds * 60_000} bytes`);
  await honest.count(rounds);
  assert.ok(honest.lines.some((line) => line.includes(`"id-${rounds - 1}"`)));
  assert.ok(!honest.lines.some((line) => line.includes(HOSTILE)), "another pod's records came along");
});

test('endless heads, huge queries, ranges and bodies end in an error at once', LIMIT, async () => {
  const { port, logs } = await helper();
  const head = 'GET /metrics HTTP/1.1\r\nHost: localhost\r\n';
  const many = Array.from({ length: 5_000 }, (_, n) => `X-${n}: ${n}\r\n`).join('');
  assert.match(await exchange(port, HOSTILE, `${head}X: ${'x'.repeat(100_000)}`), /^HTTP\/1\.1 431 /);
  assert.match(await exchange(port, HOSTILE, `${head}${many}\r\n`), /^HTTP\/1\.1 431 /);
  assert.match(
    await exchange(port, HOSTILE, `GET /?${'a=b&'.repeat(10_000)} HTTP/1.1\r\n\r\n`),
    /^HTTP\/1\.1 431 /,
  );
  assert.match(await exchange(port, HOSTILE, 'NONSENSE\r\n\r\n'), /^HTTP\/1\.1 400 /);
  const body = `POST /v1/feed?src=${HOSTILE} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n`;
  assert.match(
    await exchange(port, HOSTILE, `${body}Content-Length: 9999999999\r\n\r\n${'x'.repeat(10_000)}`),
    /^HTTP\/1\.1 4\d\d /,
  );
  const sources = Array.from({ length: 65 }, () => `src=${HOSTILE}`).join('&');
  assert.equal((await get(port, HOSTILE, `/v1/feed?${sources}`)).status, 400);
  assert.equal((await get(port, HOSTILE, `/v1/feed?src=${HOSTILE}&after=1e999`)).status, 400);
  const range = 'bytes=0-9223372036854775807,'.repeat(400);
  assert.equal((await get(port, HOSTILE, '/healthz', { range })).status, 200);
  assert.deepEqual(logs, []);
});

test(
  'a connection that sends no whole head is closed after the time that a head may take',
  LIMIT,
  async () => {
    const app = createApp(() => {});
    app.get('/', async () => 'here');
    const limits = { connections: 10, connectionsPerSource: 10, requestsPerSecond: 10, headersMs: 100 };
    const server = new HttpServer({ limits, application: app, onError: () => {} });
    const port = await server.listen('127.0.0.1', 0);
    closing.push(() => server.close());
    const silent = exchange(port, HOSTILE, '');
    const half = exchange(port, HOSTILE, 'GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ');
    assert.match(await half, /^HTTP\/1\.1 408 /);
    assert.match(await silent, /^(HTTP\/1\.1 408 |$)/);
  },
);

test(
  'requests beyond the rate of one pod are refused with 429, and another pod is served',
  LIMIT,
  async () => {
    const refusals = { connections: 0, requests: 0, hosts: 0 };
    const limits = { connections: 10, connectionsPerSource: 10, requestsPerSecond: 5, headersMs: 1_000 };
    const app = createApp(() => {});
    app.get('/', async () => 'here');
    const server = new HttpServer({ limits, application: app, onError: () => {}, refusals });
    const port = await server.listen('127.0.0.1', 0);
    closing.push(() => server.close());
    const pipeline = 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(99);
    const back = await exchange(
      port,
      HOSTILE,
      `${pipeline}GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`,
    );
    const refused = back.match(/HTTP\/1\.1 429 /g)?.length ?? 0;
    assert.ok(refused >= 80, `${refused} of 100 refused`);
    assert.match(back, /"code":"too-many-requests"/);
    assert.equal(refusals.requests, refused);
    assert.equal((await get(port, HONEST, '/')).status, 200);
  },
);

test('look-ups that have the kernel search are few at a time', LIMIT, async () => {
  const { port, waiting } = await helper();
  const path = `/v1/lookup?src=${HOSTILE}&sport=40000`;
  const under = [get(port, HOSTILE, path), get(port, HOSTILE, path)];
  while (waiting.length < 2) await new Promise((resolve) => setImmediate(resolve));
  const { status, text } = await get(port, HOSTILE, path);
  assert.equal(status, 503, text);
  for (const end of waiting) end();
  for (const answer of await Promise.all(under)) assert.equal(answer.status, 404);
});

test('what is remembered of sources is bounded, and no bucket grows beyond its size', LIMIT, () => {
  const refusals = { connections: 0, requests: 0, hosts: 0 };
  const sources = new Sources({ connectionsPerSource: 1, requestsPerSecond: 10 }, refusals);
  assert.ok(sources.connect('first'));
  assert.ok(!sources.connect('first'));
  for (let n = 0; n < 50_000; n++) assert.ok(sources.request(`source-${n}`, n));
  assert.ok(!sources.connect('first'), 'a source with a connection was forgotten');
  sources.disconnect('first');
  assert.ok(sources.connect('first'));
  let admitted = 0;
  while (sources.request('first', 1e9)) admitted++;
  assert.equal(admitted, 20);
  assert.ok(!sources.request('first', 1e9 + 99));
  assert.ok(sources.request('first', 1e9 + 200));
});
