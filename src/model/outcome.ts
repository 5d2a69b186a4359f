import type { Flow } from './feed.ts';

/** The fact that resolved an attempt. */
export type Evidence =
  | 'source-port'
  | 'request-id'
  | 'request-window'
  | 'sole-backend'
  | 'only-answer'
  | 'timing';
export const EVIDENCE: readonly Evidence[] = [
  'source-port',
  'request-id',
  'request-window',
  'sole-backend',
  'only-answer',
  'timing',
];

/**
 * Why an attempt stays as nginx wrote it.
 * - `ambiguous`: what remains leads to more than one pod.
 * - `no-flow`: nothing that was seen could have served it.
 * - `gap`: the record is incomplete over that time.
 * - `late`: the evidence did not arrive within `--max-wait`.
 * - `direct`: the address is already the backend's own, nothing to resolve.
 * - `not-ip`: no peer's address to resolve (`unix:`, an upstream's name, `-`).
 * - `unconnected`: nginx got no connection (`$upstream_connect_time` is `-`), as of a Service without a ready pod, and
 *   none that was seen names the pod that refused it.
 */
export type Reason = 'ambiguous' | 'no-flow' | 'gap' | 'late' | 'direct' | 'not-ip' | 'unconnected';
export const REASONS: readonly Reason[] = [
  'ambiguous',
  'no-flow',
  'gap',
  'late',
  'direct',
  'not-ip',
  'unconnected',
];

/** Reasons that no evidence can change: these attempts have no pod to name. */
export const NOTHING_TO_NAME: ReadonlySet<Reason> = new Set(['direct', 'not-ip', 'unconnected']);

/** The pod's address and port, and the connection where exactly one remains. One object may be the outcome of many attempts. */
export interface Resolved {
  evidence: Evidence;
  ip: string;
  port: number;
  flow?: Flow;
  /** The pod's name when the connection was opened, where it is known. */
  name?: PodName;
}

export interface Unresolved {
  reason: Reason;
  /** For `direct`: the name of the pod that had the address, where it is known. */
  name?: PodName;
}

export type Outcome = Resolved | Unresolved;

export function isResolved(outcome: Outcome): outcome is Resolved {
  return 'evidence' in outcome;
}

/** The name of an address; a part that is not known is empty. */
export interface PodName {
  pod: string;
  namespace: string;
  node: string;
  service: string;
}
