import type { App } from '../app.ts';
import type { PodAnswer, PodsAnswer } from './answers.ts';
import { quantile } from './latency.ts';
import { findOutliers, type PodFinding } from './outlier.ts';
import { SLOT_MS, SLOTS, type Tally } from './pod-window.ts';
import type { PodFigures } from './pods.ts';
import { PODS, query } from './schemas.ts';
import type { View } from './view.ts';

const MAX_WINDOW_S = (SLOTS * SLOT_MS) / 1000;

interface PodsQuery {
  window: number;
  series: boolean;
}

/** `GET /pods`: figures of each pod, and which ones stand out. */
export function addPodRoutes(app: App, { pods }: View, clock: () => number): void {
  app.get<{ Querystring: PodsQuery }>(
    '/pods',
    {
      schema: {
        summary: 'Requests, errors and times of each pod',
        querystring: query({
          window: {
            type: 'integer',
            minimum: 10,
            maximum: MAX_WINDOW_S,
            default: 300,
            description: 'seconds that `recent` and `outlier` cover',
          },
          series: { type: 'boolean', default: false, description: 'with the last 15 minutes in steps' },
        }),
        response: { 200: PODS },
      },
    },
    async ({ query: { window, series } }): Promise<PodsAnswer> => {
      const now = clock();
      const slots = Math.ceil((window * 1000) / SLOT_MS);
      const begin = Math.max((Math.floor(now / SLOT_MS) - slots + 1) * SLOT_MS, pods.since);
      const seconds = Math.max(1, (now - begin) / 1000);
      const shown: PodAnswer[] = [];
      const unresolved = pods.unresolved.recent(now, slots);
      const resolved = new Map<string, number>();
      for (const group of byUpstream(pods.all(now))) {
        const tallies = group.map((pod) => pod.window.sum(now, slots));
        const findings = findOutliers(tallies);
        const { upstream } = group[0]!;
        const found = tallies.reduce((sum, { requests }) => sum + requests, 0);
        resolved.set(upstream, found);
        const all = found + (unresolved.find((each) => each.upstream === upstream)?.requests ?? 0);
        const rows = group.map((pod, i) => ({
          ...figures(pod, tallies[i]!, findings[i]!, seconds, all),
          ...(series ? { series: pod.window.series(now) } : {}),
        }));
        shown.push(...rows.sort((a, b) => b.recent.requests - a.recent.requests || (a.ip < b.ip ? -1 : 1)));
      }
      return {
        time: new Date(now).toISOString(),
        windowSeconds: window,
        timedBy: pods.timedBy ?? null,
        since: Number.isFinite(pods.since) ? pods.since : null,
        ...(series
          ? { seriesFrom: (Math.floor(now / SLOT_MS) - SLOTS + 1) * SLOT_MS, seriesStepMs: SLOT_MS }
          : {}),
        pods: shown,
        unresolved: unresolved.map((each) => ({
          ...each,
          rate: each.requests / seconds,
          share: each.requests / (each.requests + (resolved.get(each.upstream) ?? 0)),
        })),
      };
    },
  );
}

function byUpstream(pods: Iterable<PodFigures>): PodFigures[][] {
  const groups = new Map<string, PodFigures[]>();
  for (const pod of pods) {
    const group = groups.get(pod.upstream);
    if (group) group.push(pod);
    else groups.set(pod.upstream, [pod]);
  }
  return [...groups].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, group]) => group);
}

function figures(
  pod: PodFigures,
  tally: Tally,
  { outlier, tooFew }: PodFinding,
  seconds: number,
  upstreamRequests: number,
): PodAnswer {
  const { requests, errors, latency } = tally;
  return {
    upstream: pod.upstream,
    service: pod.service,
    ip: pod.ip,
    port: pod.port,
    pod: pod.name?.pod ?? '',
    namespace: pod.namespace,
    node: pod.name?.node ?? '',
    requests: pod.requests,
    errors: pod.errors,
    lastSeen: new Date(pod.lastAt).toISOString(),
    recent: {
      requests,
      errors,
      rate: requests / seconds,
      share: upstreamRequests === 0 ? 0 : requests / upstreamRequests,
      errorRate: requests === 0 ? 0 : errors / requests,
      p50Ms: quantile(latency, 0.5),
      p95Ms: quantile(latency, 0.95),
      p99Ms: quantile(latency, 0.99),
    },
    outlier,
    tooFew,
  };
}
