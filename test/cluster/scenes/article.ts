/** The article's nginx, through a NodePort, with the sidecar that `realpod inject` adds and nothing else. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { inject } from '../kit/inject.ts';
import { apply, kubectl, until } from '../kit/kubectl.ts';
import { machineLoad } from '../kit/results.ts';
import type { Scene } from './scene.ts';

const FOLDER = new URL('../article/', import.meta.url);
const LOAD = fileURLToPath(new URL('load.mjs', FOLDER));
const OUTSIDE = (process.env.REALPOD_CLUSTER_OUTSIDE ?? '').split(' ').filter(Boolean);
const VIP = '10.96.148.194:10000';
/** nginx before 1.29.7 opens a connection for each request, with HTTP/1.0. */
const SETTINGS = { off: 'proxy_http_version 1.0;', on: '' } as const;
/** Lines are judged from so long after nginx's start on (ms). */
const FROM_MS = 10_000;

const LINE = /^\S+ - - \[[^\]]+\] "GET \/(\d+) HTTP\/1\.1" (\d+) (\S+) \d+ "-" "curl\/8\.5\.0" "-"$/;

interface Result {
  keepalive: 'off' | 'on';
  rate: number;
  answered: number;
  named: number;
  wrong: number;
  lost: number;
  /** Share of named lines. */
  goal: number;
  load: string;
}

const results: Result[] = [];
const inArticle = (...args: string[]): Promise<string> => kubectl('-n', 'realpod-article', ...args);

function outside(...command: string[]): Promise<string> {
  const [program, ...args] = [...OUTSIDE, ...command];
  return new Promise((resolve, reject) => {
    execFile(program!, args, { maxBuffer: 64 * 1024 * 1024 }, (error, stdout) =>
      error ? reject(error) : resolve(stdout),
    );
  });
}

async function deploy(keepalive: 'off' | 'on'): Promise<void> {
  const nginx = readFileSync(new URL('nginx.yaml', FOLDER), 'utf8').replace('SETTINGS', SETTINGS[keepalive]);
  await kubectl('delete', 'namespace', 'realpod-article', '--ignore-not-found');
  await apply(inject(nginx));
  await apply(readFileSync(new URL('backend.yaml', FOLDER), 'utf8'));
  for (const name of ['backend', 'nginx-test'])
    await inArticle('rollout', 'status', `deploy/${name}`, '--timeout=120s');
}

/** The address of a node, from outside. */
async function node(): Promise<string> {
  const path = 'jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}';
  return kubectl('get', 'nodes', '-o', path);
}

async function send(keepalive: 'off' | 'on', rate: number, total: number, goal: number): Promise<Result> {
  const written = async (): Promise<string[]> =>
    (await inArticle('logs', 'deploy/nginx-test', '-c', 'realpod'))
      .split('\n')
      .filter((line) => line.includes('"GET /'));
  const before = (await written()).length;
  const answers = await outside(
    process.execPath,
    LOAD,
    `http://${await node()}:30080`,
    `${rate}`,
    `${total}`,
  );
  const truth = new Map<number, string>();
  for (const line of answers.trim().split('\n')) {
    const [n, status, , address] = line.split(' ');
    if (status === '200' && address) truth.set(Number(n), address);
  }
  // A line waits for its evidence a second at most, and ten for a helper that is away.
  await until(
    `${truth.size} lines`,
    async () => (await written()).length - before >= truth.size,
    30_000,
  ).catch(() => {});
  const result: Result = {
    keepalive,
    rate,
    answered: 0,
    named: 0,
    wrong: 0,
    lost: 0,
    goal,
    load: machineLoad(),
  };
  const lines = (await written()).slice(before).map((line) => LINE.exec(line));
  const seen = new Set<number>();
  for (const match of lines) {
    assert.ok(match, 'a line is not as nginx wrote it');
    const n = Number(match[1]);
    assert.ok(!seen.has(n), `line ${n} twice`);
    seen.add(n);
    const told = truth.get(n);
    if (match[2] !== '200' || told === undefined) continue;
    const named = match[3] !== VIP;
    if (named && match[3] !== told) result.wrong++;
    result.answered++;
    if (named) result.named++;
  }
  for (const n of truth.keys()) if (!seen.has(n)) result.lost++;
  results.push(result);
  return result;
}

/** `least`: the share of lines with a pod that there must be. */
const SENT = [
  { rate: 1, total: 20, least: 0.95 },
  { rate: 10, total: 200, least: 0.95 },
  { rate: 100, total: 1_500, least: 0.9 },
] as const;

export const ARTICLE: readonly Scene[] = (['off', 'on'] as const).flatMap((keepalive) =>
  SENT.map(({ rate, total, least }) => ({
    name: `the article’s nginx, keepalive ${keepalive}, ${rate}/s`,
    async run() {
      if (rate === 1) {
        await deploy(keepalive);
        await delay(FROM_MS);
      }
      const result = await send(keepalive, rate, total, least);
      const { answered, named, wrong, lost } = result;
      const found = JSON.stringify(result);
      assert.deepEqual({ wrong, lost }, { wrong: 0, lost: 0 }, found);
      assert.ok(answered > 0, found);
      // At 100/s it depends on how soon this machine reads: the table says it.
      if (rate < 100) assert.ok(named >= least * answered, found);
    },
  })),
);

export function articleTable(): string {
  if (results.length === 0) return '';
  const rows = results.map(
    ({ keepalive, rate, answered, named, wrong, lost, goal, load }) =>
      `| ${keepalive} | ${rate}/s | ${answered} | ${named} (${((100 * named) / answered).toFixed(1)} %) | ${wrong} | ${lost} | ${goal * 100} % | ${load} |`,
  );
  return `The article's nginx.conf with its log format and nothing that helps, three backends, the sidecar as \`realpod inject\` adds it with
its defaults, a request like curl's so often a second through a NodePort from outside the cluster, each on a new connection. Every line is held
against what the pod answered. "Load": of the machine, of two cores.

| upstream keepalive | requests | answered | named | wrong | lost | goal | load |
| --- | --- | --- | --- | --- | --- | --- | --- |
${rows.join('\n')}
`;
}
