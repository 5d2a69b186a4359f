/** The dashboard, the alert rules and the metrics beside a real Prometheus that scrapes the shop under load. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { parse, stringify } from 'yaml';
import { FORMATS } from './kit/formats.ts';
import { until } from './kit/nginx.ts';
import { type Prometheus, promtool, ruleFile, SCRAPED, startPrometheus } from './kit/prometheus.ts';
import { labCanRun, PROMETHEUS } from './kit/requirements.ts';
import { type LiveShop, openLiveShop, SHOP_PODS, SHOP_SERVICES } from './kit/shop.ts';

const DASHBOARD = new URL('../../k8s/monitoring/dashboard.json', import.meta.url);
const dashboard = JSON.parse(readFileSync(DASHBOARD, 'utf8')) as {
  panels: { title: string; targets?: { expr: string }[] }[];
  templating: { list: { name: string; type: string; query: string }[] };
};
interface Rule {
  alert: string;
  expr: string;
  labels: { severity: string };
}
const { groups } = parse(ruleFile()) as { groups: { rules: Rule[] }[] };
const rules = groups.flatMap((group) => group.rules);

/** A query as Grafana sends it. */
const filled = (text: string, values: Record<string, string>): string =>
  text.replace(/\$(\w+)/g, (_, name: string) => {
    assert.ok(values[name], `the dashboard has no variable ${name}: ${text}`);
    return values[name]!;
  });
const ALL = { namespace: '.*', pod: '.*', service: '.*', __rate_interval: '10s' };
// The Service with the failing pod, as a panel of failures is empty where nothing fails.
const CHOSEN = { ...SCRAPED, service: SHOP_SERVICES[1], __rate_interval: '10s' };

const skip = !labCanRun(PROMETHEUS);

describe('monitoring', { skip, concurrency: false, timeout: 300_000 }, () => {
  let shop: LiveShop;
  let prometheus: Prometheus;
  before(async () => {
    shop = await openLiveShop(FORMATS.full);
    shop.keepBusy(100);
    prometheus = await startPrometheus(shop.scene, shop.pod);
  });
  after(() => shop?.scene.dispose());

  test('promtool finds no fault with the metrics of sidecar and helper', () => {
    for (const program of [shop.sidecar, shop.helper]) {
      const { text } = program.get('/metrics');
      assert.match(text, /^realpod_/m);
      assert.equal(promtool(['check', 'metrics'], text), '');
    }
  });

  test('every query of the dashboard is answered, for all of nginx and for one', () => {
    let asked = 0;
    for (const values of [ALL, CHOSEN]) {
      for (const { title, targets } of dashboard.panels) {
        for (const { expr } of targets ?? []) {
          const samples = prometheus.query(filled(expr, values));
          assert.ok(samples.length > 0, `${title}: nothing for ${filled(expr, values)}`);
          // Where nothing is divided by nothing, a panel would be empty.
          for (const { value } of samples) assert.match(value[1], /^-?[\d.e+-]+$/, `${title}: ${expr}`);
          asked++;
        }
      }
    }
    assert.ok(asked >= 40, `${asked} queries`);
  });

  test('every variable of the dashboard has the values to choose from', () => {
    const found: Record<string, string[]> = {};
    for (const { name, type, query } of dashboard.templating.list) {
      if (type === 'datasource') continue;
      const [, selector, label] = /^label_values\((.+), (\w+)\)$/.exec(query)!;
      found[name] = prometheus.labelValues(filled(selector!, ALL), label!);
    }
    assert.deepEqual(found, {
      namespace: [SCRAPED.namespace],
      pod: [SCRAPED.pod],
      service: [...SHOP_SERVICES].sort(),
    });
  });

  test('of the alerts only that of the failing pod is raised, and for that pod', async () => {
    const failing = SHOP_PODS.filter((pod) => pod.failing > 0).map(({ name }) => name);
    const enough = failing.map((pod) => `increase(realpod_requests_total{destination_pod="${pod}"}[1m])`);
    await until('enough answers of the failing pod', () =>
      enough.every((expr) => prometheus.query(`sum(${expr}) > 100`).length > 0),
    );
    const raised = rules.flatMap(({ alert, expr }) =>
      prometheus.query(expr).map(({ metric }) => [alert, metric.destination_pod]),
    );
    assert.deepEqual(
      raised,
      failing.map((pod) => ['RealpodPodFailing', pod]),
    );
  });
});

