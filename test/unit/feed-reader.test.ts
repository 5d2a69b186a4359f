import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { readFeed } from '../../src/feed/client.ts';

test('a pod with two addresses gets one of them until the helper knows that the other is its own too', {
  timeout: 20_000,
}, async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const asked: string[] = [];
  let known = false;
  const server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://helper');
    const src = searchParams.getAll('src');
    asked.push(`${pathname} ${src.join(' ')}`);
    if (src.length > 1 && !known) {
      response.writeHead(403, { 'content-type': 'application/json' });
      response.end('{"error":{"code":"address-not-yours","message":"no","next":"ask for your own"}}');
      return;
    }
    response.writeHead(200);
    if (pathname === '/v1/watermark') response.end('{"t":1}');
    else response.write('{"kind":"tick","seq":1,"t":1}\n');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const feed = readFeed({
    url: new URL(`http://127.0.0.1:${port}`),
    addresses: ['127.0.0.1', 'fd00::1'],
    tokenFile: undefined,
    clock: () => 0,
    onRecords: () => {},
    onNotice: () => {},
  });
  context.after(() => {
    feed.stop();
    server.closeAllConnections();
    server.close();
  });
  /** Waits for the next request; `ms` is how long the reader has to wait for it. */
  const next = async (ms: number): Promise<string | undefined> => {
    const before = asked.length;
    while (asked.length === before) {
      await turn();
      context.mock.timers.tick(ms);
      ms = 0;
      context.signal.throwIfAborted();
    }
    return asked.at(-1);
  };
  const connected = async (): Promise<void> => {
    while (!feed.stats.connected) await turn();
  };
  const disconnected = async (): Promise<void> => {
    while (feed.stats.connected) await turn();
  };
  assert.equal(await next(0), '/v1/feed 127.0.0.1 fd00::1');
  while (feed.stats.failures === 0) await turn();
  assert.equal(await next(200), '/v1/feed 127.0.0.1');
  await connected();
  assert.equal(await next(15_000), '/v1/watermark 127.0.0.1 fd00::1');
  known = true;
  assert.equal(await next(30_000), '/v1/watermark 127.0.0.1 fd00::1');
  await disconnected();
  assert.equal(await next(200), '/v1/feed 127.0.0.1 fd00::1');
  await connected();
});

/** A helper whose feed sends `text` to each reader; `seen` gets the paths that were asked for. */
async function helperOf(text: () => string, seen: string[]) {
  const server = createServer((request, response) => {
    seen.push(request.url ?? '');
    response.writeHead(200);
    response.write(text());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, url: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`) };
}

test('no record from the future reaches the join, and the feed is begun anew until the clocks agree', {
  timeout: 20_000,
}, async (context) => {
  const now = 1_764_837_843_000;
  let ahead = 3_600_000;
  const seen: string[] = [];
  const { server, url } = await helperOf(
    () =>
      `{"kind":"gap","seq":7,"t":${now - 5},"source":"tap"}\n{"kind":"tick","seq":8,"t":${now + ahead}}\n`,
    seen,
  );
  const times: number[] = [];
  const notices: string[] = [];
  const feed = readFeed({
    url,
    addresses: ['127.0.0.1'],
    tokenFile: undefined,
    clock: () => now,
    onRecords: (records) => times.push(...records.map(({ t }) => t)),
    onNotice: (_, text) => notices.push(text),
  });
  context.after(() => {
    feed.stop();
    server.closeAllConnections();
    server.close();
  });
  while (feed.stats.failures < 2) await turn();
  assert.deepEqual(times, []);
  assert.match(notices.join('\n'), /its clock is 3600000 ms ahead of this one; synchronise/);
  assert.ok(seen.every((path) => !path.includes('after=')));
  ahead = 9;
  while (times.length === 0) await turn();
  assert.deepEqual(times, [now - 5, now + 9]);
});

test('a feed that is good for a few records and then damaged is tried again ever more rarely', {
  timeout: 20_000,
}, async (context) => {
  const { server, url } = await helperOf(
    () =>
      '{"kind":"tick","seq":1,"t":1}\n{"kind":"tick","seq":2,"t":2}\n{"kind":"tick","seq":3,"t":3}\nnoise\n',
    [],
  );
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const feed = readFeed({
    url,
    addresses: ['127.0.0.1'],
    tokenFile: undefined,
    clock: () => 10,
    onRecords: () => {},
    onNotice: () => {},
  });
  context.after(() => {
    feed.stop();
    server.closeAllConnections();
    server.close();
  });
  /** How long the reader waits after its latest failure, in steps of 50 ms. */
  const waited = async (): Promise<number> => {
    const { connects } = feed.stats;
    let ms = 0;
    for (; feed.stats.connects === connects; ms += 50) {
      context.mock.timers.tick(50);
      for (let i = 0; i < 200 && feed.stats.connects === connects; i++) await turn();
    }
    return ms;
  };
  for (let failures = 1; failures <= 5; failures++) {
    while (feed.stats.failures < failures) await turn();
    if (failures === 5) assert.ok((await waited()) >= 750, 'after five failures it waits 800 to 1,600 ms');
    else await waited();
  }
});
