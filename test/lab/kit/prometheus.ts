import { spawnSync } from 'node:child_process';
import { mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { until } from './nginx.ts';
import { get, HELPER_PORT } from './product.ts';
import { LAB_PATH } from './requirements.ts';
import { NODE_IP, type Pod, type Scene } from './scene.ts';

const ALERTS = new URL('../../../k8s/monitoring/alerts.yaml', import.meta.url);
const URL_BASE = 'http://127.0.0.1:9090';
/** What a scrape in a cluster adds. */
export const SCRAPED = { namespace: 'web', pod: 'nginx-5c8d-x2lbv' };

export interface Sample {
  metric: Record<string, string>;
  value: [number, string];
}

export interface Prometheus {
  /** An instant query; throws where it is refused. */
  query(text: string): Sample[];
  /** The values of a label among the series of a metric. */
  labelValues(selector: string, label: string): string[];
}

/** The groups of the alert rules as Prometheus itself reads them, without the operator's wrapping. */
export function ruleFile(): string {
  const { spec } = parse(readFileSync(ALERTS, 'utf8')) as { spec: object };
  return stringify(spec);
}

/** Runs promtool with `input` on stdin; throws with what it says where it finds fault. Returns its output. */
export function promtool(args: readonly string[], input = ''): string {
  const run = spawnSync('promtool', args, {
    input,
    encoding: 'utf8',
    env: { ...process.env, PATH: LAB_PATH },
  });
  if (run.status !== 0) throw new Error(`promtool ${args.join(' ')}: ${run.stdout}${run.stderr}`);
  return run.stdout + run.stderr;
}

/** Starts Prometheus in nginx's pod, scraping the sidecar and the helper each second, with the alert rules. */
export async function startPrometheus(scene: Scene, pod: Pod): Promise<Prometheus> {
  const dir = join(scene.dir, 'prometheus');
  mkdirSync(dir);
  const rules = join(dir, 'rules.yml');
  writeFileSync(rules, ruleFile());
  const config = join(dir, 'prometheus.yml');
  writeFileSync(
    config,
    stringify({
      global: { scrape_interval: '1s', evaluation_interval: '1s' },
      rule_files: [rules],
      scrape_configs: [
        {
          job_name: 'web/realpod-sidecar',
          static_configs: [{ targets: ['127.0.0.1:9798'], labels: SCRAPED }],
        },
        {
          job_name: 'realpod/realpod-helper',
          static_configs: [
            {
              targets: [`${NODE_IP}:${HELPER_PORT}`],
              labels: { namespace: 'realpod', pod: 'realpod-helper-7xk2p' },
            },
          ],
        },
      ],
    }),
  );
  promtool(['check', 'config', config]);
  scene.spawnIn(
    pod,
    'prometheus',
    [
      `--config.file=${config}`,
      `--storage.tsdb.path=${join(dir, 'data')}`,
      '--web.listen-address=127.0.0.1:9090',
      '--log.level=error',
    ],
    { stdio: ['ignore', 'ignore', openSync(join(dir, 'stderr'), 'a')] },
  );
  const ask = (path: string): unknown => {
    const answer = get(scene, pod, `${URL_BASE}/api/v1/${path}`);
    const body = answer.status === 0 ? {} : (JSON.parse(answer.text) as { data?: unknown; error?: string });
    if (answer.status !== 200) throw new Error(`Prometheus: ${body.error ?? 'no answer'}: ${path}`);
    return body.data;
  };
  const prometheus: Prometheus = {
    query: (text) => (ask(`query?query=${encodeURIComponent(text)}`) as { result: Sample[] }).result,
    labelValues: (selector, label) =>
      ask(`label/${label}/values?match[]=${encodeURIComponent(selector)}`) as string[],
  };
  await until(
    'Prometheus to have scraped both several times',
    () => {
      if (get(scene, pod, `${URL_BASE}/-/ready`).status !== 200) return false;
      return prometheus.query('count_over_time(up[1m]) >= 4 and up == 1').length === 2;
    },
    30_000,
  );
  return prometheus;
}
