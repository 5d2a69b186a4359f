/**
 * `npm run test:chart`: the chart with its webhook, as Helm installs it, in a cluster without realpod: pods of a labelled
 * namespace get the sidecar and their lines get names; while the webhook is away pods come without one; certificates that
 * are lost are made again; an upgrade keeps them; after the removal nothing is left.
 *
 * REALPOD_CLUSTER_KUBECTL  how kubectl is called (`kubectl`)
 * REALPOD_CLUSTER_HELM     how Helm is called (`helm`)
 * REALPOD_CLUSTER_LOAD     a command that brings the images onto every node
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { inNamespace, kubectl, NAMESPACE, shell, until } from './kit/kubectl.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const HELM = (process.env.REALPOD_CLUSTER_HELM ?? 'helm').split(' ');
const REQUESTS = 40;

function helm(...args: string[]): string {
  const [program, ...first] = HELM;
  return execFileSync(program!, [...first, ...args], { encoding: 'utf8', timeout: 180_000 });
}

const inRealpod = (...args: string[]): Promise<string> => kubectl('-n', 'realpod', ...args);
const rolled = (...what: string[]): Promise<string> => kubectl(...what, '--timeout=120s');

interface Pod {
  metadata: { name: string; deletionTimestamp?: string };
  spec: { initContainers?: { name: string }[] };
}

async function nginxPods(): Promise<Pod[]> {
  const { items } = JSON.parse(await inNamespace('get', 'pods', '-l', 'app=nginx', '-o', 'json')) as {
    items: Pod[];
  };
  return items.filter(({ metadata }) => metadata.deletionTimestamp === undefined);
}

const hasSidecar = ({ spec }: Pod): boolean => !!spec.initContainers?.some(({ name }) => name === 'realpod');

/** Which of nginx's pods have the sidecar, after all were made anew. */
async function afterRestart(): Promise<boolean[]> {
  await inNamespace('rollout', 'restart', 'deploy/nginx');
  await rolled('-n', NAMESPACE, 'rollout', 'status', 'deploy/nginx');
  return (await nginxPods()).map(hasSidecar);
}

async function bundle(): Promise<string> {
  const path = 'jsonpath={.webhooks[0].clientConfig.caBundle}';
  return kubectl('get', 'mutatingwebhookconfiguration', 'realpod-webhook', '-o', path);
}

