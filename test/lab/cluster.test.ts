/** The helper with names and tokens and the sidecar with its own, while pods are replaced; the pod's name is the truth. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { service, slice } from '../unit/api-server.ts';
import { compare, readMetrics } from './kit/check.ts';
import { type ApiServer, startApiServer, startNamed } from './kit/cluster.ts';
import { FORMATS } from './kit/formats.ts';
import { type Nginx, startFront, until } from './kit/nginx.ts';
import {
  caughtUp,
  countLines,
  HELPER_PORT,
  type Program,
  type Sidecar,
  startHelper,
  startSidecar,
  untilExact,
} from './kit/product.ts';
import { labCanRun } from './kit/requirements.ts';
import { dropLines } from './kit/scenario.ts';
import { createScene, NODE_IP, type Scene, type ServiceSpec } from './kit/scene.ts';
import { load } from './kit/traffic.ts';

const NODE = 'worker-1';
const FORMAT = FORMATS.full.replace(
  ' "$upstream_http_x_pod_ip"',
  ' "$upstream_http_x_pod_name" "$upstream_http_x_pod_ip"',
);
/** What `--style annotate` adds, and before it the pod's own word: name, ip, port, client port. */
const NOTE = /^(.*"([^"]*)" "([^"]*)" "[^"]*" "[^"]*") pod=(\S+) evidence=(\S+)$/;

/** One line of the log: what the pod that answered last says it is, and what the sidecar says. */
interface Named {
  plain: string;
  truth: string;
  ip: string;
  /** `shop/NAME`, or `ip:port`. */
  said: string;
}

function readNamed(text: string): Named[] {
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const match = NOTE.exec(line);
      assert.ok(match, line);
      const [, plain = '', truth = '', ip = '', pods = ''] = match;
      return { plain, truth, ip, said: pods.split(',').at(-1) ?? '' };
    });
}

