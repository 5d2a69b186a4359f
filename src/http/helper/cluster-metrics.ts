import type { NamesStats } from '../../cluster/names.ts';
import type { ReviewerStats } from '../../cluster/token.ts';
import type { Metrics } from '../metrics.ts';

/** Absent where there is no cluster, or no tokens. */
export interface ClusterNumbers {
  names: NamesStats | undefined;
  reviewer: Readonly<ReviewerStats> | undefined;
}

/** Names and tokens of the cluster, and their cost to the API server. */
export function addClusterMetrics(
  metrics: Metrics,
  { names, reviewer }: ClusterNumbers,
  clock: () => number,
): void {
  if (names) addNames(metrics, names, clock);
  if (reviewer) addReviews(metrics, reviewer);
}

function addNames(metrics: Metrics, names: NamesStats, clock: () => number): void {
  const kinds = [
    ['endpointslices', names.slices],
    ['services', names.services],
  ] as const;
  metrics.counters('realpod_helper_api_events_total', 'Watch events of the API server.', 'kind', () =>
    kinds.map(([kind, { events }]) => [kind, events]),
  );
  metrics.counters('realpod_helper_api_lists_total', 'Whole lists read from the API server.', 'kind', () =>
    kinds.map(([kind, { listings }]) => [kind, listings]),
  );
  metrics.counters(
    'realpod_helper_api_failures_total',
    'Lists and watches that failed or broke.',
    'kind',
    () => kinds.map(([kind, { failures }]) => [kind, failures]),
  );
  metrics.counters(
    'realpod_helper_api_gone_total',
    'Watches that could not be resumed (410 Gone), so that their objects were listed anew.',
    'kind',
    () => kinds.map(([kind, { gone }]) => [kind, gone]),
  );
  metrics.gauges(
    'realpod_helper_api_away_seconds',
    'How long there has been no watch; after 60 no address has a name. 0: there is one.',
    'kind',
    () =>
      kinds.map(([kind, { awaySince }]) => [
        kind,
        awaySince === 0 ? 0 : Math.max(0, (clock() - awaySince) / 1000),
      ]),
  );
  metrics.gauge(
    'realpod_helper_names',
    'Addresses that have a name, or had one in the last ten minutes.',
    () => names.addresses,
  );
  metrics.counter(
    'realpod_helper_name_changes_total',
    'Changes of the name of an address.',
    () => names.changes,
  );
  metrics.counter(
    'realpod_helper_names_refused_total',
    'Addresses without a name because of the limit.',
    () => names.dropped,
  );
  metrics.gauge(
    'realpod_helper_endpoints',
    'Addresses that are endpoints of a Service, or were in the last ten minutes.',
    () => names.endpoints.addresses,
  );
  metrics.counter(
    'realpod_helper_endpoint_changes_total',
    'Changes of what an address is an endpoint of.',
    () => names.endpoints.changes,
  );
  metrics.counter(
    'realpod_helper_endpoints_refused_total',
    'Addresses whose Services are not known because of the limit.',
    () => names.endpoints.dropped,
  );
}

function addReviews(metrics: Metrics, reviewer: Readonly<ReviewerStats>): void {
  metrics.counters(
    'realpod_helper_token_reviews_total',
    'Tokens verified, by how: by the API server, from the cache, or from an expired cache entry while the API server was away.',
    'how',
    () => [
      ['asked', reviewer.reviews],
      ['cached', reviewer.cached],
      ['stale', reviewer.stale],
    ],
  );
  metrics.counter(
    'realpod_helper_token_review_failures_total',
    'TokenReviews without an answer of the API server.',
    () => reviewer.failed,
  );
  metrics.counter('realpod_helper_tokens_refused_total', 'Tokens refused.', () => reviewer.refused);
}
