/** A helper for specs of the sidecar's side of the feed. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TestContext } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { type ReaderOptions, readFeed } from '../../src/feed/client.ts';

export const T0 = 1_764_837_843_000;
export const limit = { timeout: 120_000 };

/** A helper whose answers the test writes; timers stand still until the test moves them. */
export async function helper(context: TestContext, more: Partial<ReaderOptions> = {}) {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const state = {
    now: T0,
    /** 0: no answer; a function of the addresses that are asked for. */
    status: 200 as number | ((addresses: string[]) => number),
    body: '',
    instance: 'a',
    /** The type of its answers; empty: none is said. */
    type: '',
    /** Text that each reader of the feed gets at once. */
    text: '',
  };
  const asked: IncomingMessage[] = [];
  const answers: ServerResponse[] = [];
  const server = createServer((request, response) => {
    asked.push(request);
    answers.push(response);
    const { pathname, searchParams } = new URL(request.url!, 'http://helper');
    const status = typeof state.status === 'number' ? state.status : state.status(searchParams.getAll('src'));
    if (status === 0) return;
    const type = state.type === '' ? {} : { 'content-type': state.type };
    response.writeHead(status, { 'realpod-instance': state.instance, ...type });
    if (status !== 200) response.end(state.body);
    else if (pathname.endsWith('/feed') && state.text) response.write(state.text);
    else response.flushHeaders();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const notices: string[] = [];
  const records: number[] = [];
  const feed = readFeed({
    url: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/base/`),
    addresses: ['10.244.0.70'],
    tokenFile: undefined,
    clock: () => state.now,
    onRecords: (some) => records.push(...some.map(({ seq }) => seq)),
    onNotice: (level, text) => notices.push(`${level}: ${text.replace(/:\d{5}/, '')}`),
    ...more,
  });
  context.after(() => {
    feed.stop();
    server.closeAllConnections();
    server.close();
  });
  const until = async (condition: () => boolean): Promise<void> => {
    while (!condition()) {
      await turn();
      context.signal.throwIfAborted();
    }
  };
  /** Lets everything happen that needs no timer. */
  const settle = async (): Promise<void> => {
    for (let n = 0; n < 300; n++) await turn();
  };
  /** Ends the pause after a failure, whatever its length. */
  const retry = async (): Promise<void> => {
    const before = asked.length;
    while (asked.length === before) {
      context.mock.timers.tick(100);
      await settle();
      context.signal.throwIfAborted();
    }
  };
  /** How long the reader waits before it asks again, in steps of 50 ms. */
  const waited = async (): Promise<number> => {
    const before = asked.length;
    let ms = 0;
    for (; asked.length === before; ms += 50) {
      context.mock.timers.tick(50);
      await settle();
      context.signal.throwIfAborted();
    }
    return ms;
  };
  const connected = (): Promise<void> => until(() => feed.stats.connected);
  const failed = (times: number): Promise<void> => until(() => feed.stats.failures === times);
  const tick = (seq: number, t = T0): string => `{"kind":"tick","seq":${seq},"t":${t}}\n`;
  return {
    feed,
    state,
    asked,
    answers,
    notices,
    records,
    until,
    settle,
    retry,
    waited,
    connected,
    failed,
    tick,
  };
}
