import { isNginx } from './images.ts';
import type { Container, PodSpec } from './pod-spec.ts';
import { Refused } from './refused.ts';
import { type Document, LineCounter, parseAllDocuments } from './yaml.ts';

/** Path of the pod template in each kind. */
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
export const KINDS = Object.keys(TEMPLATES);
/** The API groups of these kinds. */
const GROUPS = new Set(['', 'apps', 'batch', 'extensions']);
/** Depth of the search for pods in unknown kinds. */
const MAX_LIST_DEPTH = 12;

export interface Workload {
  document: Document.Parsed;
  /** `Kind name`, with the List around it. */
  label: string;
  /** From the object's metadata. */
  namespace: string | undefined;
  /** Path of the pod spec from the document's root. */
  path: readonly (string | number)[];
  spec: PodSpec;
}

/** An object with pods of a kind that inject cannot change. */
export interface Stranger {
  label: string;
  containers: Container[];
}

export interface Found {
  documents: Document.Parsed[];
  workloads: Workload[];
  strangers: Stranger[];
  /** ConfigMaps with the name `realpod`. */
  options: number;
}

interface Thing {
  [key: string]: unknown;
}

const isThing = (value: unknown): value is Thing =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Parses YAML 1.1, as kubectl does. Throws Refused; for invalid YAML with line and column. */
export function read(text: string): Found {
  const documents = parse(text);
  const found: Found = { documents, workloads: [], strangers: [], options: 0 };
  for (const document of documents) {
    let content: unknown;
    try {
      content = document.toJS({ maxAliasCount: 1000 });
    } catch (error) {
      throw new Refused(`not valid YAML: ${(error as Error).message}`);
    }
    collect(document, content, [], '', found);
  }
  return found;
}

export function parse(text: string): Document.Parsed[] {
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, {
    version: '1.1',
    lineCounter: lines,
    prettyErrors: false,
    logLevel: 'error',
  });
  if (!Array.isArray(documents)) return [];
  for (const { errors } of documents) {
    const [error] = errors;
    if (!error) continue;
    const { line, col } = lines.linePos(error.pos[0]);
    throw new Refused(complaint(text, line, col, error.message));
  }
  return documents;
}

/** The cause that a user can mend; else the parser's message. */
function complaint(text: string, line: number, column: number, message: string): string {
  const lines = text.split('\n');
  const near = lines.slice(0, line + 1);
  const template = near.findIndex((each) => /\{\{|\{%|<%/.test(each.replace(/(^|\s)#.*/, '')));
  if (template >= 0) {
    return `line ${template + 1} is a template; render it first: helm template … | realpod inject`;
  }
  const tab = near.findIndex((each) => /^ *\t+ *[^\s#]/.test(each));
  if (tab >= 0) return `line ${tab + 1} is indented by a tab; YAML takes spaces only`;
  const [first = ''] = message.split('\n', 1);
  return `not YAML at line ${line}, column ${column}: ${first.replace(/[:.]$/, '')}`;
}

function collect(
  document: Document.Parsed,
  value: unknown,
  at: readonly (string | number)[],
  within: string,
  found: Found,
): void {
  if (!isThing(value)) return;
  const { kind, apiVersion } = value;
  if (typeof kind !== 'string') return;
  const { items } = value;
  if (kind.endsWith('List') && Array.isArray(items)) {
    items.forEach((item, index) => {
      collect(document, item, [...at, 'items', index], `${within}${kind}: `, found);
    });
    return;
  }
  const metadata = isThing(value.metadata) ? value.metadata : {};
  const label = `${within}${kind} ${metadata.name ?? metadata.generateName ?? '(no name)'}`;
  if (kind === 'ConfigMap' && metadata.name === 'realpod') found.options++;
  const group = typeof apiVersion === 'string' && apiVersion.includes('/') ? apiVersion.split('/')[0]! : '';
  const template = GROUPS.has(group) ? TEMPLATES[kind] : undefined;
  if (!template) {
    const containers = containersIn(value, 0);
    if (containers.length > 0) found.strangers.push({ label, containers });
    return;
  }
  const path = [...template, 'spec'];
  let spec: unknown = value;
  for (const key of path) spec = isThing(spec) ? spec[key] : undefined;
  if (!isThing(spec)) throw new Refused(`${label}: no pod spec in it`);
  for (const key of ['containers', 'initContainers', 'volumes'] as const) maps(label, spec, key);
  const pod = spec as PodSpec;
  for (const container of pod.containers ?? []) {
    maps(`${label}: ${container.name}`, container as unknown as Thing, 'volumeMounts');
    if (typeof container.image === 'string' && container.image.includes('{{')) {
      throw new Refused(
        `${label}: the image ${container.image} is a template; render it first: helm template … | realpod inject`,
      );
    }
  }
  const { namespace } = metadata;
  found.workloads.push({
    document,
    label,
    namespace: typeof namespace === 'string' && /^[a-z0-9-]+$/.test(namespace) ? namespace : undefined,
    path: [...at, ...path],
    spec: pod,
  });
}

function maps(label: string, parent: Thing, key: string): void {
  const list = parent[key];
  if (list === undefined || list === null) return;
  if (!Array.isArray(list)) throw new Refused(`${label}: ${key} is not a list`);
  if (!list.every(isThing)) throw new Refused(`${label}: an entry of ${key} is not a map; write it out`);
}

/** The containers of every pod anywhere in the value: objects with an image in a list named `containers`. */
function containersIn(value: unknown, depth: number): Container[] {
  if (depth > MAX_LIST_DEPTH || typeof value !== 'object' || value === null) return [];
  if (Array.isArray(value)) return value.flatMap((item) => containersIn(item, depth + 1));
  return Object.entries(value).flatMap(([key, item]) => {
    if (key !== 'containers' || !Array.isArray(item)) return containersIn(item, depth + 1);
    return item.filter((each) => isThing(each) && typeof each.image === 'string') as Container[];
  });
}

/** The objects of unknown kinds whose nginx gets no sidecar. */
export function withNginx(strangers: readonly Stranger[], wanted: string | undefined): Stranger[] {
  return strangers.filter(({ containers }) =>
    containers.some(({ name, image }) => (wanted === undefined ? isNginx(image) : name === wanted)),
  );
}
