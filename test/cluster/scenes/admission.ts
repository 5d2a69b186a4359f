/** Namespaces that refuse pods: by quota, by limits, by the restricted Pod Security Standard. */
import assert from 'node:assert/strict';
import { inject } from '../kit/inject.ts';
import { apply, kubectl, until } from '../kit/kubectl.ts';
import type { Scene } from './scene.ts';

/** nginx as any user, with limits of its own. */
const nginx = (namespace: string): string => `apiVersion: v1
kind: ConfigMap
metadata: {name: nginx, namespace: ${namespace}}
data:
  nginx.conf: |
    pid /tmp/nginx.pid;
    events {}
    http {
      client_body_temp_path /tmp/a; proxy_temp_path /tmp/b; fastcgi_temp_path /tmp/c; uwsgi_temp_path /tmp/d; scgi_temp_path /tmp/e;
      server { listen 8080; access_log /var/log/nginx/access.log; return 200 "here"; }
    }
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: nginx, namespace: ${namespace}}
spec:
  selector: {matchLabels: {app: nginx}}
  template:
    metadata: {labels: {app: nginx}}
    spec:
      securityContext: {runAsNonRoot: true, runAsUser: 10101, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: nginx
          image: nginx:1.29
          resources: {requests: {cpu: 10m, memory: 32Mi}, limits: {cpu: 100m, memory: 64Mi}}
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
          volumeMounts: [{name: conf, mountPath: /etc/nginx/nginx.conf, subPath: nginx.conf}]
      volumes: [{name: conf, configMap: {name: nginx}}]
`;

/** Makes the namespace anew, with `more` in it. */
async function create(namespace: string, more: string): Promise<void> {
  await kubectl('delete', 'namespace', namespace, '--ignore-not-found');
  await kubectl('create', 'namespace', namespace);
  if (more !== '') await apply(more);
}

/** Why the ReplicaSet cannot make its pods. */
async function refusal(namespace: string): Promise<string> {
  const events = ['get', 'events', '--field-selector=reason=FailedCreate'];
  const text = 'jsonpath={.items[*].message}';
  let said = '';
  await until('an event', async () => {
    said = await kubectl('-n', namespace, ...events, '-o', text);
    return said !== '';
  });
  return said;
}

const runs = (namespace: string): Promise<string> =>
  kubectl('-n', namespace, 'rollout', 'status', 'deploy/nginx', '--timeout=120s');

const QUOTA = 'realpod-quota';
const LIMITS = 'realpod-limits';
const RESTRICTED = 'realpod-restricted';
/** The namespaces of these scenes. */
export const inAdmission = [QUOTA, LIMITS, RESTRICTED];

export const ADMISSION: readonly Scene[] = [
  {
    name: 'a quota that asks for CPU limits: refused by default, admitted with --limits',
    async run() {
      await create(
        QUOTA,
        `apiVersion: v1
kind: ResourceQuota
metadata: {name: all, namespace: ${QUOTA}}
spec: {hard: {limits.cpu: "1", limits.memory: 512Mi, requests.cpu: "1", requests.memory: 512Mi}}`,
      );
      await apply(inject(nginx(QUOTA)));
      assert.match(await refusal(QUOTA), /must specify limits\.cpu for: realpod/);
      await apply(inject(nginx(QUOTA), '--limits', 'cpu=200m,memory=128Mi'));
      await runs(QUOTA);
    },
  },
  {
    name: 'a LimitRange below the sidecar’s memory: refused by default, admitted with --limits',
    async run() {
      await create(
        LIMITS,
        `apiVersion: v1
kind: LimitRange
metadata: {name: all, namespace: ${LIMITS}}
spec: {limits: [{type: Container, max: {cpu: 500m, memory: 128Mi}, default: {cpu: 200m, memory: 128Mi}}]}`,
      );
      await apply(inject(nginx(LIMITS)));
      assert.match(await refusal(LIMITS), /maximum memory usage per Container is 128Mi/);
      await apply(inject(nginx(LIMITS), '--limits', 'memory=128Mi'));
      await runs(LIMITS);
    },
  },
  {
    name: 'a restricted namespace admits the sidecar, and its lines come out',
    async run() {
      await create(RESTRICTED, '');
      await kubectl('label', 'namespace', RESTRICTED, 'pod-security.kubernetes.io/enforce=restricted');
      await apply(inject(nginx(RESTRICTED)));
      await runs(RESTRICTED);
      const pod = await kubectl('-n', RESTRICTED, 'get', 'pods', '-o', 'jsonpath={.items[0].metadata.name}');
      await kubectl('get', '--raw', `/api/v1/namespaces/${RESTRICTED}/pods/${pod}:8080/proxy/here`);
      await until('the line', async () =>
        (await kubectl('-n', RESTRICTED, 'logs', pod, '-c', 'realpod')).includes('"GET /here HTTP/1.1" 200 '),
      );
    },
  },
];
