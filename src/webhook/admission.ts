import { type InjectOptions, nginxIn, type Plan, plan } from '../inject/plan.ts';
import type { PodSpec } from '../inject/pod-spec.ts';
import { Refused } from '../inject/refused.ts';
import { optionsOf } from './annotations.ts';

/** Kubernetes truncates longer warnings. */
const WARNING_CHARACTERS = 250;

export interface Decision {
  /** An AdmissionReview of admission.k8s.io/v1. It always allows the pod: one without a sidecar is better than none. */
  review: object;
  outcome: 'injected' | 'unchanged' | 'refused';
}

interface Operation {
  op: 'add';
  path: string;
  value: unknown;
}

interface Pod {
  metadata?: {
    name?: string;
    generateName?: string;
    annotations?: Record<string, string>;
  };
  spec?: PodSpec;
}

/** Answers one AdmissionReview; undefined for any other value. */
export function review(body: unknown, defaults: InjectOptions): Decision | undefined {
  const { request } = (body ?? {}) as {
    request?: { uid?: unknown; object?: Pod | null; kind?: { kind?: string } };
  };
  const uid = request?.uid;
  if (typeof uid !== 'string') return undefined;
  const { operations, warnings, outcome } =
    request?.kind?.kind === 'Pod' && request.object
      ? decide(request.object, defaults)
      : { operations: [], warnings: [], outcome: 'unchanged' as const };
  const patch = Buffer.from(JSON.stringify(operations)).toString('base64');
  return {
    outcome,
    review: {
      apiVersion: 'admission.k8s.io/v1',
      kind: 'AdmissionReview',
      response: {
        uid,
        allowed: true,
        ...(operations.length === 0 ? {} : { patchType: 'JSONPatch', patch }),
        ...(warnings.length === 0
          ? {}
          : { warnings: warnings.map((warning) => warning.slice(0, WARNING_CHARACTERS)) }),
      },
    },
  };
}

function decide(
  pod: Pod,
  defaults: InjectOptions,
): { operations: Operation[]; warnings: string[]; outcome: Decision['outcome'] } {
  const asked = optionsOf(pod.metadata?.annotations ?? {}, defaults);
  if (!asked) return { operations: [], warnings: [], outcome: 'unchanged' };
  const { options, warnings } = asked;
  const label = `Pod ${pod.metadata?.name ?? pod.metadata?.generateName ?? '(no name)'}`;
  const spec = pod.spec ?? {};
  try {
    const nginx = nginxIn(label, spec, options, false);
    const missing = nginx < 0 ? undefined : plan(label, spec, nginx, options);
    if (!missing) return { operations: [], warnings, outcome: 'unchanged' };
    return { operations: operationsFor(spec, missing), warnings, outcome: 'injected' };
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    warnings.push(`realpod: no sidecar for ${error.message}`);
    return { operations: [], warnings, outcome: 'refused' };
  }
}

/** RFC 6902. */
function operationsFor(spec: PodSpec, missing: Plan): Operation[] {
  return [
    ...additions('/spec/initContainers', spec.initContainers, missing.initContainers),
    ...additions('/spec/volumes', spec.volumes, missing.volumes),
    ...additions(
      `/spec/containers/${missing.nginx}/volumeMounts`,
      spec.containers?.[missing.nginx]?.volumeMounts,
      missing.volumeMounts,
    ),
  ];
}

function additions(
  path: string,
  present: readonly object[] | null | undefined,
  items: readonly object[],
): Operation[] {
  if (items.length === 0) return [];
  if (!present) return [{ op: 'add', path, value: items }];
  return items.map((value) => ({ op: 'add', path: `${path}/-`, value }));
}
