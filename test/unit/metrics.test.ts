import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parse } from 'yaml';
import { Metrics } from '../../src/http/metrics.ts';
import { parseMetrics, type Sample } from './metrics-text.ts';
import { servedDemo } from './serve-app.ts';
import { demoLines, demoLog } from './serve-demo.ts';

const MONITORING = new URL('../../k8s/monitoring/', import.meta.url);

async function metricsOf({ app }: ReturnType<typeof servedDemo>) {
  const response = await app.inject({ url: '/metrics' });
  assert.match(String(response.headers['content-type']), /^text\/plain; version=0\.0\.4/);
  return parseMetrics(response.payload);
}

const sum = (samples: readonly Sample[]) => samples.reduce((all, { value }) => all + value, 0);

test('the metrics are valid, and count every attempt once by pod and status', async () => {
  const served = servedDemo();
  const metrics = await metricsOf(served);
  const requests = metrics.get('realpod_requests_total')!.samples;
  assert.equal(sum(requests), demoLines);
  const failed = requests.filter(({ labels }) => labels.status === '5xx');
  assert.equal(sum(failed), demoLog.toString().match(/" 5\d\d /g)!.length);
  for (const { labels } of requests) {
    assert.deepEqual(Object.keys(labels).sort(), [
      'destination_address',
      'destination_namespace',
      'destination_node',
      'destination_pod',
      'destination_service',
      'status',
      'upstream',
    ]);
  }
  const times = metrics.get('realpod_upstream_seconds')!.samples;
  assert.equal(sum(times.filter(({ name }) => name.endsWith('_count'))), demoLines);
  assert.equal(metrics.get('realpod_pods')!.samples[0]!.value, served.view.pods.size);
});

test('series of pods that are gone are dropped', async () => {
  const served = servedDemo();
  served.time.now += 15 * 60_000;
  const metrics = await metricsOf(served);
  assert.equal(metrics.get('realpod_requests_total')!.samples.length, 0);
  assert.equal(metrics.get('realpod_upstream_seconds')!.samples.length, 0);
});

test('numbers are written as Prometheus reads them', () => {
  const metrics = new Metrics();
  const values = [1e21, 0.5, Infinity, -Infinity, NaN];
  metrics.labelled('x', 'x', () => values.map((value, i) => ({ labels: { i: `${i}` }, value })));
  const written = [...metrics.text().matchAll(/} (.*)$/gm)].map(([, value]) => value);
  assert.deepEqual(written, ['1e+21', '0.5', '+Inf', '-Inf', 'NaN']);
});

test('label values are escaped', async () => {
  const metrics = new Metrics();
  const value = 'a"b\\c\nd';
  metrics.labelled('x_total', 'x', () => [{ labels: { value }, value: 1 }]);
  const [sample] = parseMetrics(metrics.text()).get('x_total')!.samples;
  assert.equal(sample!.labels.value, value);
});

test('what is not the text format is refused by the parser of these tests', () => {
  for (const text of [
    'x 1\n',
    '# HELP x x\n# TYPE x gauge\nx 1',
    '# HELP x x\n# TYPE x gauge\nx 1\nx 1\n',
    '# HELP x x\n# TYPE x gauge\nx{a="1",a="2"} 1\n',
    '# HELP x x\n# TYPE x histogram\nx_bucket{le="1"} 2\nx_bucket{le="+Inf"} 1\nx_sum 1\nx_count 1\n',
    '# HELP x x\n# TYPE x histogram\nx_bucket{le="+Inf"} 1\nx_sum 1\nx_count 2\n',
  ]) {
    assert.throws(() => parseMetrics(text), text);
  }
});

/** Names of metrics in a query: words with the prefix that all of ours have. */
function* metricsIn(query: string): Generator<{ name: string; labels: string[] }> {
  for (const match of query.matchAll(/\b(realpod_\w+)(?:\{([^}]*)\})?/g)) {
    yield {
      name: match[1]!,
      labels: [...(match[2] ?? '').matchAll(/(\w+)\s*[=!]/g)].map(([, label]) => label!),
    };
  }
}

interface Panel {
  title: string;
  targets?: { expr: string }[];
}

test('every query of the dashboard and of the alert rules names a metric and labels that exist', async () => {
  const metrics = await metricsOf(servedDemo());
  const source = (name: string) =>
    readFileSync(new URL(`../../src/http/helper/${name}.ts`, import.meta.url), 'utf8');
  const helper = source('metrics') + source('cluster-metrics');
  const known = (name: string): readonly Sample[] | undefined => {
    const family = metrics.get(name) ?? metrics.get(name.replace(/_(bucket|sum|count)$/, ''));
    if (family) return family.samples;
    return helper.includes(`'${name}'`) ? [] : undefined;
  };
  const queries: string[] = [];
  for (const file of readdirSync(MONITORING)) {
    const text = readFileSync(new URL(file, MONITORING), 'utf8');
    if (file.endsWith('.json')) {
      const { panels, templating } = JSON.parse(text) as {
        panels: Panel[];
        templating: { list: { query?: string }[] };
      };
      for (const { targets } of panels) queries.push(...(targets ?? []).map(({ expr }) => expr));
      queries.push(...templating.list.map(({ query }) => query ?? ''));
    } else if (file === 'alerts.yaml') {
      const { spec } = parse(text) as { spec: { groups: { rules: { expr: string }[] }[] } };
      for (const { rules } of spec.groups) queries.push(...rules.map(({ expr }) => expr));
    }
  }
  let named = 0;
  for (const query of queries) {
    for (const { name, labels } of metricsIn(query)) {
      named++;
      const samples = known(name);
      assert.ok(samples, `there is no ${name}: ${query}`);
      for (const label of labels) {
        // Added by the scrape.
        if (['namespace', 'pod', 'job', 'instance'].includes(label)) continue;
        assert.ok(
          samples.length === 0 || samples.some((sample) => label in sample.labels),
          `${name} has no label ${label}: ${query}`,
        );
      }
    }
    for (const [, labels] of query.matchAll(/by\s*\(([^)]*)\)/g)) {
      for (const label of labels!.split(',').map((text) => text.trim())) {
        assert.match(
          label,
          /^(le|upstream|status|evidence|reason|result|source|destination_\w+|namespace|pod)$/,
          query,
        );
      }
    }
  }
  assert.ok(named > 20, `${named} metrics in queries`);
});
