/** Types of the sidecar's responses, for the page and terminals; schemas.ts describes each field. */
import type { Outlier } from './outlier.ts';
import type { Series } from './pod-window.ts';

/** One pod behind one upstream address. */
export interface PodAnswer {
  upstream: string;
  service: string;
  ip: string;
  port: number;
  pod: string;
  namespace: string;
  node: string;
  requests: number;
  errors: number;
  lastSeen: string;
  recent: {
    requests: number;
    errors: number;
    rate: number;
    share: number;
    errorRate: number;
    p50Ms: number | null;
    p95Ms: number | null;
    p99Ms: number | null;
  };
  outlier: Outlier[];
  tooFew: boolean;
  series?: Series;
}

/** `/pods` */
export interface PodsAnswer {
  time: string;
  windowSeconds: number;
  timedBy: string | null;
  since: number | null;
  seriesFrom?: number;
  seriesStepMs?: number;
  pods: PodAnswer[];
  unresolved: UnresolvedAnswer[];
}

/** The attempts to one upstream address that no pod is known for. */
export interface UnresolvedAnswer {
  upstream: string;
  service: string;
  namespace: string;
  requests: number;
  errors: number;
  rate: number;
  share: number;
  reason: string;
}

/** `/status` */
export interface StatusAnswer {
  time: string;
  startedAt: string;
  feed: { connected: boolean; lagMs: number | null; records: number; connects: number; failures: number };
  sources: { source: string; gaps: number; since: number | null }[];
  lines: Record<string, number>;
  evidence: Record<string, number>;
  reasons: Record<string, number>;
  waitingBytes: number;
  unwrittenBytes: number;
  backlogBytes: number;
  losses: number;
  outputStalled: boolean;
}
