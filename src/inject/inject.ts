import {
  type Document,
  isAlias,
  isMap,
  isSeq,
  LineCounter,
  parseAllDocuments,
  type YAMLMap,
  type YAMLSeq,
} from 'yaml';
import {
  LOG_DIRECTORY,
  LOG_VOLUME,
  logVolume,
  SIDECAR_NAME,
  sidecarContainer,
  TOKEN_VOLUME,
  tokenVolume,
  type VolumeMount,
} from './sidecar.ts';

export interface InjectOptions {
  /** Name of the nginx container; undefined: found by itself. */
  container?: string | undefined;
  image: string;
  /** Size limit of the log volume, a Kubernetes quantity. */
  logVolumeSize: string;
}

export const INJECT_DEFAULTS: InjectOptions = {
  image: 'ghcr.io/realpod/sidecar:0.1.0',
  logVolumeSize: '1Gi',
};

/** `injected`: `Kind name` of what got a sidecar. `notes`: lines for people about what to look after. */
export type Injection =
  | { ok: true; text: string; injected: string[]; notes: string[] }
  | { ok: false; message: string };

/** Where the pod template lies in each kind. */
const TEMPLATES: Record<string, readonly string[]> = {
  Pod: [],
  Deployment: ['spec', 'template'],
  StatefulSet: ['spec', 'template'],
  DaemonSet: ['spec', 'template'],
  ReplicaSet: ['spec', 'template'],
  ReplicationController: ['spec', 'template'],
  Job: ['spec', 'template'],
  CronJob: ['spec', 'jobTemplate', 'spec', 'template'],
};

/** Why this input cannot be helped; one line for people. */
class Refused extends Error {}

interface Workload {
  document: Document.Parsed;
  label: string;
  spec: YAMLMap;
}

/**
 * Adds the sidecar to the pods of Kubernetes objects given as YAML: one document or several, also inside a List.
 * Comments, order and anchors stay; documents that do not change stay byte for byte, and so does the whole text when
 * every nginx in it has its sidecar. Without `container` the nginx container is the one whose image is an nginx, or, in
 * an input with one workload, the only container.
 */
export function inject(text: string, options: InjectOptions): Injection {
  try {
    return add(text, options);
  } catch (error) {
    if (error instanceof Refused) return { ok: false, message: error.message };
    // The package looks at aliases when it writes them.
    if (error instanceof Error && error.message.startsWith('Unresolved alias')) {
      return { ok: false, message: `not valid YAML: ${error.message}` };
    }
    throw error;
  }
}

function add(text: string, options: InjectOptions): Injection {
  const documents = parse(text);
  const workloads = documents.flatMap((document) => workloadsIn(document, document.contents, ''));
  if (workloads.length === 0) {
    throw new Refused(
      `no pods in the input; it needs one of ${Object.keys(TEMPLATES).join(', ')} or a List of them`,
    );
  }
  const changed = new Set<Document.Parsed>();
  const injected: string[] = [];
  const notes: string[] = [];
  let found = 0;
  for (const workload of workloads) {
    const nginx = nginxContainer(workload, options.container, workloads.length === 1);
    if (!nginx) continue;
    found++;
    if (!addTo(workload, nginx, options, notes)) continue;
    changed.add(workload.document);
    injected.push(workload.label);
  }
  if (found === 0) throw new Refused(noNginx(workloads, options.container));
  return { ok: true, text: print(text, documents, changed), injected, notes };
}

function parse(text: string): Document.Parsed[] {
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, { lineCounter: lines });
  if (!Array.isArray(documents)) return [];
  for (const { errors } of documents) {
    const [error] = errors;
    if (!error) continue;
    const { line, col } = lines.linePos(error.pos[0]);
    throw new Refused(`not YAML at line ${line}, column ${col}: ${error.message.split('\n', 1)[0]}`);
  }
  return documents;
}

