/** What a pod gets: the same as the kustomize Component in k8s/sidecar (a test compares the two). */
import { posix } from 'node:path';
import type { VolumeMount } from './pod-spec.ts';
import type { Quantities } from './resources.ts';

export const SIDECAR_NAME = 'realpod';
export const LOG_VOLUME = 'realpod-log';
export const TOKEN_VOLUME = 'realpod-token';
const DEFAULT_LOG_PATH = '/var/log/nginx/access.log';
const TOKEN_DIRECTORY = '/var/run/secrets/realpod';

export const DEFAULT_REQUESTS: Quantities = { cpu: '10m', memory: '96Mi' };
export const SIDECAR_LIMITS: Quantities = { memory: '256Mi' };

export interface SidecarParts {
  image: string;
  /** nginx's access log, absolute. */
  logPath: string;
  /** The mount that holds it. */
  log: VolumeMount;
  /** The log's volume was added for the sidecar. */
  ownVolume: boolean;
  /** Bytes that were read may be given back. */
  reclaim: boolean;
  configuration: { path: string; mounts: VolumeMount[] } | undefined;
  env: readonly { name: string }[];
  limits: Quantities;
  requests: Quantities;
}

/**
 * Where the volume is the sidecar's own, creates the log so that the sidecar may give its consumed bytes back, and keeps
 * nginx's errors on its stderr. nginx starts when this has ended: when the feed is read, so that its first requests are
 * seen, or after 10 s. Where nginx has logged already only this container starts again.
 */
function postStart(logPath: string, ownVolume: boolean): string {
  const file = posix.basename(logPath);
  return [
    `cd ${posix.dirname(logPath)} || exit 0`,
    ...(ownVolume
      ? ['umask 0', `touch ${file}`, 'if [ ! -e error.log ]; then ln -s /dev/stderr error.log; fi']
      : []),
    'n=0',
    `while [ -w . ] && [ ! -s ${file} ] && [ ! -e .realpod-ready ] && [ $n -lt 100 ]; do`,
    '  n=$((n+1))',
    '  sleep 0.1',
    'done',
    'exit 0',
  ].join('\n');
}

/**
 * A native sidecar (Kubernetes 1.29): starts before nginx, ends after it. It has no probes: a probe that fails, on a
 * sidecar too, takes the whole pod out of its Services. nginx's configuration is mounted where a ConfigMap brings it, but
 * the ConfigMap `realpod` decides whether it is used: a log that cannot be followed would end the sidecar. The log's path is a variable only where it is not the option's
 * default: a variable of the container is stronger than the ConfigMap.
 */
export function sidecarContainer(parts: SidecarParts): Record<string, unknown> {
  const { image, logPath, log, ownVolume, reclaim, configuration, env, limits, requests } = parts;
  const directory = posix.dirname(logPath);
  return {
    name: SIDECAR_NAME,
    image,
    imagePullPolicy: 'IfNotPresent',
    restartPolicy: 'Always',
    args: [
      'sidecar',
      `--state=${directory}/.realpod-state`,
      `--ready-file=${directory}/.realpod-ready`,
      ...(reclaim ? ['--reclaim'] : []),
      `--token-file=${TOKEN_DIRECTORY}/token`,
    ],
    env: [
      { name: 'HOST_IP', valueFrom: { fieldRef: { fieldPath: 'status.hostIP' } } },
      ...(logPath === DEFAULT_LOG_PATH ? [] : [{ name: 'REALPOD_ACCESS_LOG', value: logPath }]),
      ...env,
    ],
    envFrom: [{ configMapRef: { name: 'realpod', optional: true } }],
    ports: [{ name: 'realpod', containerPort: 9798 }],
    lifecycle: {
      postStart: { exec: { command: ['/bin/sh', '-c', postStart(logPath, ownVolume)] } },
    },
    resources: { requests: { ...requests }, limits: { ...limits } },
    securityContext: {
      runAsUser: 65532,
      runAsGroup: 65532,
      runAsNonRoot: true,
      readOnlyRootFilesystem: true,
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
      seccompProfile: { type: 'RuntimeDefault' },
    },
    volumeMounts: [
      log,
      { name: TOKEN_VOLUME, mountPath: TOKEN_DIRECTORY, readOnly: true },
      ...(configuration?.mounts ?? []),
    ],
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
