/**
 * The article's nginx, as Debian builds it, with as many requests as it can answer, and a helper that reads its memory. Each
 * request has a path of its own, and the pods write down which they answered.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { inject } from '../kit/inject.ts';
import { apply, kubectl, until } from '../kit/kubectl.ts';
import { machineLoad } from '../kit/results.ts';
import type { Scene } from './scene.ts';

const HELPER = fileURLToPath(new URL('../trace', import.meta.url));
/** Of test/cluster/trace/Dockerfile. */
const IMAGE = 'realpod.test/nginx-debian:1';
const VIP = '10.96.148.194:10000';
const SECONDS = 20;
const LINE = /^\S+ - - \[[^\]]+\] "GET \/(\d+) HTTP\/1\.1" 200 (\S+) \d+ "-" "-" "-"$/;

interface Result {
  connections: number;
  lines: number;
  named: number;
  wrong: number;
  lost: number;
  load: string;
}

const results: Result[] = [];
const inArticle = (...args: string[]): Promise<string> => kubectl('-n', 'realpod-article', ...args);
const article = (file: string): string =>
  readFileSync(new URL(`../article/${file}`, import.meta.url), 'utf8');

/** The backends of the article, which write down the path of each request that they answer. */
function recording(): string {
  const format = `log_format truth "\\$request_uri \\$server_addr:\\$server_port"; access_log /tmp/truth.log truth;`;
  const manifest = article('backend.yaml');
  assert.ok(manifest.includes('access_log off;'));
  return manifest.replace('access_log off;', format.replaceAll('\\$', '$'));
}

async function deploy(): Promise<{ address: string; node: string }> {
  await kubectl('apply', '-k', HELPER);
  await kubectl('-n', 'realpod', 'rollout', 'status', 'ds/realpod-helper', '--timeout=120s');
  await kubectl('delete', 'namespace', 'realpod-article', '--ignore-not-found');
  const nginx = article('nginx.yaml').replace('SETTINGS', '').replace('nginx:1.29', IMAGE);
  await apply(inject(nginx));
  await inArticle('set', 'env', 'deploy/nginx-test', '-c', 'realpod', 'REALPOD_MAX_WAIT=60s');
  await apply(recording());
  for (const name of ['backend', 'nginx-test'])
    await inArticle('rollout', 'status', `deploy/${name}`, '--timeout=120s');
  // The pod of before the setting takes a while to go.
  let places: string[] = [];
  await until('one pod of nginx', async () => {
    places = (await inArticle('get', 'pods', '-l', 'app=nginx-test', '-o', PLACES)).trim().split('\n');
    return places.length === 1;
  });
  const [address, node] = places[0]!.split(' ');
  assert.ok(address && node);
  await until(`the helper of ${node} to trace nginx`, async () => (await tracedOn(node)) > 0);
  await apply(`apiVersion: v1
kind: Pod
metadata: {name: wrk, namespace: realpod-article}
spec:
  nodeName: ${node}
  terminationGracePeriodSeconds: 0
  containers: [{name: wrk, image: "${IMAGE}", command: [sleep, infinity]}]
`);
  await inArticle('wait', '--for=condition=Ready', 'pod/wrk', '--timeout=60s');
  return { address, node };
}

const PLACES = `jsonpath={range .items[*]}{.status.podIP} {.spec.nodeName}{'\\n'}{end}`;

/** How many executables of nginx the node's helper traces. */
async function tracedOn(node: string): Promise<number> {
  const pods = await kubectl(
    ...['-n', 'realpod', 'get', 'pods', `--field-selector=spec.nodeName=${node}`],
    ...['-l', 'app.kubernetes.io/name=realpod-helper', '-o', 'jsonpath={.items[*].metadata.name}'],
  );
  let traced = 0;
  for (const pod of pods.split(' ').filter(Boolean)) {
    const path = `/api/v1/namespaces/realpod/pods/${pod}:9797/proxy/metrics`;
    const text = await kubectl('get', '--raw', path).catch(() => '');
    traced += Number(/^realpod_helper_trace_binaries (\d+)/m.exec(text)?.[1] ?? 0);
  }
  return traced;
}

/** The pod that answered each path, by what the pods wrote down. */
async function truth(): Promise<Map<number, string>> {
  const answered = new Map<number, string>();
  const names = await inArticle(
    'get',
    'pods',
    '-l',
    'app=backend',
    '-o',
    'jsonpath={.items[*].metadata.name}',
  );
  for (const name of names.split(' ')) {
    for (const line of (await inArticle('exec', name, '--', 'cat', '/tmp/truth.log')).split('\n')) {
      const [path, address] = line.split(' ');
      if (path && address) answered.set(Number(path.slice(1)), address);
    }
  }
  return answered;
}

async function written(): Promise<string[]> {
  const text = await inArticle('logs', 'deploy/nginx-test', '-c', 'realpod');
  return text.split('\n').filter((line) => line.includes('"GET /'));
}

async function flatOut(connections: number): Promise<Result> {
  const { address } = await deploy();
  await inArticle(
    ...['exec', 'wrk', '--', 'wrk', '-t1', `-c${connections}`, `-d${SECONDS}s`, '-s', '/numbered.lua'],
    `http://${address}:8080`,
  );
  const load = machineLoad();
  const answered = await truth();
  // wrk leaves its last requests without an answer: nginx logs them as 499, or not at all.
  const expected = answered.size - connections;
  await until(`${expected} lines`, async () => (await written()).length >= expected, 120_000).catch(() => {});
  const result: Result = { connections, lines: 0, named: 0, wrong: 0, lost: 0, load };
  const seen = new Set<number>();
  for (const line of await written()) {
    const [, number, name] = LINE.exec(line) ?? [];
    if (number === undefined || name === undefined) continue;
    const n = Number(number);
    assert.ok(!seen.has(n), `line ${n} twice`);
    seen.add(n);
    result.lines++;
    if (name === VIP) continue;
    result.named++;
    if (name !== answered.get(n)) result.wrong++;
  }
  result.lost = Math.max(0, expected - seen.size);
  results.push(result);
  return result;
}

export const TRACE: readonly Scene[] = [
  {
    name: 'the article’s nginx flat out, with the source trace',
    async run() {
      const result = await flatOut(100);
      const found = JSON.stringify(result);
      assert.deepEqual({ wrong: result.wrong, lost: result.lost }, { wrong: 0, lost: 0 }, found);
      assert.ok(result.lines > 1_000, found);
      assert.ok(result.named >= 0.999 * result.lines, found);
    },
  },
];

export function traceTable(): string {
  if (results.length === 0) return '';
  const rows = results.map(
    ({ connections, lines, named, wrong, lost, load }) =>
      `| ${connections} | ${lines} | ${Math.round(lines / SECONDS)}/s | ${named} (${((100 * named) / lines).toFixed(2)} %) | ${wrong} | ${lost} | ${load} |`,
  );
  return `The article's nginx.conf and log format, Debian's nginx, three backends, [k8s/helper-trace](../../k8s/helper-trace/kustomization.yaml)
with half a core promised and no limit, the injected sidecar with \`REALPOD_MAX_WAIT=60s\`; \`wrk -t1 -c100 -d${SECONDS}s\` in a pod of nginx's node,
every request with a path of its own. Every line with status 200 is held against what the pods wrote down. All of the cluster shares two cores.

| connections | lines | rate | named | wrong | lost | load |
| --- | --- | --- | --- | --- | --- | --- |
${rows.join('\n')}
`;
}
