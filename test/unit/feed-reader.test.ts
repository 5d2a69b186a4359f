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
