/** Lines without an id: by byte counts from TCP headers alone, and by when connections were opened. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { LoadPlan } from './kit/load.ts';
import { startBackends } from './kit/nginx.ts';
import { startHelper } from './kit/product.ts';
import { labCanRun } from './kit/requirements.ts';
import { type Row, writeResults } from './kit/results.ts';
import { type Bench, type Judge, judge } from './kit/scenario.ts';
import { createScene, type Scene } from './kit/scene.ts';
import { startOdd } from './kit/traffic.ts';

const ALL = [0, 1, 2, 3];
const skip = !labCanRun();
const rows: Row[] = [];
const NOTES = [
  'timing: the first 150 lines of each scenario are not counted, as nothing is named before 100 lines without a doubt.',
  "timing: the aim on an idle machine is 98, 92, 92, 83, 56 % named at 100, 300, 500, 1,000, 2,000 requests/s with times of reading, and 98, 94, 94, 87, 62 % with the kernel's; 99.8 and 87 (90) % with 1 and 10 connections in a closed loop.",
];
after(() => writeResults('timing', rows, NOTES));

/** Answers of up to 64 KiB. Of neighbours that differ by one byte, a head that is one shorter would make equals. */
const VARIED: LoadPlan['requests'] = [
  { path: '/a/size/65536', headers: ['Range: bytes=0-{r}'], weight: 8 },
  { path: '/a/item/{n}/size/65536', headers: ['Range: bytes={r}-'], weight: 8 },
  { path: '/a/form/{n}', method: 'POST', bodyBytes: 600, weight: 0.2 },
];
/** Whatever the evidence. */
function assertNamed(row: Row, share: number): void {
  assert.ok(
    row.right >= share * row.attempts,
    `${row.scenario}: ${row.right} of ${row.attempts} named; ${JSON.stringify([row.evidence, row.reasons])}`,
  );
}

const EQUAL: LoadPlan['requests'] = [{ path: '/a/same' }];
const SLOW: LoadPlan['requests'] = [{ path: '/slow/same' }];

async function open(helperArgs: readonly string[]): Promise<{ scene: Scene; scenario: Judge['scenario'] }> {
  const scene = await createScene({
    pods: 4,
    services: [
      { name: 'a', port: 10000, targetPort: 10000, pods: ALL },
      { name: 'a6', port: 10000, targetPort: 10000, pods: ALL, family: 6 },
      { name: 'slow', port: 10000, targetPort: 8000, pods: ALL },
      { name: 'solo', port: 10000, targetPort: 10001, pods: [0] },
    ],
  });
  try {
    await startBackends(scene, [10000, 10001]);
    await Promise.all(scene.pods.map((pod) => startOdd(scene, pod, 8000, { slowestMs: 20 })));
    await startHelper(scene, helperArgs);
  } catch (error) {
    await scene.dispose();
    throw error;
  }
  return { scene, scenario: judge(scene, rows).scenario };
}

describe('--tap headers', { skip, concurrency: false, timeout: 400_000 }, () => {
  let scene: Scene;
  let scenario: Judge['scenario'];
  before(async () => {
    ({ scene, scenario } = await open(['--tap', 'headers']));
  });
  after(async () => {
    await scene?.dispose();
  });

  const front = { format: 'counts', withoutIdHeader: true, services: ['a', 'solo'] } as const;
  for (const keepalive of [true, false]) {
    for (const [rate, total] of [
      [100, 2000],
      [500, 5000],
      [2000, 12_000],
    ] as const) {
      const name = `headers, ${keepalive ? 'keepalive' : 'no keepalive'}, varied sizes, ${rate}/s`;
      test(`${name}: nearly every line names its pod`, async () => {
        const row = await scenario(name, { ...front, keepalive }, ({ sentTo }) =>
          sentTo({ connections: 100, total, ratePerSecond: rate, requests: VARIED }),
        );
        assertNamed(row, 0.98);
      });
    }
  }

  for (const rate of [100, 500, 2000]) {
    const name = `headers, keepalive, equal sizes, ${rate}/s`;
    test(`${name}: right or left alone`, async () => {
      const row = await scenario(name, { ...front, keepalive: true }, ({ sentTo }) =>
        sentTo({ connections: 100, total: Math.min(6000, rate * 10), ratePerSecond: rate, requests: EQUAL }),
      );
      assert.ok(row.right > 0, JSON.stringify(row));
    });
  }

  for (const keepalive of [true, false]) {
    const name = `headers, ${keepalive ? 'keepalive' : 'no keepalive'}, equal sizes, 1/s, by time alone`;
    test(`${name}: every line names its pod`, async () => {
      const row = await scenario(name, { ...front, format: 'times', keepalive }, ({ sentTo }) =>
        sentTo({ connections: 10, total: 20, ratePerSecond: 1, requests: EQUAL }),
      );
      assertNamed(row, 0.9);
    });
  }

  test('the kernel copies headers and no payload', () => {
    const table = scene.runIn(scene.node, 'nft list table inet realpod');
    const lengths = [...table.matchAll(/snaplen (\d+)/g)].map(([, bytes]) => Number(bytes));
    assert.deepEqual(
      lengths.toSorted((a, b) => a - b),
      // Requests and answers, in postrouting and in input.
      [40, 40, 40, 40, 60, 60, 60, 60],
    );
  });

  test('uploads of one size that are answered before they are read: right or left alone', async () => {
    for (const bodyBytes of [60_000, 300_000]) {
      await scenario(
        `headers, early answers to uploads of ${bodyBytes} bytes`,
        { ...front, keepalive: true },
        ({ sentTo }) =>
          sentTo({
            connections: 20,
            total: 3000,
            requests: [{ path: '/a/upload', method: 'PUT', bodyBytes }, { path: '/a/same' }],
          }),
      );
    }
  });

  test('clients that go away in the middle of an answer: right or left alone', async () => {
    const row = await scenario('headers, aborted answers', { ...front, keepalive: true }, ({ sentTo }) =>
      sentTo({
        connections: 40,
        total: 3000,
        ratePerSecond: 500,
        requests: [
          { path: '/a/rate/2000000', abortAfterMs: 15, weight: 0.3 },
          { path: '/a/size/65536', headers: ['Range: bytes=0-{n}'] },
        ],
      }),
    );
    assertNamed(row, 0.5);
  });

  test('auth_request and mirror, whose requests are not logged: right or left alone', async () => {
    for (const kind of ['auth_request', 'mirror'] as const) {
      const locations = `
    location /a/${kind}/ { ${kind} /internal; proxy_pass http://svc_a; }
    location = /internal {
      internal;
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_set_header Connection "";
      proxy_pass http://svc_a/${kind};
    }`;
      await scenario(`headers, ${kind}`, { ...front, keepalive: true, locations }, ({ sentTo }) =>
        sentTo({
          connections: 20,
          total: 3000,
          ratePerSecond: 500,
          requests: [
            { path: `/a/${kind}/size/65536`, headers: ['Range: bytes=0-{n}'] },
            { path: `/a/${kind}/same` },
          ],
        }),
      );
    }
  });
});

