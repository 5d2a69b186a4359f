import { posix } from 'node:path';
import { isIngressController, isLogPathKnown, isNginx, logPathOf } from './images.ts';
import { absolute, configuration, copyOf, logMount } from './mounts.ts';
import type { Container, PodSpec, VolumeMount } from './pod-spec.ts';
import { Refused, Unneeded } from './refused.ts';
import { checkQuantity, quantities } from './resources.ts';
import {
  DEFAULT_REQUESTS,
  LOG_VOLUME,
  logVolume,
  SIDECAR_LIMITS,
  SIDECAR_NAME,
  sidecarContainer,
  TOKEN_VOLUME,
  tokenVolume,
} from './sidecar.ts';

export interface InjectOptions {
  /** Name of the nginx container; undefined: its image identifies it. */
  container?: string | undefined;
  image: string;
  /** nginx's access log; undefined: the known path of the image. */
  logPath?: string | undefined;
  /** Size limit of the log volume, a Kubernetes quantity. */
  logVolumeSize: string;
  /** `cpu=100m,memory=128Mi`; replaces defaults. */
  limits?: string | undefined;
  requests?: string | undefined;
  /** Additional variables of the sidecar. */
  env?: Readonly<Record<string, string>>;
}

export const INJECT_DEFAULTS: InjectOptions = {
  image: 'ghcr.io/realpod/sidecar:0.1.0',
  logVolumeSize: '1Gi',
};

/** The missing parts of a pod, for a manifest and for an admission patch. */
export interface Plan {
  /** Index of the nginx container. */
  nginx: number;
  initContainers: object[];
  volumes: object[];
  /** Mounts to add to the nginx container. */
  volumeMounts: VolumeMount[];
  /** Lines about things to check. */
  notes: string[];
  /** Path of nginx's configuration in the sidecar, if it is mounted there. */
  configuration: string | undefined;
}

/** Index of the nginx container, or -1. `alone`: an only container counts with any image. Throws Refused. */
export function nginxIn(
  label: string,
  spec: PodSpec,
  options: Pick<InjectOptions, 'container'>,
  alone: boolean,
): number {
  const all = spec.containers ?? [];
  if (options.container !== undefined) return all.findIndex(({ name }) => name === options.container);
  const found = all.filter(({ image }) => isNginx(image));
  if (found.length > 1) {
    const names = found.map(({ name }) => name).join(', ');
    throw new Refused(`${label}: several nginx containers (${names}); choose one with --container`);
  }
  if (found[0]) {
    if (isIngressController(found[0].image)) {
      throw new Unneeded(
        `${label}: ${found[0].image} is an ingress controller, which sends requests to pods and not to Services, so its log names the pods already; with service-upstream name it: --container ${found[0].name}`,
      );
    }
    return all.indexOf(found[0]);
  }
  return alone && all.length === 1 ? 0 : -1;
}

/** The parts that the pod needs for its sidecar; undefined if it has one. Throws Refused. */
export function plan(label: string, spec: PodSpec, nginx: number, options: InjectOptions): Plan | undefined {
  if (hasSidecar(label, spec)) return undefined;
  const container = spec.containers?.[nginx];
  if (!container) throw new Refused(`${label}: no nginx container`);
  const logPath = absolute(options.logPath ?? logPathOf(container.image));
  if (/\/$/.test(options.logPath ?? '') || logPath === '/') {
    throw new Refused(
      `--log-path: ${options.logPath} is a directory; give the file, such as ${logPath}/access.log`,
    );
  }
  // It becomes part of a shell script and of arguments.
  if (!/^[\w./@%+-]+$/.test(logPath))
    throw new Refused(`--log-path: ${logPath} has characters other than letters, digits and ./@%+-_`);
  checkQuantity(options.logVolumeSize, '--log-volume-size');
  const given = logMount(label, container, logPath);
  const log = given ? copyOf(given) : { name: LOG_VOLUME, mountPath: posix.dirname(logPath) };
  const settings = configuration(spec, container);
  const notes: string[] = [];
  if (given) notes.push(ofGiven(label, given, spec, container));
  if (spec.hostNetwork === true) {
    notes.push(`${label}: hostNetwork, so the sidecar listens on port 9798 of the node; see k8s/README.md`);
  }
  if (options.logPath === undefined && !isLogPathKnown(container.image)) {
    notes.push(
      `${label}: the access log of ${container.image ?? container.name} is unknown; ${logPath} is assumed, --log-path sets another file`,
    );
  }
  const sidecar = sidecarContainer({
    image: options.image,
    logPath,
    log,
    ownVolume: !given,
    reclaim: !given || isPrivate(given, spec, container),
    configuration: settings,
    env: [...variablesOf(label, log, container), ...variables(options.env)],
    limits: quantities(options.limits, SIDECAR_LIMITS, '--limits'),
    requests: quantities(options.requests, DEFAULT_REQUESTS, '--requests'),
  });
  return {
    nginx,
    initContainers: [sidecar],
    volumes: [...(given ? [] : [logVolume(options.logVolumeSize)]), tokenVolume()],
    volumeMounts: given ? [] : [log],
    notes,
    configuration: settings?.path,
  };
}

