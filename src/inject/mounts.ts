import { posix } from 'node:path';
import type { Container, PodSpec, VolumeMount } from './pod-spec.ts';
import { Refused } from './refused.ts';

/** The kubelet's form of a mount path: `var/log//nginx/./` is `/var/log/nginx`. */
export function absolute(path: string): string {
  const normal = posix.normalize(`/${path}`);
  return normal.length > 1 && normal.endsWith('/') ? normal.slice(0, -1) : normal;
}

const holds = (directory: string, path: string): boolean =>
  path === directory || path.startsWith(directory === '/' ? '/' : `${directory}/`);

/** nginx's innermost mount that contains `logPath`; undefined if the log is in the image. Throws Refused. */
export function logMount(label: string, nginx: Container, logPath: string): VolumeMount | undefined {
  let found: VolumeMount | undefined;
  for (const mount of nginx.volumeMounts ?? []) {
    const path = absolute(String(mount.mountPath));
    if (!holds(path, logPath)) continue;
    if (path === logPath) {
      const directory = posix.dirname(logPath);
      throw new Refused(`${label}: ${path} is a mount of its own; mount a volume at ${directory} instead`);
    }
    if (!found || absolute(found.mountPath).length <= path.length) found = mount;
  }
  if (found?.readOnly === true) {
    const path = absolute(found.mountPath);
    throw new Refused(`${label}: ${path} is mounted read-only, nginx cannot log there; remove readOnly`);
  }
  return found;
}

/** Paths of nginx.conf in images. */
const CONFIGURATIONS = [
  '/etc/nginx/nginx.conf',
  '/opt/bitnami/nginx/conf/nginx.conf',
  '/opt/bitnami/openresty/nginx/conf/nginx.conf',
  '/usr/local/openresty/nginx/conf/nginx.conf',
  '/etc/angie/angie.conf',
  '/config/nginx/nginx.conf',
];

/**
 * The main configuration and the mounts with it and its includes, if it comes from a ConfigMap. A ConfigMap with parts only
 * is ignored: the format may be in the image's nginx.conf.
 */
export function configuration(
  spec: PodSpec,
  nginx: Container,
): { path: string; mounts: VolumeMount[] } | undefined {
  const configMaps = new Set(
    (spec.volumes ?? [])
      .filter(({ configMap }) => configMap !== undefined && configMap !== null)
      .map(({ name }) => name),
  );
  const mounts = (nginx.volumeMounts ?? []).filter(({ name, subPathExpr }) => {
    return configMaps.has(name) && subPathExpr === undefined;
  });
  for (const path of CONFIGURATIONS) {
    const directory = posix.dirname(path);
    const holding = mounts.some((mount) => {
      const at = absolute(mount.mountPath);
      return at === path || (at === directory && mount.subPath === undefined);
    });
    if (!holding) continue;
    const around = mounts.filter(({ mountPath }) => holds(directory, absolute(mountPath)));
    return { path, mounts: around.map((mount) => ({ ...copyOf(mount), readOnly: true })) };
  }
  return undefined;
}

/** The mount for a second container to have the same files at the same path. */
export function copyOf({ name, mountPath, subPath, subPathExpr }: VolumeMount): VolumeMount {
  return {
    name,
    mountPath,
    ...(subPath === undefined ? {} : { subPath }),
    ...(subPathExpr === undefined ? {} : { subPathExpr }),
  };
}