for (const [where, services] of [
  ['IPv6', ['a6']],
  ["nginx on the node's network", ['a']],
] as const) {
  describe(`--tap headers, ${where}`, { skip, concurrency: false, timeout: 200_000 }, () => {
    test('nearly every line names its pod', async () => {
      const opened = await open(['--tap', 'headers', '--auth', 'none']);
      try {
        const { scene } = opened;
        const there = services[0] === 'a' ? { ...scene, fronts: [scene.node] } : scene;
        const name = `headers, keepalive, varied sizes, 1000/s, ${where}`;
        const row = await judge(there, rows).scenario(
          name,
          { format: 'counts', withoutIdHeader: true, keepalive: true, services: [...services, 'solo'] },
          ({ sentTo }) =>
            sentTo({
              connections: 100,
              total: 5000,
              ratePerSecond: 1000,
              requests: VARIED.map((each) => ({
                ...each,
                path: each.path.replace('/a/', `/${services[0]}/`),
              })),
            }),
        );
        assertNamed(row, 0.98);
      } finally {
        await opened.scene.dispose();
      }
    });
  });
}

/** How much is named depends on how busy the machine is: only that all of it is right is asked for. */
const OPEN_LOOP: readonly (readonly [rate: number, total: number])[] = [
  [100, 3000],
  [300, 6000],
  [500, 8000],
  [1000, 12_000],
  [2000, 16_000],
];

for (const kernelTimes of [false, true]) {
  const times = kernelTimes ? "kernel's times" : 'times of reading';
  describe(`tap off, no upstream keepalive, ${times}`, { skip, concurrency: false, timeout: 400_000 }, () => {
    let scene: Scene;
    let scenario: Judge['scenario'];
    before(async () => {
      ({ scene, scenario } = await open(['--sources', 'conntrack']));
      if (kernelTimes) scene.runIn(scene.node, 'sysctl -qw net.netfilter.nf_conntrack_timestamp=1');
    });
    after(async () => {
      await scene?.dispose();
    });
    const front = {
      format: 'times',
      withoutIdHeader: true,
      services: ['a', 'solo'],
      sidecarArgs: ['--evidence', 'inferred'],
      warmUp: ({ sentTo }: Bench) =>
        sentTo({ connections: 10, total: 150, ratePerSecond: 100, requests: EQUAL }),
    } as const;
    const slow = {
      ...front,
      services: ['slow', 'solo'],
      warmUp: ({ sentTo }: Bench) => sentTo({ connections: 1, total: 150, requests: SLOW }),
    } as const;

    for (const [rate, total] of OPEN_LOOP) {
      const name = `timing, ${rate}/s, ${times}`;
      test(name, async () => {
        const row = await scenario(name, front, ({ sentTo }) =>
          sentTo({ connections: 100, total, ratePerSecond: rate, requests: EQUAL }),
        );
        if (rate <= 300) assert.ok((row.evidence.timing ?? 0) > 0, JSON.stringify(row));
      });
    }

    for (const [connections, total] of [
      [1, 500],
      [10, 4000],
    ] as const) {
      const name = `timing, ${connections} connections in a closed loop, answers in 10 to 20 ms, ${times}`;
      test(name, async () => {
        await scenario(name, slow, ({ sentTo }) => sentTo({ connections, total, requests: SLOW }));
      });
    }

    test(`upstream keepalive, 100 connections, ${times}: nothing is deduced`, async () => {
      const name = `timing, upstream keepalive, 100 connections, ${times}`;
      const row = await scenario(name, { ...front, keepalive: true }, ({ sentTo }) =>
        sentTo({ connections: 100, total: 6000, requests: EQUAL }),
      );
      assert.equal(row.evidence.timing ?? 0, 0);
    });
  });
}