const steps: [name: string, run: () => Promise<void>][] = [
  [
    'helm install brings a helper onto every node and two webhooks',
    async () => {
      await kubectl('create', 'namespace', 'realpod');
      await kubectl('label', 'namespace', 'realpod', 'pod-security.kubernetes.io/enforce=privileged');
      helm('install', 'realpod', `${ROOT}k8s/chart`, '-n', 'realpod', '--set', 'webhook.enabled=true');
      await rolled('-n', 'realpod', 'rollout', 'status', 'ds/realpod-helper');
      await rolled('-n', 'realpod', 'rollout', 'status', 'deploy/realpod-webhook');
      const nodes = (await kubectl('get', 'nodes', '-o', 'name')).trim().split('\n').length;
      const ready = await inRealpod('get', 'ds/realpod-helper', '-o', 'jsonpath={.status.numberReady}');
      assert.equal(Number(ready), nodes);
      assert.notEqual(await bundle(), '');
    },
  ],
  [
    'pods of a labelled namespace get the sidecar, and their lines the names of pods',
    async () => {
      await kubectl('apply', '-f', `${ROOT}k8s/example/namespace.yaml`);
      await kubectl('label', 'namespace', NAMESPACE, 'realpod.io/inject=enabled');
      for (const file of ['options', 'backend', 'nginx']) {
        await kubectl('apply', '-f', `${ROOT}k8s/example/${file}.yaml`);
      }
      for (const name of ['backend', 'nginx']) {
        await rolled('-n', NAMESPACE, 'rollout', 'status', `deploy/${name}`);
      }
      const pods = await nginxPods();
      assert.deepEqual(
        [...new Set(pods.map(hasSidecar))],
        [true],
        'the API server reaches the webhook’s Service',
      );
      const path = `/api/v1/namespaces/${NAMESPACE}/services/nginx:80/proxy/r`;
      for (let n = 0; n < REQUESTS; n++) await kubectl('get', '--raw', `${path}/${n}`);
      let named = 0;
      await until(
        `${REQUESTS} named lines`,
        async () => {
          const logs = await Promise.all(
            pods.map(({ metadata }) => inNamespace('logs', metadata.name, '-c', 'realpod')),
          );
          const lines = logs
            .join('')
            .split('\n')
            .filter((line) => line.includes('"GET /r/'));
          named = lines.filter((line) => /\bbackend-\w+-\w+/.test(line)).length;
          return lines.length === REQUESTS;
        },
        30_000,
      );
      console.log(`  ${named} of ${REQUESTS} lines name a pod`);
      assert.equal(named, REQUESTS);
    },
  ],
  [
    'while the webhook is away pods come up without a sidecar, and with one again after it',
    async () => {
      await inRealpod('scale', 'deploy/realpod-webhook', '--replicas=0');
      await until(
        'no webhook',
        async () =>
          (await inRealpod('get', 'pods', '-l', 'app.kubernetes.io/component=webhook', '-o', 'name')) === '',
      );
      assert.deepEqual([...new Set(await afterRestart())], [false]);
      await inRealpod('scale', 'deploy/realpod-webhook', '--replicas=2');
      await rolled('-n', 'realpod', 'rollout', 'status', 'deploy/realpod-webhook');
      assert.deepEqual([...new Set(await afterRestart())], [true]);
    },
  ],
  [
    'certificates that are lost are made again, and the API server believes them',
    async () => {
      const before = await bundle();
      await inRealpod(
        'patch',
        'secret',
        'realpod-webhook',
        '--type=json',
        '-p',
        '[{"op":"remove","path":"/data"}]',
      );
      await until('another bundle', async () => (await bundle()) !== before, 90_000);
      await inRealpod('rollout', 'restart', 'deploy/realpod-webhook');
      await rolled('-n', 'realpod', 'rollout', 'status', 'deploy/realpod-webhook');
      assert.deepEqual([...new Set(await afterRestart())], [true]);
    },
  ],
  [
    'an upgrade changes an option and keeps the certificates',
    async () => {
      const before = await bundle();
      const values = ['--reuse-values', '--set', 'helper.options.tap-snaplen=2048'];
      helm('upgrade', 'realpod', `${ROOT}k8s/chart`, '-n', 'realpod', ...values);
      await rolled('-n', 'realpod', 'rollout', 'status', 'ds/realpod-helper');
      assert.match(await inRealpod('get', 'ds/realpod-helper', '-o', 'yaml'), /REALPOD_TAP_SNAPLEN/);
      assert.equal(await bundle(), before);
    },
  ],
  [
    'after the removal nothing of it is left',
    async () => {
      await kubectl('delete', 'namespace', NAMESPACE, '--wait=false');
      helm('uninstall', 'realpod', '-n', 'realpod', '--wait');
      const kinds =
        'all,secrets,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings,resourcequotas,poddisruptionbudgets,mutatingwebhookconfigurations';
      const label = 'app.kubernetes.io/part-of=realpod';
      await until(
        'nothing',
        async () => (await kubectl('get', kinds, '-A', '-l', label, '-o', 'name')).trim() === '',
      );
      await kubectl('delete', 'namespace', 'realpod', '--wait=false');
    },
  ],
];

if (process.env.REALPOD_CLUSTER_LOAD !== undefined) await shell(process.env.REALPOD_CLUSTER_LOAD);
for (const [name, run] of steps) {
  const from = performance.now();
  await run();
  console.log(`ok ${name} (${((performance.now() - from) / 1000).toFixed(0)} s)`);
}
