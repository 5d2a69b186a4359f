/** The article's own format, which has no id, no times, and nginx unchanged: named by the order of answers. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { LoadPlan } from './kit/load.ts';
import { startBackends } from './kit/nginx.ts';
import { startHelper } from './kit/product.ts';
import { labCanRun } from './kit/requirements.ts';
import { type Row, writeResults } from './kit/results.ts';
import { type Judge, judge } from './kit/scenario.ts';
import { createScene, type Scene } from './kit/scene.ts';

function named({ right, unverified, attempts }: Row): number {
  return (right + unverified) / attempts;
}

/** 300 targets by Zipf, 41 User-Agents, 11 Referers; one in five is a health check. */
function realistic(): LoadPlan['requests'] {
  const pages = Array.from({ length: 300 }, (_, i) => ({
    path: `/a/page/${i}`,
    weight: 1 / (i + 1),
    headers: ['User-Agent: Agent/{r41}', 'Referer: http://lab/{r11}'],
  }));
  const weight = pages.reduce((sum, page) => sum + page.weight, 0) / 4;
  return [...pages, { path: '/a/health', weight, headers: ['User-Agent: kube-probe/1.36'] }];
}

describe('lines that say nothing', { skip: !labCanRun(), concurrency: false, timeout: 400_000 }, () => {
  let scene: Scene;
  let scenario: Judge['scenario'];
  const rows: Judge['rows'] = [];

  before(async () => {
    scene = await createScene({
      pods: 3,
      services: [
        { name: 'a', port: 10000, targetPort: 10000, pods: [0, 1, 2] },
        { name: 'solo', port: 10000, targetPort: 10001, pods: [0] },
      ],
    });
    await startBackends(scene, [10000, 10001]);
    await startHelper(scene);
    ({ scenario } = judge(scene, rows));
  });
  after(async () => {
    await scene?.dispose();
    writeResults('lines that say nothing', rows);
  });

  for (const keepalive of [false, true])
    for (const [rate, total, share] of [
      [1, 15, 0.9],
      // How much of these depends on how soon this machine reads: nearly all on a quiet one.
      [10, 200, 0.5],
      [100, 1500, 0.2],
    ] as const) {
      const name = `${rate}/s, ${keepalive ? 'keepalive' : 'no keepalive'}`;
      test(name, async () => {
        const row = await scenario(
          name,
          { format: 'article', keepalive, services: ['a', 'solo'] },
          ({ sentTo }) =>
            sentTo({ total, ratePerSecond: rate, connections: 10, requests: [{ path: '/a/same' }] }),
        );
        assert.ok(named(row) >= share, `${name}: ${JSON.stringify(row)}`);
      });
    }

  test('one kept connection, as fast as it goes: every answer is seen', async () => {
    const name = 'one connection, as fast as it goes, keepalive';
    const row = await scenario(
      name,
      { format: 'article', keepalive: true, services: ['a', 'solo'] },
      ({ sentTo }) => sentTo({ total: 4000, connections: 1, requests: [{ path: '/a/same' }] }),
    );
    assert.equal(row.reasons.gap ?? 0, 0, JSON.stringify(row));
  });

  for (const [rate, total, keepalive, connections, share] of [
    // As above: how much depends on how soon this machine reads.
    [10, 200, false, 10, 0.5],
    [100, 1500, false, 10, 0.5],
    [1000, 10_000, true, 100, 0.3],
  ] as const) {
    const name = `realistic clients, ${rate}/s, ${keepalive ? 'keepalive' : 'no keepalive'}`;
    test(name, async () => {
      const row = await scenario(
        name,
        { format: 'article', keepalive, services: ['a', 'solo'], nginxConf: true, withoutIdHeader: true },
        ({ sentTo }) => sentTo({ total, ratePerSecond: rate, connections, requests: realistic() }),
      );
      assert.ok(named(row) >= share, `${name}: ${JSON.stringify(row)}`);
    });
  }
});
