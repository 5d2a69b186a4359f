/** As in a roll of the DaemonSet: each next helper starts beside the one before, which then gets its SIGTERM. */
import assert from 'node:assert/strict';
import { existsSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { readMetrics } from './kit/check.ts';
import { type ApiServer, startApiServer } from './kit/cluster.ts';
import { startBackends, until } from './kit/nginx.ts';
import { CLI, get, HELPER_PORT } from './kit/product.ts';
import { labCanRun } from './kit/requirements.ts';
import { type Judge, judge } from './kit/scenario.ts';
import { createScene, endChild, NODE_IP, type Scene } from './kit/scene.ts';

/** What the kubelet gives a pod, in the process's own mount namespace: with it a helper takes over from another one. */
const AS_POD = `mount -t tmpfs none /run
mkdir -p /run/secrets/kubernetes.io/serviceaccount
echo none >/run/secrets/kubernetes.io/serviceaccount/token
exec "$@"`;
const LISTEN = `${NODE_IP}:${HELPER_PORT}`;

interface NextHelper {
  said(): string;
  /** It has opened its sources and waits for the port. */
  isReady(): boolean;
  end(): Promise<number | null>;
}

describe('one helper after another', { skip: !labCanRun(), concurrency: false, timeout: 300_000 }, () => {
  let scene: Scene;
  let api: ApiServer;
  let scenario: Judge['scenario'];
  let started = 0;

  const start = (): NextHelper => {
    const name = `helper-${++started}`;
    const ready = join(scene.dir, `${name}.ready`);
    const errors = join(scene.dir, `${name}.stderr`);
    const options = ['--auth', 'source-ip', '--kubeconfig', api.kubeconfig, '--ready-file', ready];
    const command = [process.execPath, CLI, 'helper', '--listen', LISTEN, ...options];
    const child = scene.spawnIn(scene.node, 'sh', ['-ec', AS_POD, 'sh', ...command], {
      stdio: ['ignore', 'ignore', openSync(errors, 'a')],
    });
    const said = (): string => readFileSync(errors, 'utf8');
    return {
      said,
      isReady() {
        assert.equal(child.exitCode, null, said());
        return existsSync(ready);
      },
      end: () => endChild(child),
    };
  };
  const metric = (name: string, label: string): number =>
    readMetrics(get(scene, scene.node, `http://${LISTEN}/metrics`).text).find(
      (each) => each.name === name && Object.values(each.labels).includes(label),
    )?.value ?? 0;
  const tables = (): string[] =>
    scene.runIn(scene.node, 'nft list tables').match(/(?<=inet )realpod\S*/g) ?? [];

  before(async () => {
    scene = await createScene({
      pods: 3,
      services: [
        { name: 'a', port: 10000, targetPort: 10000, pods: [0, 1, 2] },
        { name: 'solo', port: 10000, targetPort: 10001, pods: [0] },
      ],
    });
    await startBackends(scene, [10000, 10001]);
    api = await startApiServer(scene);
    ({ scenario } = judge(scene, []));
  });
  after(async () => {
    await scene?.dispose();
  });

  test('the feed goes on where the one before ended', async (t) => {
    let helper = start();
    await until('the first helper to serve', () => helper.said().includes('serving the feed'), 60_000);
    const rolls: string[] = [];
    const row = await scenario(
      'helper rolled twice',
      { format: 'full', services: ['a', 'solo'] },
      async ({ sentTo }) => {
        let done = false;
        const traffic = async (): Promise<void> => {
          while (!done)
            await sentTo({ total: 50, ratePerSecond: 100, connections: 8, requests: [{ path: '/a/{n}' }] });
        };
        const running = traffic();
        for (let roll = 1; roll <= 2; roll++) {
          const next = start();
          await until('the next helper to be ready', next.isReady, 60_000);
          assert.deepEqual(tables().sort(), ['realpod', 'realpod_2']);
          assert.equal(await helper.end(), 0, helper.said());
          helper = next;
          const begun = (how: string) => metric('realpod_helper_feed_starts_total', how);
          await until('the sidecar to read from it', () => begun('resumed') + begun('fresh') > 0);
          rolls.push(`${begun('resumed')} resumed, ${begun('fresh')} fresh`);
        }
        done = true;
        await running;
      },
    );
    assert.deepEqual(rolls, ['1 resumed, 0 fresh', '1 resumed, 0 fresh']);
    assert.equal(tables().length, 1);
    assert.equal(await helper.end(), 0, helper.said());
    assert.deepEqual(tables(), []);
    const left = Object.keys(row.reasons).filter((reason) => row.reasons[reason]! > 0);
    t.diagnostic(`${row.attempts} attempts, ${row.leftAlone} left alone: ${JSON.stringify(row.reasons)}`);
    assert.deepEqual(
      left.filter((reason) => reason !== 'gap' && reason !== 'late'),
      [],
    );
    assert.ok(row.leftAlone <= row.attempts / 4, JSON.stringify(row));
  });
});
