import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { ApiError, type ApiServer, openApi } from '../../src/cluster/api.ts';
import type { NameObservation } from '../../src/cluster/directory.ts';
import { type ClusterNames, createNames } from '../../src/cluster/names.ts';
import { backoffMs } from '../../src/cluster/reflector.ts';
import { ApiServerStandIn, service, slice } from './api-server.ts';

interface Scene {
  server: ApiServerStandIn;
  api: ApiServer;
  names: ClusterNames;
  records: NameObservation[];
  logs: string[];
  delays: number[];
  clock: { now: number };
  /** Resolves when `condition` holds; it is looked at after every turn of the event loop. */
  until(condition: () => boolean): Promise<void>;
}

/** The real client against the stand-in; waits of the helper take no time, and its clock moves by what it waits. */
async function scene(
  context: TestContext,
  prepare: (server: ApiServerStandIn) => void = () => {},
): Promise<Scene> {
  const server = new ApiServerStandIn();
  await server.listen();
  prepare(server);
  const folder = mkdtempSync(join(tmpdir(), 'realpod-names-'));
  const kubeconfig = join(folder, 'kubeconfig');
  writeFileSync(kubeconfig, server.kubeconfig());
  const api = await openApi(kubeconfig);
  const records: NameObservation[] = [];
  const logs: string[] = [];
  const delays: number[] = [];
  const clock = { now: 1_000_000 };
  const names = createNames({
    api,
    onName: (record) => {
      if (record.kind === 'name') records.push(record);
    },
    log: (level, message) => logs.push(`${level} ${message}`),
    pace: {
      delay: async (ms) => {
        delays.push(ms);
        clock.now += ms;
        await turn();
      },
      random: () => 0.5,
      now: () => clock.now,
    },
  });
  context.after(async () => {
    await names.stop();
    await server.close();
    rmSync(folder, { recursive: true });
  });
  const until = async (condition: () => boolean): Promise<void> => {
    while (!condition()) {
      await turn();
      context.signal.throwIfAborted();
    }
  };
  return { server, api, names, records, logs, delays, clock, until };
}

// Against a hang; a busy machine may take long.
const limit = { timeout: 120_000 };

test('10,000 EndpointSlices are listed in pages, then 5,000 changes follow', limit, async (context) => {
  const ip = (n: number): string => `10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`;
  const { server, names, until } = await scene(context, (server) => {
    for (let n = 0; n < 10_000; n++) server.put(slice('shop', `s${n}`, 'x', [{ ip: ip(n), pod: `p${n}` }]));
  });
  names.start();
  await until(() => names.synced);
  await server.watched();
  assert.equal(names.stats.addresses, 10_000);
  assert.ok(server.calls.filter((call) => call.verb === 'list').length >= 20);
  for (let second = 0; second < 5; second++) {
    for (let n = 0; n < 1000; n++) {
      const at = second * 1000 + n;
      server.put(slice('shop', `s${at}`, 'x', [{ ip: ip(20_000 + at), pod: `new${at}` }]));
    }
    await until(() => names.stats.slices.events === (second + 1) * 1000);
  }
  assert.equal(names.lookup(ip(24_999))?.pod, 'new4999');
  assert.equal(names.lookup(ip(4999)), undefined);
  assert.equal(names.lookup(ip(4999), 1_000_000_000_000), undefined);
  assert.equal(names.lookup(ip(5000))?.pod, 'p5000');
});

test(
  'events are put together from chunks of any size, cut inside a character too',
  limit,
  async (context) => {
    const { server, names, until } = await scene(context);
    names.start();
    await server.watched();
    for (const size of [1, 2, 3, 7, 100]) {
      server.chunkBytes = size;
      const named = slice('a', 's', 'x', [{ ip: '10.0.0.1', pod: `pż${size}` }]);
      named.metadata.annotations = { note: 'żółw — 🐢' };
      server.put(named);
      server.put(service('a', 's', [`10.96.0.${size}`]));
      await until(
        () => names.lookup(`10.96.0.${size}`) !== undefined && names.lookup('10.0.0.1')?.pod === `pż${size}`,
      );
    }
    assert.equal(names.stats.slices.failures + names.stats.services.failures, 0);
    assert.equal(names.stats.slices.listings + names.stats.services.listings, 2);
  },
);

test(
  'an API server that begins slowly: cuts the connection, is not ready, asks to wait, then answers',
  limit,
  async (context) => {
    const { server, names, until } = await scene(context, (server) =>
      server.put(slice('a', 's', 'x', [{ ip: '10.0.0.1', pod: 'p1' }])),
    );
    let calls = 0;
    server.trouble = () => (++calls <= 4 ? 'drop' : calls <= 8 ? 503 : calls <= 10 ? 429 : undefined);
    names.start();
    await until(() => names.synced);
    assert.equal(names.lookup('10.0.0.1')?.pod, 'p1');
    assert.equal(names.stats.slices.failures + names.stats.services.failures, 10);
  },
);