function workloadsIn(document: Document.Parsed, node: unknown, within: string): Workload[] {
  if (!isMap(node)) return [];
  const kind = node.get('kind');
  if (typeof kind !== 'string') return [];
  const items = kind.endsWith('List') ? node.get('items', true) : undefined;
  if (isSeq(items)) return items.items.flatMap((item) => workloadsIn(document, item, `${kind}: `));
  const path = TEMPLATES[kind];
  if (!path) return [];
  const name = node.getIn(['metadata', 'name']) ?? node.getIn(['metadata', 'generateName']) ?? '(no name)';
  const label = `${within}${kind} ${name}`;
  let at: unknown = node;
  for (const key of [...path, 'spec']) {
    if (!isMap(at)) break;
    at = at.get(key, true);
    if (isAlias(at)) {
      throw new Refused(`${label}: ${key} is the YAML alias *${at.source}; write it out, it is shared`);
    }
  }
  if (!isMap(at)) throw new Refused(`${label}: no pod spec in it`);
  return [{ document, label, spec: at }];
}

function nginxContainer(
  { label, spec }: Workload,
  wanted: string | undefined,
  alone: boolean,
): YAMLMap | undefined {
  const all = maps(label, spec, 'containers');
  if (wanted !== undefined) return all.find((each) => each.get('name') === wanted);
  const nginx = all.filter((each) => isNginx(each.get('image')));
  if (nginx.length > 1) {
    const names = nginx.map((each) => each.get('name')).join(', ');
    throw new Refused(`${label}: several nginx containers (${names}); choose one with --container`);
  }
  return nginx[0] ?? (alone && all.length === 1 ? all[0] : undefined);
}

/** By the last part of the image's name: `nginx:1.29`, `nginxinc/nginx-unprivileged`, `ingress-nginx/controller`. */
function isNginx(image: unknown): boolean {
  if (typeof image !== 'string') return false;
  const name = image.split('@', 1)[0] ?? '';
  const repository = name.slice(name.lastIndexOf('/') + 1).split(':', 1)[0] ?? '';
  if (repository.includes('exporter')) return false;
  return repository.includes('nginx') || /(^|\/)ingress-nginx\/controller(:|$)/.test(name);
}

function noNginx(workloads: readonly Workload[], wanted: string | undefined): string {
  const seen = workloads.slice(0, 5).map(({ label, spec }) => {
    const names = maps(label, spec, 'containers').map((each) => each.get('name'));
    return `${label} has ${names.join(', ') || 'no containers'}`;
  });
  const what =
    wanted === undefined ? 'no nginx container found' : `no container is called ${JSON.stringify(wanted)}`;
  return `${what}; name it with --container (${seen.join('; ')})`;
}

/** Returns whether anything was missing. */
function addTo(
  { document, label, spec }: Workload,
  nginx: YAMLMap,
  options: InjectOptions,
  notes: string[],
): boolean {
  const present = [...maps(label, spec, 'initContainers'), ...maps(label, spec, 'containers')].find(
    (each) => each.get('name') === SIDECAR_NAME,
  );
  if (present) {
    const args = present.get('args');
    if (isSeq(args) && args.items.some((item) => String(item) === 'sidecar')) return false;
    throw new Refused(
      `${label}: a container called ${SIDECAR_NAME} is there already, and it is not the sidecar`,
    );
  }
  for (const volume of maps(label, spec, 'volumes')) {
    const name = volume.get('name');
    if (name === LOG_VOLUME || name === TOKEN_VOLUME) {
      throw new Refused(`${label}: a volume called ${name} is there already; rename it`);
    }
  }
  const given = logMount(label, nginx);
  const log = given ?? { name: LOG_VOLUME, mountPath: LOG_DIRECTORY };
  append(document, label, spec, 'initContainers', sidecarContainer(options.image, log, !given));
  if (given) {
    notes.push(
      `${label}: uses volume ${given.name}, which nginx has at ${given.mountPath}; user 65532 must be able to write there`,
    );
  } else {
    append(document, label, spec, 'volumes', logVolume(options.logVolumeSize));
    append(document, label, nginx, 'volumeMounts', log);
  }
  append(document, label, spec, 'volumes', tokenVolume());
  if (spec.get('hostNetwork') === true) {
    notes.push(`${label}: hostNetwork, so the sidecar listens on port 9798 of the node; see k8s/README.md`);
  }
  return true;
}

