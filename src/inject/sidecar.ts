/** The parts that inject adds to a pod: the same as the kustomize Component in k8s/sidecar (a test compares the two). */
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
  /** The mount with the log. */
  log: VolumeMount;
  /** The log's volume is added for the sidecar. */
  ownVolume: boolean;
  /** The sidecar may free the bytes it has read. */
  reclaim: boolean;
  configuration: { path: string; mounts: VolumeMount[] } | undefined;
  env: readonly { name: string }[];
  limits: Quantities;
  requests: Quantities;
}

/**
 * If the volume is added for the sidecar, creates the log with rights for the sidecar to free consumed bytes, and keeps
 * nginx's errors on stderr. nginx starts after this script: when the sidecar reads the feed, so that the first requests are
 * seen, or after 10 s. If the log has lines, only this container restarted, and the script does not wait.
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
 * A native sidecar (Kubernetes 1.29): starts before nginx, ends after it. It has no probes: a failed probe, also of a
 * sidecar, removes the whole pod from its Services. nginx's configuration is mounted if it comes from a ConfigMap, but
 * only the ConfigMap `realpod` enables it: a log that cannot be followed would end the sidecar. The log's path is a
 * variable only if it is not the option's default: a variable of the container has precedence over the ConfigMap.
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