describe('in a cluster', { skip: !labCanRun(), concurrency: false, timeout: 120_000 }, () => {
  let scene: Scene;
  let api: ApiServer;
  let helper: Program;
  const backends = new Map<string, Nginx>();
  /** Which pod has which of the scene's addresses. */
  const placed = new Map<string, number>();

  /** kube-proxy's knowledge: where connections go. */
  const route = (...pods: number[]): void => {
    const to = { port: 10000, targetPort: 10000, pods };
    const services: ServiceSpec[] = [
      { name: 'a', ...to },
      { name: 'a6', ...to, family: 6 },
      { name: 'solo', ...to, pods: [0] },
    ];
    scene.setServices(services);
  };
  /** The helper's knowledge: the Service's EndpointSlices. */
  const tell = async (leaving?: string): Promise<void> => {
    for (const family of ['ip', 'ip6'] as const) {
      const endpoints = [...placed].map(([pod, at]) => ({
        ip: scene.pods[at]![family],
        pod,
        node: NODE,
        terminating: pod === leaving,
      }));
      await api.send({ put: slice('shop', 'a', family, endpoints) });
    }
  };
  const start = async (pod: string, at: number): Promise<void> => {
    backends.set(pod, await startNamed(scene, scene.pods[at]!, pod, 10000));
    placed.set(pod, at);
  };
  /** As a pod goes: out of the rules first, then it ends, then the API server forgets it. */
  const remove = async (pod: string, ...rest: number[]): Promise<void> => {
    await tell(pod);
    route(...rest);
    await delay(200);
    await backends.get(pod)!.stop();
    placed.delete(pod);
    await tell();
  };
  const ask = (from: Scene['client'], token: string, ...src: string[]): string => {
    const query = src.map((ip) => `src=${ip}`).join('&');
    const url = `http://${NODE_IP}:${HELPER_PORT}/v1/watermark?${query}`;
    return scene.runIn(
      from,
      `curl -sg -m 5 -w '\n%{http_code}' -H 'authorization: Bearer ${token}' '${url}'`,
    );
  };
  const issue = (pod: string, more: object = {}): Promise<string> =>
    api.send({
      issue: {
        namespace: 'shop',
        serviceAccount: 'default',
        pod,
        node: NODE,
        audiences: ['realpod'],
        expires: Date.now() + 3_600_000,
        ...more,
      },
    });

  before(async () => {
    scene = await createScene({ pods: 4 });
    route(0, 1, 2);
    api = await startApiServer(scene);
    for (const [at, pod] of ['web-0', 'web-1', 'web-2'].entries()) await start(pod, at);
    await tell();
    await api.send({
      put: service('shop', 'a', [scene.service('a').clusterIp, scene.service('a6').clusterIp]),
    });
    const front = scene.fronts[0]!;
    const nginx = { pod: 'nginx-0', node: NODE };
    await api.send({ put: slice('shop', 'nginx', 'v4', [{ ip: front.ip, ...nginx }]) });
    await api.send({ put: slice('shop', 'nginx', 'v6', [{ ip: front.ip6, ...nginx }]) });
    process.env.NODE_NAME = NODE;
    helper = await startHelper(scene, ['--auth', 'token', '--kubeconfig', api.kubeconfig]);
    delete process.env.NODE_NAME;
    await until('the helper to have listed both kinds', () => {
      const lists = readMetrics(helper.get('/metrics').text).filter(
        ({ name }) => name === 'realpod_helper_api_lists_total',
      );
      return lists.length === 2 && lists.every(({ value }) => value === 1);
    });
  });
  after(async () => {
    await scene?.dispose();
  });

  test('a token is good for its own pod’s addresses, from that pod, and for nothing else', async () => {
    const { ip, ip6 } = scene.fronts[0]!;
    const neighbour = scene.pods[0]!;
    const own = await issue('nginx-0');
    const code = (answer: string): string => {
      const [body = '', status = ''] = answer.split('\n');
      const { error } = JSON.parse(body) as { error?: { code: string } };
      return error ? `${status} ${error.code}` : status;
    };
    assert.equal(code(ask(scene.fronts[0]!, own, ip)), '200');
    assert.equal(code(ask(scene.fronts[0]!, own, ip, ip6)), '200');
    assert.equal(code(ask(scene.fronts[0]!, own, neighbour.ip)), '403 address-not-yours');
    assert.equal(code(ask(neighbour, own, ip)), '403 address-not-yours');
    assert.equal(code(ask(neighbour, own, neighbour.ip)), '403 address-of-another-pod');
    const elsewhere = await issue('nginx-0', { node: 'worker-2' });
    assert.equal(code(ask(scene.fronts[0]!, elsewhere, ip)), '403 pod-of-another-node');
    const audience = await issue('nginx-0', { audiences: ['vault'] });
    assert.equal(code(ask(scene.fronts[0]!, audience, ip)), '401 token-audience');
    const over = await issue('nginx-0', { expires: Date.now() - 1000 });
    assert.equal(code(ask(scene.fronts[0]!, over, ip)), '401 token-expired');
    assert.equal(code(ask(scene.fronts[0]!, '', ip)), '401 token-missing');
  });

  for (const keepalive of [false, true]) {
    const how = keepalive ? 'keepalive' : 'no keepalive';
    test(`pods are replaced under load, one at the same address, ${how}: old lines the old name, new ones the new`, async (t) => {
      const dir = join(scene.dir, how.replace(' ', '-'));
      const pod = scene.fronts[0]!;
      const front = await startFront(scene, pod, dir, {
        format: FORMAT,
        keepalive,
        // So that new connections are opened all the time, and meet the new pods.
        keepaliveRequests: 20,
        services: ['a', 'a6', 'solo'],
      });
      const tokenFile = join(dir, 'token');
      writeFileSync(tokenFile, await issue('nginx-0'));
      let sidecar: Sidecar | undefined;
      try {
        sidecar = await startSidecar(scene, pod, {
          accessLog: front.accessLog,
          format: FORMAT,
          dir: join(dir, 'sidecar'),
          extra: ['--style', 'annotate', '--token-file', tokenFile],
        });
        await untilExact(scene, sidecar, pod);
        const warmUp = countLines(front.accessLog);
        const gone = [...placed.keys()];
        const send = async (total: number): Promise<void> => {
          const requests = [{ path: '/a/{n}', weight: 3 }, { path: '/a6/{n}' }];
          const done = await load(scene, { connections: 20, total, ratePerSecond: 700, requests });
          assert.equal(done.completed, total, JSON.stringify(done));
        };
        const sent = send(5_000);
        const replace = keepalive ? ['web-6', 'web-7', 'web-8'] : ['web-3', 'web-4', 'web-5'];
        const [fresh = '', same = '', early = ''] = replace;
        const at = [...placed.values()];
        const served = (more: number) => {
          const goal = countLines(front.accessLog) + more;
          return until(`${more} more lines`, () => countLines(front.accessLog) >= goal, 30_000);
        };
        const free = [0, 1, 2, 3].find((index) => !at.includes(index))!;
        await served(500);
        // Another address, as in a rollout.
        await remove(gone[1]!, at[0]!, at[2]!);
        await start(fresh, free);
        await tell();
        route(at[0]!, at[2]!, free);
        await served(600);
        // The same address, named before connections are sent there.
        await remove(gone[2]!, at[0]!, free);
        await start(same, at[2]!);
        await tell();
        route(at[0]!, at[2]!, free);
        await served(600);
        // The same address again, and connections are sent there before the helper has heard of the pod.
        await remove(same, at[0]!, free);
        await start(early, at[2]!);
        route(at[0]!, at[2]!, free);
        await delay(300);
        await tell();
        await sent;
        await send(500);
        await caughtUp(sidecar);
        await delay(250);

        const lines = readNamed(dropLines(readFileSync(sidecar.output), warmUp).toString());
        const plain = Buffer.from(lines.map((line) => `${line.plain}\n`).join(''));
        const row = compare(dropLines(readFileSync(front.accessLog), warmUp), plain);
        const { wrong, lost, repeated, altered, reordered } = row;
        assert.deepEqual(
          { wrong, lost, repeated, altered, reordered },
          { wrong: 0, lost: 0, repeated: 0, altered: 0, reordered: 0 },
          row.findings.join('\n'),
        );
        assert.equal(row.lines, 5_500);
        // A retried line ends in the pod that answered; where none did, there is no truth.
        const known = lines.filter(({ truth }) => truth !== '-' && truth !== '');
        const misnamed = known.filter(
          ({ truth, said }) => said.startsWith('shop/') && said !== `shop/${truth}`,
        );
        assert.deepEqual(misnamed, []);
        const count = (name: string) => known.filter(({ said }) => said === `shop/${name}`).length;
        const leftAlone = known.filter(({ said }) => said === '-');
        const unnamed = known.filter(({ said }) => !said.startsWith('shop/') && said !== '-');
        const counts = [...gone, ...replace].map((name) => `${name} ${count(name)}`).join(', ');
        t.diagnostic(
          `${lines.length} lines: ${counts}, address alone ${unnamed.length}, left alone ${leftAlone.length}`,
        );
        for (const name of [...gone, ...replace]) assert.ok(count(name) > 0, `${name}: ${counts}`);
        assert.ok(leftAlone.length <= 0.01 * lines.length, `${leftAlone.length} left alone`);
        // Only the pod that the helper heard of late may lack its name, and its address has to be there.
        for (const { truth, said, ip } of unnamed) {
          assert.equal(truth, early, said);
          assert.ok(said.includes(ip), said);
        }
        const six = known.filter(({ ip }) => ip.includes(':'));
        assert.ok(six.filter(({ said }) => said !== '-').length > 500, 'lines over IPv6');
        const { pods } = JSON.parse(sidecar.get('/pods').text) as { pods: { pod?: string }[] };
        for (const name of replace)
          assert.ok(
            pods.some(({ pod }) => pod === name),
            name,
          );
      } finally {
        await sidecar?.stop();
        await front.stop();
      }
    });
  }

  test('the helper’s metrics tell of names and tokens', () => {
    const samples = readMetrics(helper.get('/metrics').text);
    const value = (name: string, label?: string) =>
      samples.find((each) => each.name === name && (!label || Object.values(each.labels).includes(label)))
        ?.value ?? 0;
    assert.equal(value('realpod_helper_api_lists_total', 'endpointslices'), 1);
    assert.ok(value('realpod_helper_api_events_total', 'endpointslices') > 20);
    assert.equal(value('realpod_helper_api_away_seconds', 'services'), 0);
    assert.ok(value('realpod_helper_names') >= 8);
    assert.ok(value('realpod_helper_token_reviews_total', 'asked') >= 3);
    assert.ok(value('realpod_helper_token_reviews_total', 'cached') > 0);
    assert.equal(value('realpod_helper_tokens_refused_total'), 2);
  });

  test('nothing is left on the node: nft list ruleset is the same after SIGTERM and after kill -9', async () => {
    const ruleset = () => scene.runIn(scene.node, 'nft -s list ruleset');
    assert.match(ruleset(), /table inet realpod/);
    helper.child.kill('SIGKILL');
    await until('the table to go', () => !ruleset().includes('realpod'));
    const without = ruleset();
    const again = await startHelper(scene);
    assert.notEqual(ruleset(), without);
    assert.equal(await again.stop(), 0);
    assert.equal(ruleset(), without);
  });
});
