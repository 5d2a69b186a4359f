import { execFile, spawn } from 'node:child_process';
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { until } from './kubectl.ts';

const ADDRESS = '127.0.0.1:9099';

export interface Prometheus {
  /** An instant query: the labels of each sample, and its value. Rejects where it is refused. */
  query(text: string): Promise<Record<string, string>[]>;
  stop(): void;
}

export interface Target {
  /** ADDRESS:PORT of a sidecar. */
  address: string;
  namespace: string;
  pod: string;
}

/**
 * Prometheus outside the cluster, by the command `inside`. The targets are fixed, with the labels that a scrape in a cluster
 * adds: Debian's Prometheus cannot ask an API server.
 */
export async function startPrometheus(inside: string, targets: readonly Target[]): Promise<Prometheus> {
  const dir = mkdtempSync(join(tmpdir(), 'realpod-fleet-'));
  const config = join(dir, 'prometheus.yml');
  const said = join(dir, 'stderr');
  writeFileSync(
    config,
    stringify({
      global: { scrape_interval: '5s' },
      scrape_configs: [
        {
          job_name: 'realpod-sidecar',
          static_configs: targets.map(({ address, ...labels }) => ({ targets: [address], labels })),
        },
      ],
    }),
  );
  const [program, ...first] = inside.split(' ');
  const child = spawn(
    program!,
    [
      ...first,
      'prometheus',
      `--config.file=${config}`,
      `--storage.tsdb.path=${join(dir, 'data')}`,
      `--web.listen-address=${ADDRESS}`,
      '--log.level=error',
    ],
    { stdio: ['ignore', 'ignore', openSync(said, 'a')], detached: true },
  );
  const query = (text: string): Promise<Record<string, string>[]> =>
    new Promise((resolve, reject) => {
      const url = `http://${ADDRESS}/api/v1/query?query=${encodeURIComponent(text)}`;
      execFile(program!, [...first, 'curl', '-sS', '-m', '20', url], (error, stdout) => {
        if (error) return reject(error);
        const { data, error: refused } = JSON.parse(stdout) as {
          data?: { result: { metric: Record<string, string>; value: [number, string] }[] };
          error?: string;
        };
        if (!data) return reject(new Error(`Prometheus: ${refused}: ${text}`));
        resolve(data.result.map(({ metric, value: [, value] }) => ({ ...metric, value })));
      });
    });
  const stop = (): void => {
    if (child.exitCode === null && child.signalCode === null) process.kill(-child.pid!);
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    await until(
      'Prometheus to scrape every sidecar',
      () =>
        query('count(up{job="realpod-sidecar"} == 1)').then(
          ([first]) => Number(first?.value) === targets.length,
          () => false,
        ),
      60_000,
    );
  } catch (error) {
    const why = readFileSync(said, 'utf8').trim().split('\n').at(-1);
    stop();
    throw new Error(`${(error as Error).message}: ${why}`);
  }
  return { query, stop };
}