function hasSidecar(label: string, spec: PodSpec): boolean {
  const all = [...(spec.initContainers ?? []), ...(spec.containers ?? [])];
  const present = all.find(({ name }) => name === SIDECAR_NAME);
  if (present) {
    if (Array.isArray(present.args) && present.args.includes('sidecar')) return true;
    throw new Refused(
      `${label}: a container named ${SIDECAR_NAME} exists, and it is not the sidecar; rename it`,
    );
  }
  const taken = (spec.volumes ?? []).find(({ name }) => name === LOG_VOLUME || name === TOKEN_VOLUME);
  if (taken) throw new Refused(`${label}: a volume named ${taken.name} exists; rename it`);
  return false;
}

/** Whether only nginx reads the volume, and it ends with the pod: only then may the sidecar free the lines it has read. */
function isPrivate(mount: VolumeMount, spec: PodSpec, nginx: Container): boolean {
  const volume = (spec.volumes ?? []).find(({ name }) => name === mount.name);
  if (!volume || !('emptyDir' in volume)) return false;
  const all = [...(spec.initContainers ?? []), ...(spec.containers ?? [])];
  return all.every(
    (each) => each === nginx || !(each.volumeMounts ?? []).some(({ name }) => name === mount.name),
  );
}

function ofGiven(label: string, mount: VolumeMount, spec: PodSpec, nginx: Container): string {
  const kept = isPrivate(mount, spec, nginx)
    ? ''
    : '; others read it or it outlives the pod, so what was read stays (no --reclaim): rotate the log';
  return `${label}: uses volume ${mount.name}, which nginx has at ${mount.mountPath}${writable(mount, spec)}${kept}`;
}

/** The right that the sidecar's user needs to keep its checkpoint beside the log. Every user can write in an emptyDir. */
function writable(mount: VolumeMount, spec: PodSpec): string {
  const volume = (spec.volumes ?? []).find(({ name }) => name === mount.name);
  if (volume !== undefined && 'emptyDir' in volume) return '';
  const must = '; user 65532 must be able to write there:';
  if (volume !== undefined && 'hostPath' in volume) {
    return `${must} give it the directory on the node, as fsGroup does not reach a hostPath`;
  }
  const group = spec.securityContext?.fsGroup;
  return group === undefined
    ? `${must} set securityContext.fsGroup of the pod, to 65532 say (an emptyDir needs none)`
    : `${must} fsGroup ${group} of the pod allows that if the volume's driver supports it`;
}

/** The variables in `subPathExpr`: without them the kubelet does not start the container. */
function variablesOf(label: string, log: VolumeMount, nginx: Container): { name: string }[] {
  const names = new Set(
    [...String(log.subPathExpr ?? '').matchAll(/\$\(([^)]+)\)/g)].map(([, name]) => name),
  );
  return [...names].map((name) => {
    const found = (Array.isArray(nginx.env) ? nginx.env : []).find((each) => each?.name === name);
    if (found) return found;
    throw new Refused(`${label}: the mount of ${log.name} needs $(${name}), which is not under env of nginx`);
  });
}

function variables(env: Readonly<Record<string, string>> = {}): { name: string; value: string }[] {
  return Object.entries(env).map(([name, value]) => ({ name, value }));
}
