import type { ErrorBody } from '../serve/errors.ts';
import type { Outlier } from '../serve/outlier.ts';
import type { Series } from '../serve/pod-window.ts';

/** As in schemas.ts of the server. */
export interface Pod {
  upstream: string;
  service: string;
  ip: string;
  port: number;
  pod: string;
  namespace: string;
  node: string;
  requests: number;
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
  series?: Series;
}

export interface Pods {
  time: string;
  windowSeconds: number;
  timedBy: string | null;
  since: number | null;
  seriesFrom?: number;
  seriesStepMs?: number;
  pods: Pod[];
}

export interface Status {
  time: string;
  feed: { connected: boolean; lagMs: number | null };
  sources: { source: string; gaps: number; since: number | null }[];
  lines: Record<string, number>;
  evidence: Record<string, number>;
  reasons: Record<string, number>;
  waitingBytes: number;
  losses: number;
  outputStalled: boolean;
}

export interface Match {
  src: string;
  sport: number;
  vip?: string;
  vport?: number;
  ip: string;
  port: number;
  pod?: string;
  namespace?: string;
  node?: string;
  from: number | null;
  to: number | null;
  via: string;
}

/** An error that the sidecar gave, for people. */
export class Refusal extends Error {
  readonly next: string;

  constructor({ message, next }: ErrorBody) {
    super(message);
    this.next = next;
  }
}

/** Answers of one path; throws Refusal, or a TypeError where nobody answers. Paths are relative: the page may be proxied. */
export async function get<T>(path: string): Promise<T> {
  const response = await fetch(path, { headers: { accept: 'application/json' } });
  const body = (await response.json()) as T & { error?: ErrorBody };
  if (response.ok) return body;
  throw new Refusal(
    body.error ?? { code: '', message: `the answer was ${response.status}`, next: 'see the log of realpod' },
  );
}

/** A query string without the empty parameters. */
export function search(parameters: Record<string, string>): string {
  return new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== '')).toString();
}