/** What nginx already has mounted where it logs, if anything. */
function logMount(label: string, nginx: YAMLMap): VolumeMount | undefined {
  let found: VolumeMount | undefined;
  for (const mount of maps(label, nginx, 'volumeMounts')) {
    const path = String(mount.get('mountPath') ?? '');
    const directory = path.length > 1 && path.endsWith('/') ? path.slice(0, -1) : path;
    if (directory.startsWith(`${LOG_DIRECTORY}/`)) {
      throw new Refused(
        `${label}: ${directory} is a mount of its own; mount a volume at ${LOG_DIRECTORY} instead`,
      );
    }
    const holds = directory === LOG_DIRECTORY || LOG_DIRECTORY.startsWith(`${directory}/`);
    if (!holds || (found && found.mountPath.length > directory.length)) continue;
    if (mount.get('readOnly') === true) {
      throw new Refused(
        `${label}: ${directory} is mounted read-only, nginx cannot log there; take readOnly away`,
      );
    }
    found = { name: String(mount.get('name')), mountPath: path };
    for (const key of ['subPath', 'subPathExpr'] as const) {
      const value = mount.get(key);
      if (typeof value === 'string') found[key] = value;
    }
  }
  return found;
}

/** The maps of the sequence at `key`; none when it is missing or empty. */
function maps(label: string, parent: YAMLMap, key: string): YAMLMap[] {
  const sequence = parent.get(key, true);
  if (isAlias(sequence)) {
    throw new Refused(`${label}: ${key} is the YAML alias *${sequence.source}; write it out, it is shared`);
  }
  if (!isSeq(sequence)) return [];
  return sequence.items.map((item) => {
    if (isMap(item)) return item;
    throw new Refused(
      `${label}: an entry of ${key} is ${isAlias(item) ? 'a YAML alias' : 'not a map'}; write it out`,
    );
  });
}

function append(document: Document, label: string, parent: YAMLMap, key: string, value: unknown): void {
  const present = parent.get(key, true);
  const node = document.createNode(value, { aliasDuplicateObjects: false });
  if (isSeq(present)) {
    if (present.items.length === 0) present.flow = false;
    if (present.anchor !== undefined) {
      throw new Refused(
        `${label}: ${key} has the YAML anchor &${present.anchor}; write it out where it is used`,
      );
    }
    present.add(node);
  } else {
    if (parent.has('<<')) {
      throw new Refused(`${label}: ${key} may come from the YAML merge key <<; write it out`);
    }
    const sequence = document.createNode([]) as YAMLSeq;
    sequence.add(node);
    parent.set(key, sequence);
  }
}

/**
 * Unchanged documents by their own bytes, changed ones in the layout of the input: its indentation and line ends, JSON as
 * JSON. Blanks around comments and in flow collections may change.
 */
function print(text: string, documents: readonly Document.Parsed[], changed: ReadonlySet<Document>): string {
  const layout = {
    lineWidth: 0,
    indentSeq: !/^( *)(?:- )?[\w"']+:[ \t]*(?:#.*)?\n\1- /m.test(text),
    flowCollectionPadding: /[{[] /.test(text),
  };
  const windows = text.includes('\r\n');
  const json = /^\s*\{\s*"/.test(text) ? (/\n([ \t]+)"/.exec(text)?.[1] ?? '') : undefined;
  let output = '';
  let start = 0;
  for (const document of documents) {
    const end = document.range[2];
    let printed = text.slice(start, end);
    if (changed.has(document)) {
      printed =
        json === undefined
          ? document.toString(layout)
          : `${JSON.stringify(document.toJS(), undefined, json)}${text.endsWith('\n') ? '\n' : ''}`;
      if (windows) printed = printed.replaceAll(/\r?\n/g, '\r\n');
    }
    const marker = start > 0 && changed.has(document) && !/^(---|%)/.test(printed) ? '---\n' : '';
    output += marker + printed;
    start = end;
  }
  return output;
}