/** For each alert, series that must raise it, and the labels that it then has. One step a minute. */
const RAISED: Record<string, { series: Record<string, string>; labels: Record<string, string>[] }> = {
  RealpodLinesLost: {
    series: { 'realpod_log_losses_total{pod="a"}': '0x20 1x20', 'realpod_log_losses_total{pod="b"}': '3x40' },
    labels: [{ pod: 'a' }],
  },
  RealpodOutputStalled: {
    series: { 'realpod_output_stalled{pod="a"}': '1x40', 'realpod_output_stalled{pod="b"}': '0x40' },
    labels: [{ pod: 'a' }],
  },
  RealpodOptionsBad: {
    series: { 'realpod_options_bad{pod="a"}': '1x40', 'realpod_options_bad{pod="b"}': '0x40' },
    labels: [{ pod: 'a' }],
  },
  RealpodFeedDown: {
    series: {
      'realpod_feed_connected{pod="a"}': '0x40',
      'realpod_options_bad{pod="a"}': '0x40',
      'realpod_feed_connected{pod="b"}': '1x40',
    },
    labels: [{ pod: 'a' }],
  },
  RealpodUnresolved: {
    series: {
      'realpod_attempts_resolved_total{namespace="n",pod="a",evidence="request-id"}': '0+90x40',
      'realpod_attempts_unresolved_total{namespace="n",pod="a",reason="ambiguous"}': '0+10x40',
      'realpod_attempts_resolved_total{namespace="n",pod="b",evidence="request-id"}': '0+90x40',
      'realpod_attempts_unresolved_total{namespace="n",pod="b",reason="direct"}': '0+90x40',
      'realpod_attempts_resolved_total{namespace="n",pod="c",evidence="request-id"}': '0x40',
      'realpod_attempts_unresolved_total{namespace="n",pod="c",reason="gap"}': '0+5x40',
    },
    labels: [
      { namespace: 'n', pod: 'a' },
      { namespace: 'n', pod: 'c' },
    ],
  },
  RealpodHelperOverrun: {
    series: {
      'realpod_helper_overruns_total{instance="x",source="tap"}': '0x20 4x20',
      'realpod_helper_overruns_total{instance="x",source="conntrack"}': '0x40',
    },
    labels: [{ instance: 'x', source: 'tap' }],
  },
  RealpodNoNames: {
    series: {
      'realpod_helper_api_away_seconds{instance="x",kind="endpointslices"}': '0x5 60+60x40',
      'realpod_helper_api_away_seconds{instance="x",kind="services"}': '0x40',
      // A restart of the API server.
      'realpod_helper_api_away_seconds{instance="y",kind="endpointslices"}': '0x22 60 120 0x20',
    },
    labels: [{ instance: 'x', kind: 'endpointslices' }],
  },
  RealpodPodFailing: {
    series: {
      // One of two; one alone; one with too few requests; one with too few failures; two that fail alike.
      ...pod('two', 'sick', 80, 20),
      ...pod('two', 'well', 100, 0),
      ...pod('alone', 'sick', 80, 20),
      ...pod('rare', 'sick', 0, 0.1),
      ...pod('rare', 'well', 100, 0),
      // Two failures in ten minutes are no sign of a sick pod, however few requests it had.
      ...pod('chance', 'sick', 3, 0.2),
      ...pod('chance', 'well', 3, 0),
      ...pod('alike', 'one', 80, 20),
      ...pod('alike', 'other', 80, 20),
    },
    labels: [
      {
        upstream: 'two',
        destination_service: 'two',
        destination_pod: 'sick',
        destination_address: 'two-sick',
      },
    ],
  },
};

/** Requests a minute by two nginx pods, that a pod answers well and badly. */
function pod(service: string, name: string, good: number, bad: number): Record<string, string> {
  const labels = `upstream="${service}",destination_service="${service}",destination_pod="${name}",destination_address="${service}-${name}"`;
  return Object.fromEntries(
    ['a', 'b'].flatMap((nginx) => [
      [`realpod_requests_total{pod="${nginx}",${labels},status="2xx"}`, `0+${good / 2}x40`],
      ...(bad > 0
        ? [[`realpod_requests_total{pod="${nginx}",${labels},status="5xx"}`, `0+${bad / 2}x40`]]
        : []),
    ]),
  );
}

describe('alert rules', { skip }, () => {
  const dir = mkdtempSync(join(tmpdir(), 'realpod-rules-'));
  const file = join(dir, 'rules.yml');
  before(() => writeFileSync(file, ruleFile()));
  after(() => rmSync(dir, { recursive: true }));

  test('promtool finds no fault with them, and each has a case', () => {
    assert.match(promtool(['check', 'rules', file]), new RegExp(`SUCCESS: ${rules.length} rules found`));
    assert.deepEqual(rules.map(({ alert }) => alert).sort(), Object.keys(RAISED).sort());
  });

  for (const [alert, { series, labels }] of Object.entries(RAISED)) {
    test(`${alert} is raised by what it is for, and by nothing else`, () => {
      const { severity } = rules.find((rule) => rule.alert === alert)!.labels;
      const raised = labels.map((own) =>
        Object.entries({ alertname: alert, alertstate: 'firing', severity, ...own }).map(
          ([name, value]) => `${name}="${value}"`,
        ),
      );
      const tests = join(dir, `${alert}.yml`);
      writeFileSync(
        tests,
        stringify({
          rule_files: [file],
          evaluation_interval: '1m',
          tests: [
            {
              interval: '1m',
              input_series: Object.entries(series).map(([name, values]) => ({ series: name, values })),
              promql_expr_test: [
                {
                  expr: 'ALERTS{alertstate="firing"}',
                  eval_time: '25m',
                  exp_samples: raised.map((pairs) => ({ labels: `ALERTS{${pairs.join()}}`, value: 1 })),
                },
              ],
            },
          ],
        }),
      );
      promtool(['test', 'rules', tests]);
    });
  }
});