test(
  'a watch cut in the middle of an event goes on where it stopped, without a new list',
  limit,
  async (context) => {
    const { server, names, until, logs } = await scene(context, (server) =>
      server.put(slice('a', 's', 'x', [{ ip: '10.0.0.1', pod: 'p1' }])),
    );
    names.start();
    await server.watched();
    server.cutWatches();
    server.put(slice('a', 's', 'x', [{ ip: '10.0.0.1', pod: 'p2' }]));
    await until(() => names.lookup('10.0.0.1')?.pod === 'p2');
    assert.equal(names.stats.slices.listings, 1);
    assert.ok(logs.some((line) => line.startsWith('warn endpointslices: watch broken')));
    assert.ok(logs.some((line) => line.startsWith('info the API server answers again')));
  },
);

test('a watch that the server ends begins again at the last bookmark', limit, async (context) => {
  const { server, names, until } = await scene(context);
  names.start();
  await server.watched();
  const before = server.calls.length;
  server.put(service('a', 's', ['10.96.0.1']));
  server.bookmark();
  await until(() => names.lookup('10.96.0.1') !== undefined);
  server.compact();
  server.endWatches();
  await until(() => server.calls.length >= before + 2);
  await server.watched();
  assert.deepEqual(
    [...new Set(server.calls.slice(before).map((call) => call.verb))],
    ['watch'],
    'a bookmark spares the list even after a compaction',
  );
  assert.ok(
    server.calls.every((call) => call.verb !== 'watch' || call.query.get('allowWatchBookmarks') === 'true'),
  );
});

for (const [how, fail] of [
  ['in an event', (server: ApiServerStandIn) => server.failWatches(410, 'too old resource version')],
  ['as an answer', (server: ApiServerStandIn) => server.endWatches()],
] as const) {
  test(`410 Gone ${how}: listed anew, and what is gone meanwhile loses its name`, limit, async (context) => {
    const { server, names, until, delays } = await scene(context, (server) => {
      server.put(slice('a', 's', 'x', [{ ip: '10.0.0.1', pod: 'p1' }]));
      server.put(slice('a', 't', 'x', [{ ip: '10.0.0.2', pod: 'p2' }]));
    });
    names.start();
    await server.watched();
    server.trouble = () => 503;
    server.cutWatches();
    await until(() => names.stats.slices.failures > 0 && names.stats.services.failures > 0);
    server.delete('EndpointSlice', 'a', 's-x');
    server.compact();
    server.trouble = () => undefined;
    if (how === 'in an event') server.put(slice('a', 't', 'x', [{ ip: '10.0.0.2', pod: 'p2' }]));
    fail(server);
    await until(() => names.stats.slices.listings >= 2);
    assert.equal(names.lookup('10.0.0.1'), undefined);
    assert.equal(names.lookup('10.0.0.2')?.pod, 'p2');
    assert.ok(delays.includes(2500), 'lists after 410 are spread over 5 s');
  });
}

test(
  'an API server that is away is asked less and less often; names hold for a minute, then until the next list none',
  limit,
  async (context) => {
    const { server, names, until, delays, logs, clock } = await scene(context, (server) =>
      server.put(slice('a', 's', 'x', [{ ip: '10.0.0.1', pod: 'p1' }])),
    );
    names.start();
    await server.watched();
    server.trouble = () => 'drop';
    server.cutWatches();
    delays.length = 0;
    await until(() => names.stats.slices.awaySince > 0);
    const { awaySince } = names.stats.slices;
    let held = 0;
    while (names.lookup('10.0.0.1')) {
      held = clock.now - awaySince;
      await turn();
    }
    assert.ok(clock.now - awaySince >= 60_000 && held < 90_000, `${held} ms`);
    await until(() => names.stats.slices.failures >= 8);
    assert.ok(delays.every((ms) => ms <= 30_000));
    assert.ok(delays.at(-1) === 22_500, `the last wait was ${delays.at(-1)} ms`);
    const warnings = logs.filter((line) => line.startsWith('warn endpointslices'));
    assert.ok(warnings.length <= 3, 'the same trouble is told once');
    const { listings } = names.stats.slices;
    server.trouble = () => undefined;
    await until(() => names.lookup('10.0.0.1')?.pod === 'p1');
    assert.equal(
      names.stats.slices.listings,
      listings + 1,
      'a list, as a watch alone would not say what it left out',
    );
    assert.equal(names.stats.slices.awaySince, 0);
    assert.equal(names.lookup('10.0.0.1', awaySince + 59_000)?.pod, 'p1');
  },
);

