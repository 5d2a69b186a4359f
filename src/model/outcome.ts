import type { Flow } from './feed.ts';

/** The fact that resolved an attempt. */
export type Evidence = 'source-port' | 'request-id' | 'request-window' | 'sole-backend' | 'timing';
export const EVIDENCE: readonly Evidence[] = [
  'source-port',
  'request-id',
  'request-window',
  'sole-backend',
  'timing',
];

/**
 * Why an attempt stays as nginx wrote it.
 * - `ambiguous`: what remains leads to more than one pod.
 * - `no-flow`: nothing that was seen could have served it.
 * - `gap`: the record has a hole over that time.
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

/** Reasons of attempts that no evidence could ever name a pod for. */
export const NOTHING_TO_NAME: ReadonlySet<Reason> = new Set(['direct', 'not-ip', 'unconnected']);

/** Who answered: the pod's address and port, and the connection where exactly one is left. */
export interface Resolved {
  evidence: Evidence;
  ip: string;
  port: number;
  flow?: Flow;
  /** What the pod was called when the connection to it was opened, where that is known. */
  name?: PodName;
}

export interface Unresolved {
  reason: Reason;
  /** Of a `direct` address: the pod that had it, where that is known. */
  name?: PodName;
}

export type Outcome = Resolved | Unresolved;

export function isResolved(outcome: Outcome): outcome is Resolved {
  return 'evidence' in outcome;
}

/** What is known of an address; empty strings where unknown. */
export interface PodName {
  pod: string;
  namespace: string;
  node: string;
  service: string;
}
