/** The server in front of the application: what it answers by itself, and when it opens the application. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { jsonAnswer, type Respond } from '../../src/http/answer.ts';
import { type App, createApp } from '../../src/http/app.ts';
import { failure } from '../../src/http/errors.ts';
import { HttpServer } from '../../src/http/server.ts';

const LIMIT = { timeout: 120_000 };
const LIMITS = { connections: 50, connectionsPerSource: 50, requestsPerSecond: 500, headersMs: 5_000 };
const closing: HttpServer[] = [];
after(() => Promise.all(closing.map((server) => server.close())));

interface Answer {
  status: number;
  type: string | null;
  body: string;
}

async function serving(
  application: App | (() => App),
  plain: [string, Respond][] = [],
  requestsPerSecond = 500,
) {
  const errors: string[] = [];
  const server = new HttpServer({
    limits: { ...LIMITS, requestsPerSecond },
    application,
    plain: new Map(plain),
    onError: (message) => errors.push(message),
  });
  closing.push(server);
  const port = await server.listen('127.0.0.1', 0);
  const get = async (path: string, method = 'GET'): Promise<Answer> => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { method });
    return {
      status: response.status,
      type: response.headers.get('content-type'),
      body: await response.text(),
    };
  };
  return { get, errors };
}

/** An application that answers `/here`, and how often it was opened. */
function counted() {
  let opened = 0;
  const open = (): App => {
    opened++;
    const app = createApp(() => {});
    app.get('/here', async () => 'here');
    return app;
  };
  return { open, opened: () => opened };
}

test('what probes and scrapes ask is answered without the application, refusals too', LIMIT, async () => {
  const { open, opened } = counted();
  const stalled: Respond = () => {
    throw failure('output-stalled', 'an output is blocked');
  };
  const plain: [string, Respond][] = [
    ['/healthz', () => jsonAnswer({ status: 'ok' })],
    ['/readyz', stalled],
  ];
  const { get, errors } = await serving(open, plain, 10);
  const json = 'application/json; charset=utf-8';
  assert.deepEqual(await get('/healthz'), { status: 200, type: json, body: '{"status":"ok"}' });
  const { status, type, body } = await get('/readyz');
  assert.deepEqual([status, type, JSON.parse(body).error.code], [503, json, 'output-stalled']);
  const codes = new Set<number>();
  for (let n = 0; n < 100; n++) codes.add((await get('/healthz')).status);
  assert.ok(codes.has(429), [...codes].join());
  assert.equal(opened(), 0);
  assert.deepEqual(errors, []);
});

test('anything else opens the application, once', LIMIT, async () => {
  const { open, opened } = counted();
  const { get } = await serving(open, [['/healthz', () => jsonAnswer({})]]);
  const answers = await Promise.all([get('/here'), get('/here'), get('/nothing')]);
  assert.deepEqual(
    answers.map(({ status }) => status),
    [200, 200, 404],
  );
  // Its own routes, for a query and for other methods.
  assert.equal((await get('/here?x=1')).status, 200);
  assert.equal((await get('/here', 'HEAD')).status, 200);
  assert.equal((await get('/healthz', 'HEAD')).status, 404);
  assert.equal(opened(), 1);
});

test(
  'an application that cannot be opened is an error of that request, and is tried again',
  LIMIT,
  async () => {
    const { open } = counted();
    let failures = 2;
    const { get, errors } = await serving(() => {
      if (failures-- > 0) throw new Error('a file is missing');
      return open();
    });
    for (let n = 0; n < 2; n++) {
      const { status, body } = await get('/here');
      assert.deepEqual([status, JSON.parse(body).error.code], [500, 'internal']);
      assert.ok(!body.includes('missing'));
    }
    assert.deepEqual(errors, ['a file is missing', 'a file is missing']);
    assert.equal((await get('/here')).body, 'here');
  },
);

test('an application that is there is ready before the server listens', LIMIT, async () => {
  const app = createApp(() => {});
  let ready = false;
  app.addHook('onReady', async () => {
    ready = true;
  });
  await serving(app);
  assert.ok(ready);
});
