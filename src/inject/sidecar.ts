/** What a pod gets: the same as the kustomize Component in k8s/sidecar (a test compares the two). */

export const SIDECAR_NAME = 'realpod';
export const LOG_VOLUME = 'realpod-log';
export const TOKEN_VOLUME = 'realpod-token';
export const LOG_DIRECTORY = '/var/log/nginx';
const TOKEN_DIRECTORY = '/var/run/secrets/realpod';

/**
 * Creates the log so that the sidecar may give its consumed bytes back, and keeps nginx's errors on its stderr. nginx
 * starts when this has ended: when the feed is read, so that its first requests are seen, or after 10 s. Where nginx has
 * logged already only this container starts again.
 */
const PREPARE = [
  `cd ${LOG_DIRECTORY} || exit 0`,
  'umask 0',
  'touch access.log',
  'if [ ! -e error.log ]; then ln -s /dev/stderr error.log; fi',
  'n=0',
  'while [ -w . ] && [ ! -s access.log ] && [ ! -e .realpod-ready ] && [ $n -lt 100 ]; do',
  '  n=$((n+1))',
  '  sleep 0.1',
  'done',
  'exit 0',
].join('\n');

export interface VolumeMount {
  name: string;
  mountPath: string;
  subPath?: string;
  subPathExpr?: string;
}

/**
 * A native sidecar (Kubernetes 1.29): starts before nginx, ends after it. It has no probes: a probe that fails, on a
 * sidecar too, takes the whole pod out of its Services. `prepare`: the log's volume is the sidecar's own.
 */
export function sidecarContainer(image: string, log: VolumeMount, prepare: boolean): Record<string, unknown> {
  return {
    name: SIDECAR_NAME,
    image,
    imagePullPolicy: 'IfNotPresent',
    restartPolicy: 'Always',
    args: [
      'sidecar',
      `--access-log=${LOG_DIRECTORY}/access.log`,
      `--state=${LOG_DIRECTORY}/.realpod-state`,
      `--ready-file=${LOG_DIRECTORY}/.realpod-ready`,
      '--reclaim',
      `--token-file=${TOKEN_DIRECTORY}/token`,
    ],
    env: [{ name: 'HOST_IP', valueFrom: { fieldRef: { fieldPath: 'status.hostIP' } } }],
    envFrom: [{ configMapRef: { name: 'realpod', optional: true } }],
    ports: [{ name: 'realpod', containerPort: 9798 }],
    ...(prepare ? { lifecycle: { postStart: { exec: { command: ['/bin/sh', '-c', PREPARE] } } } } : {}),
    resources: { requests: { cpu: '10m', memory: '96Mi' }, limits: { memory: '256Mi' } },
    securityContext: {
      runAsUser: 65532,
      runAsGroup: 65532,
      runAsNonRoot: true,
      readOnlyRootFilesystem: true,
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
      seccompProfile: { type: 'RuntimeDefault' },
    },
    volumeMounts: [log, { name: TOKEN_VOLUME, mountPath: TOKEN_DIRECTORY, readOnly: true }],
  };
}

export function logVolume(size: string): Record<string, unknown> {
  return { name: LOG_VOLUME, emptyDir: { sizeLimit: size } };
}

export function tokenVolume(): Record<string, unknown> {
  return {
    name: TOKEN_VOLUME,
    projected: {
      sources: [{ serviceAccountToken: { audience: 'realpod', expirationSeconds: 3600, path: 'token' } }],
    },
  };
}
