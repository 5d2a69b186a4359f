import { isDeepStrictEqual } from 'node:util';
import { DEFAULT_LOG_FORMAT } from '../parse/log-format.ts';
import { type Found, KINDS, parse, read, type Stranger, type Workload, withNginx } from './documents.ts';
import { append, apply, type Edit, type Layout, layoutOf, mapAt } from './edit.ts';
import { type InjectOptions, nginxIn, type Plan, plan } from './plan.ts';
import type { PodSpec } from './pod-spec.ts';
import { Refused, Unneeded } from './refused.ts';
import type { Document } from './yaml.ts';

export { INJECT_DEFAULTS, type InjectOptions } from './plan.ts';

/**
 * `injected`: `Kind name` of the objects with a new sidecar. `notes`: lines about things to check. `next`: the next step, if
 * there is one: a sentence, then its YAML.
 */
export type Injection =
  | { ok: true; text: string; injected: string[]; notes: string[]; next: string | undefined }
  | { ok: false; message: string };

/**
 * Adds the sidecar to the pods of Kubernetes objects in YAML or JSON: one document or several, also inside a List. Text is
 * only inserted, so every byte of the input stays, including the spelling of numbers. Without `container` the nginx
 * container is the one whose image is an nginx, or, in an input with one object with pods, the only container.
 */
export function inject(text: string, options: InjectOptions): Injection {
  try {
    return add(text, options);
  } catch (error) {
    if (error instanceof Refused) return { ok: false, message: error.message };
    throw error;
  }
}

function add(text: string, options: InjectOptions): Injection {
  const found = read(text);
  const { workloads, strangers } = found;
  const left = withNginx(strangers, options.container);
  if (workloads.length === 0) throw new Refused(noPods(strangers));
  const layout = layoutOf(text);
  const alone = workloads.length === 1 && strangers.length === 0;
  const edits: Edit[] = [];
  const changes: { workload: Workload; plan: Plan }[] = [];
  const notes: string[] = [];
  let nginxes = 0;
  let refused: Unneeded | undefined;
  for (const workload of workloads) {
    let nginx: number;
    try {
      nginx = nginxIn(workload.label, workload.spec, options, alone);
    } catch (error) {
      if (!(error instanceof Unneeded) || workloads.length === 1) throw error;
      refused ??= error;
      notes.push(error.message);
      continue;
    }
    if (nginx < 0) continue;
    nginxes++;
    const missing = plan(workload.label, workload.spec, nginx, options);
    if (!missing) continue;
    edits.push(...editsFor(workload, missing, layout));
    changes.push({ workload, plan: missing });
    notes.push(...missing.notes);
  }
  if (nginxes === 0) throw refused ?? new Refused(noNginx(found, left, options.container));
  for (const { label } of left) notes.push(`${label} has an nginx and gets no sidecar: ${UNKNOWN_KIND}`);
  const output = apply(text, edits);
  check(found.documents, output, changes);
  return {
    ok: true,
    text: output,
    injected: changes.map(({ workload }) => workload.label),
    notes,
    next: nextStep(found, changes),
  };
}

function editsFor({ document, label, path }: Workload, missing: Plan, layout: Layout): Edit[] {
  const spec = mapAt(label, document.contents, path);
  const nginx = [...path, 'containers', missing.nginx];
  const mounts =
    missing.volumeMounts.length === 0
      ? []
      : append(label, mapAt(label, document.contents, nginx), 'volumeMounts', missing.volumeMounts, layout);
  // At one place in the text, items of an existing list come before a new key.
  const lists = (['initContainers', 'volumes'] as const).toSorted(
    (a, b) => Number(spec.has(b)) - Number(spec.has(a)),
  );
  return [...mounts, ...lists.flatMap((key) => append(label, spec, key, missing[key], layout))];
}

/** Parses the output again: if it is not the input plus the plans, there is no output. */
function check(
  documents: readonly Document.Parsed[],
  output: string,
  changes: readonly { workload: Workload; plan: Plan }[],
): void {
  const content = (each: Document.Parsed): unknown => each.toJS({ maxAliasCount: 1000 });
  const wanted = documents.map(content);
  for (const { workload, plan: missing } of changes) {
    let at: unknown = wanted[documents.indexOf(workload.document)];
    for (const key of workload.path) at = (at as Record<string, unknown>)[key];
    extend(at as PodSpec, missing);
  }
  if (!isDeepStrictEqual(parse(output).map(content), wanted)) {
    throw new Refused(
      'this layout cannot be extended safely; convert it first: kubectl apply --dry-run=client -o yaml -f FILE',
    );
  }
}

function extend(spec: PodSpec, missing: Plan): void {
  const more = (owner: object, key: string, items: readonly object[]): void => {
    const lists = owner as Record<string, object[] | null | undefined>;
    if (items.length > 0) lists[key] = [...(lists[key] ?? []), ...items];
  };
  more(spec, 'initContainers', missing.initContainers);
  more(spec, 'volumes', missing.volumes);
  const nginx = spec.containers?.[missing.nginx];
  if (nginx) more(nginx, 'volumeMounts', missing.volumeMounts);
}

const UNKNOWN_KIND =
  'inject does not support this kind; add the sidecar by hand (k8s/sidecar/sidecar.yaml) or let the webhook do it (realpod.io/inject: enabled)';

function noPods(strangers: readonly Stranger[]): string {
  if (strangers[0]) return `${strangers.map(({ label }) => label).join(', ')}: ${UNKNOWN_KIND}`;
  return `no pods in the input; it needs one of ${KINDS.join(', ')} or a List of them`;
}

function noNginx(found: Found, left: readonly Stranger[], wanted: string | undefined): string {
  if (left[0]) return `${left.map(({ label }) => label).join(', ')} has the nginx, but ${UNKNOWN_KIND}`;
  const seen = [
    ...found.workloads.map(({ label, spec }) => ({ label, containers: spec.containers ?? [] })),
    ...found.strangers,
  ].slice(0, 5);
  const has = seen.map(
    ({ label, containers }) =>
      `${label} has ${containers.map(({ name }) => name).join(', ') || 'no containers'}`,
  );
  const what =
    wanted === undefined ? 'no nginx container found' : `no container has the name ${JSON.stringify(wanted)}`;
  return `${what}; name it with --container (${has.join('; ')})`;
}

function nextStep(
  { options }: Found,
  changes: readonly { workload: Workload; plan: Plan }[],
): string | undefined {
  if (changes.length === 0 || options > 0) return undefined;
  const path = changes.find((each) => each.plan.configuration !== undefined)?.plan.configuration;
  const namespaces = new Set(changes.map(({ workload }) => workload.namespace));
  const [namespace] = namespaces.size === 1 ? namespaces : [];
  const yaml = [
    'apiVersion: v1',
    'kind: ConfigMap',
    'metadata:',
    '  name: realpod',
    ...(namespace === undefined ? [] : [`  namespace: ${namespace}`]),
    'data:',
    path === undefined ? `  REALPOD_LOG_FORMAT: '${DEFAULT_LOG_FORMAT}'` : `  REALPOD_NGINX_CONF: ${path}`,
  ].join('\n');
  const what =
    path === undefined
      ? "with nginx's own log_format in place of the default, which the sidecar expects without it (nginx -T | realpod doctor prints it with yours)"
      : "so that the sidecar takes log, format and id from nginx's configuration; without it, it expects the default format";
  return `apply this ConfigMap in the namespace of nginx, ${what}\n${yaml}`;
}
