import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addClusterMetrics } from '../../src/http/helper/cluster-metrics.ts';
import { Metrics } from '../../src/http/metrics.ts';
import { parseMetrics } from './metrics-text.ts';

const NOW = 1_764_837_843_000;

test('what the helper asks of the API server and what comes of it is counted, each by itself', async () => {
  const slices = { events: 1, listings: 2, failures: 3, gone: 4, heardAt: NOW, awaySince: NOW - 90_000 };
  const services = { events: 5, listings: 6, failures: 7, gone: 8, heardAt: NOW, awaySince: 0 };
  const endpoints = { addresses: 17, changes: 18, dropped: 19 };
  const names = { slices, services, addresses: 9, changes: 10, dropped: 11, endpoints };
  const reviewer = { reviews: 12, cached: 13, refused: 14, failed: 15, stale: 16 };
  const metrics = new Metrics();
  addClusterMetrics(metrics, { names, reviewer }, () => NOW);
  const families = parseMetrics(metrics.text());
  const values = [...families].flatMap(([name, { samples }]) =>
    samples.map(({ labels, value }) => `${[name, ...Object.values(labels)].join(' ')} ${value}`),
  );
  assert.deepEqual(values, [
    'realpod_helper_api_events_total endpointslices 1',
    'realpod_helper_api_events_total services 5',
    'realpod_helper_api_lists_total endpointslices 2',
    'realpod_helper_api_lists_total services 6',
    'realpod_helper_api_failures_total endpointslices 3',
    'realpod_helper_api_failures_total services 7',
    'realpod_helper_api_gone_total endpointslices 4',
    'realpod_helper_api_gone_total services 8',
    'realpod_helper_api_away_seconds endpointslices 90',
    'realpod_helper_api_away_seconds services 0',
    'realpod_helper_names 9',
    'realpod_helper_name_changes_total 10',
    'realpod_helper_names_refused_total 11',
    'realpod_helper_endpoints 17',
    'realpod_helper_endpoint_changes_total 18',
    'realpod_helper_endpoints_refused_total 19',
    'realpod_helper_token_reviews_total asked 12',
    'realpod_helper_token_reviews_total cached 13',
    'realpod_helper_token_reviews_total stale 16',
    'realpod_helper_token_review_failures_total 15',
    'realpod_helper_tokens_refused_total 14',
  ]);
});

test('without a cluster there are no such metrics', async () => {
  const metrics = new Metrics();
  addClusterMetrics(metrics, { names: undefined, reviewer: undefined }, () => NOW);
  assert.equal(metrics.text().trim(), '');
});