test(
  'an address that goes to another pod while the API server is away for an hour: no name, then the new one',
  limit,
  async (context) => {
    const { server, names, until, records, clock } = await scene(context, (server) =>
      server.put(slice('a', 's', 'x', [{ ip: '10.0.0.1', pod: 'p1' }])),
    );
    names.start();
    await server.watched();
    server.trouble = () => 'drop';
    server.cutWatches();
    await until(() => names.stats.slices.awaySince > 0);
    const { awaySince } = names.stats.slices;
    server.put(slice('a', 's', 'x', [{ ip: '10.0.0.1', pod: 'p2' }]));
    await until(() => clock.now - awaySince >= 3_600_000);
    assert.equal(names.lookup('10.0.0.1'), undefined);
    server.trouble = () => undefined;
    await until(() => names.lookup('10.0.0.1')?.pod === 'p2');
    assert.equal(names.lookup('10.0.0.1', awaySince + 1_800_000), undefined);
    assert.deepEqual(
      records.map(({ pod }) => pod),
      ['p1', '', 'p2'],
    );
  },
);

test('a watch that is quiet for long, and then breaks, costs no names', limit, async (context) => {
  const { server, names, until, clock, records } = await scene(context, (server) =>
    server.put(slice('a', 's', 'x', [{ ip: '10.0.0.1', pod: 'p1' }])),
  );
  names.start();
  await server.watched();
  for (let n = 1; n <= 3; n++) {
    clock.now += 300_000;
    server.cutWatches();
    await until(() => names.stats.slices.failures >= n && names.stats.services.failures >= n);
    await server.watched();
  }
  await until(() => names.stats.slices.awaySince === 0);
  assert.deepEqual(
    records.map(({ pod }) => pod),
    ['p1'],
  );
});

test(
  'an API server that is connected and silent is noticed, and names are withdrawn at once',
  limit,
  async (context) => {
    const { api, until, clock, server } = await scene(context);
    server.put(slice('a', 's', 'x', [{ ip: '10.0.0.1', pod: 'p1' }]));
    const watches: ((error: Error) => void)[] = [];
    const logs: string[] = [];
    const stream = (_path: string, onOpen: () => void): Promise<void> => {
      onOpen();
      return new Promise((_, reject) => watches.push(reject));
    };
    const names = createNames({
      api: { call: (...parameters) => api.call(...parameters), stream },
      onName: () => {},
      log: (level, message) => logs.push(`${level} ${message}`),
      pace: { delay: async () => void (await turn()), random: () => 0.5, now: () => clock.now },
    });
    names.start();
    await until(() => watches.length === 2);
    assert.equal(names.lookup('10.0.0.1')?.pod, 'p1');
    clock.now += 90_000;
    server.trouble = () => 503;
    // What the client says of a socket that brought nothing for as long.
    for (const end of watches.splice(0)) end(new ApiError(0, 'watch broken: silent for 90 s', true));
    await until(() => names.lookup('10.0.0.1') === undefined);
    assert.match(logs.join('\n'), /no watch for 90 s; addresses have no names until they are listed anew/);
    await names.stop();
  },
);

test(
  'wrong credentials and missing rights are told in one line that says what to do',
  limit,
  async (context) => {
    const { server, names, until, logs } = await scene(context);
    server.trouble = (call) => (call.resource === 'services' ? 403 : 401);
    names.start();
    await until(() => names.stats.slices.failures > 2 && names.stats.services.failures > 2);
    assert.equal(names.synced, false);
    const [credentials, rights] = [
      logs.filter((l) => l.includes('(401)')),
      logs.filter((l) => l.includes('(403)')),
    ];
    assert.equal(credentials.length, 1);
    assert.match(credentials[0] ?? '', /does not accept the helper's own credentials.*--kubeconfig/);
    assert.equal(rights.length, 1);
    assert.match(rights[0] ?? '', /may not watch services.*k8s\/helper\/rbac\.yaml/);
    server.trouble = () => undefined;
    await until(() => names.synced);
  },
);

test('an API server that accepts and never answers blocks neither start nor stop', limit, async (context) => {
  const { server, names, until } = await scene(context);
  server.trouble = () => 'hang';
  names.start();
  await until(() => server.calls.length === 2);
  assert.equal(names.synced, false);
  assert.equal(names.lookup('10.0.0.1'), undefined);
  await names.stop();
});

test('a kubeconfig that is missing, broken or empty is refused in one line', async (context) => {
  const folder = mkdtempSync(join(tmpdir(), 'realpod-names-'));
  context.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'kubeconfig');
  await assert.rejects(openApi(file), /^ApiError: cannot use .*kubeconfig: ENOENT/);
  writeFileSync(file, '{');
  await assert.rejects(openApi(file), /^ApiError: cannot use .*kubeconfig: /);
  writeFileSync(file, '{"apiVersion":"v1","kind":"Config","clusters":[],"users":[],"contexts":[]}');
  await assert.rejects(openApi(file), /names no current cluster/);
});

test('waits double up to 30 s, and half of each is chance', () => {
  assert.deepEqual(
    [1, 2, 3, 6, 50].map((failures) => [backoffMs(failures, 0), backoffMs(failures, 1)]),
    [
      [500, 1000],
      [1000, 2000],
      [2000, 4000],
      [15_000, 30_000],
      [15_000, 30_000],
    ],
  );
});
