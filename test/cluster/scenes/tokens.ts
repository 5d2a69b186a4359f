/** Tokens in the wrong hands: what the helper answers a pod that asks for another one's feed. */
import assert from 'node:assert/strict';
import { apply, kubectl } from '../kit/kubectl.ts';
import type { Scene } from './scene.ts';

const NAMESPACE = 'realpod-tokens';
const inTokens = (...args: string[]): Promise<string> => kubectl('-n', NAMESPACE, ...args);

/** Two pods on one node, each with a token for realpod, as the sidecar has it, and the one for the API server. */
const PODS = ['a', 'b']
  .map(
    (name) => `apiVersion: v1
kind: Pod
metadata: {name: ${name}, namespace: ${NAMESPACE}, labels: {app: ${name}}}
spec:
  terminationGracePeriodSeconds: 1
  affinity:
    podAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        - {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: a}}}
  containers:
    - name: node
      image: ghcr.io/realpod/sidecar:0.1.0
      imagePullPolicy: IfNotPresent
      command: [sleep, "3600"]
      env: [{name: HOST_IP, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}]
      volumeMounts: [{name: token, mountPath: /var/run/secrets/realpod}]
  volumes:
    - name: token
      projected: {sources: [{serviceAccountToken: {audience: realpod, expirationSeconds: 3600, path: token}}]}`,
  )
  .join('\n---\n');

/** Asks the helper of the pod's node for the watermark of `src`: status and code. */
async function ask(pod: string, src: string, token: string): Promise<string> {
  const script = `fetch("http://" + process.env.HOST_IP + ":9797/v1/watermark?src=${src}", { headers: { authorization: "Bearer ${token}" } })
    .then(async (r) => console.log(r.status, (await r.json()).error?.code ?? ""))`;
  return (await inTokens('exec', pod, '--', 'node', '-e', script)).trim();
}

const read = async (pod: string, path: string): Promise<string> =>
  (await inTokens('exec', pod, '--', 'cat', path)).trim();

export const TOKENS: readonly Scene[] = [
  {
    name: 'tokens in the wrong hands',
    async run() {
      await kubectl('delete', 'namespace', NAMESPACE, '--ignore-not-found');
      await kubectl('create', 'namespace', NAMESPACE);
      await apply(PODS);
      await inTokens('wait', 'pods', '--all', '--for=condition=Ready', '--timeout=90s');
      const [a = '', b = ''] = await Promise.all(
        ['a', 'b'].map((pod) => inTokens('get', 'pod', pod, '-o', 'jsonpath={.status.podIP}')),
      );
      const own = await read('a', '/var/run/secrets/realpod/token');
      const ofB = await read('b', '/var/run/secrets/realpod/token');
      const forApi = await read('a', '/var/run/secrets/kubernetes.io/serviceaccount/token');
      const ofNoPod = (await inTokens('create', 'token', 'default', '--audience=realpod')).trim();
      const answers = {
        'its own': await ask('a', a, own),
        'its own, for the address of another pod': await ask('a', b, own),
        none: await ask('a', a, ''),
        'the one for the API server': await ask('a', a, forApi),
        'one of the service account, of no pod': await ask('a', a, ofNoPod),
        'one whose signature was changed': await ask('a', a, `${own.slice(0, -6)}AAAAAA`),
        'that of another pod, for its address': await ask('a', b, ofB),
      };
      console.log(answers);
      assert.deepEqual(answers, {
        'its own': '200',
        'its own, for the address of another pod': '403 address-not-yours',
        none: '401 token-missing',
        'the one for the API server': '401 token-audience',
        'one of the service account, of no pod': '403 token-not-of-a-pod',
        'one whose signature was changed': '401 token-invalid',
        'that of another pod, for its address': '403 address-not-yours',
      });
      await kubectl('delete', 'namespace', NAMESPACE, '--wait=false');
    },
  },
];
