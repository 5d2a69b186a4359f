/**
 * `npm run test:fleet`: three nginx, six backends, a Collector on every node and VictoriaLogs in the cluster that the
 * kubeconfig names. One backend is made slow, then all of one node; each query of docs/fleet.md is asked as it stands there.
 *
 * REALPOD_CLUSTER_KUBECTL   how kubectl is called (`kubectl`)
 * REALPOD_CLUSTER_LOAD      a command that brings the images onto every node
 * REALPOD_CLUSTER_POD_LOGS  where a node keeps its pods' logs, if not in /var/log/pods; `NODE` stands for the node's name
 * REALPOD_CLUSTER_INSIDE    a command that runs its arguments where pods' addresses can be reached; without it Prometheus'
 *                           queries are left out, and the page says so. Needs prometheus and curl
 * REALPOD_CLUSTER_RESULTS   `write`: the answers go into docs/results/fleet.md
 */
import { writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { inNamespace, kubectl, shell, until } from './kit/kubectl.ts';
import { type Query, queriesOf, tableOf } from './kit/page.ts';
import { type Prometheus, startPrometheus, type Target } from './kit/prometheus.ts';

const MANIFESTS = fileURLToPath(new URL('fleet', import.meta.url));
const PAGE = new URL('../../docs/fleet.md', import.meta.url);
const RESULTS = new URL('../../docs/results/fleet.md', import.meta.url);
const LOGS = 'realpod-logs';
const SLOW_MS = 45_000;
const ERASED = ['_stream_id', '_stream', '_msg'];

type Row = Record<string, string>;

async function store(path: string): Promise<string> {
  return kubectl('get', '--raw', `/api/v1/namespaces/${LOGS}/services/victoria-logs:9428/proxy${path}`);
}

async function ask(text: string): Promise<Row[]> {
  const answer = await store(`/select/logsql/query?query=${encodeURIComponent(text)}`);
  return answer
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Row)
    .map((row) => Object.fromEntries(Object.entries(row).filter(([key]) => !ERASED.includes(key))));
}

async function install(): Promise<void> {
  const { REALPOD_CLUSTER_LOAD: load, REALPOD_CLUSTER_POD_LOGS: podLogs } = process.env;
  if (load !== undefined) await shell(load);
  await kubectl('apply', '-k', MANIFESTS);
  if (podLogs !== undefined) await movePodLogs(podLogs);
  await kubectl('-n', 'realpod', 'rollout', 'status', 'ds/realpod-helper', '--timeout=120s');
  await kubectl('-n', LOGS, 'rollout', 'status', 'deploy/victoria-logs', '--timeout=120s');
  await kubectl('-n', LOGS, 'rollout', 'status', 'ds/collector', '--timeout=120s');
  for (const what of ['deploy/backend', 'deploy/nginx']) {
    await inNamespace('rollout', 'status', what, '--timeout=120s');
  }
  await inNamespace('wait', 'pod/client', '--for=condition=Ready', '--timeout=60s');
}

/** `path`: `/DIRECTORY/NODE/REST`. */
async function movePodLogs(path: string): Promise<void> {
  const [before = '', after = ''] = path.split('/NODE/');
  const at = '/spec/template/spec';
  await kubectl(
    ...['-n', LOGS, 'patch', 'ds/collector', '--type=json', '-p'],
    JSON.stringify([
      { op: 'replace', path: `${at}/volumes/1/hostPath/path`, value: before },
      { op: 'add', path: `${at}/containers/0/volumeMounts/1/subPathExpr`, value: `$(NODE_NAME)/${after}` },
      { op: 'add', path: `${at}/containers/0/volumeMounts/2/subPathExpr`, value: '$(NODE_NAME)' },
    ]),
  );
}

interface Backend {
  pod: string;
  node: string;
}

async function backends(): Promise<Backend[]> {
  const { items } = JSON.parse(await inNamespace('get', 'pods', '-l', 'app=backend', '-o', 'json')) as {
    items: { metadata: { name: string }; spec: { nodeName: string } }[];
  };
  return items.map(({ metadata, spec }) => ({ pod: metadata.name, node: spec.nodeName }));
}

const slow = (pod: string): Promise<string> => inNamespace('exec', pod, '--', 'touch', '/tmp/slow');
const swift = (pod: string): Promise<string> => inNamespace('exec', pod, '--', 'rm', '/tmp/slow');

async function sidecars(): Promise<Target[]> {
  const { items } = JSON.parse(await inNamespace('get', 'pods', '-l', 'app=nginx', '-o', 'json')) as {
    items: { metadata: { name: string; namespace: string }; status: { podIP: string } }[];
  };
  return items.map(({ metadata: { name, namespace }, status: { podIP } }) => ({
    address: `${podIP}:9798`,
    namespace,
    pod: name,
  }));
}

/** Lines that each nginx's sidecar wrote, by its own count. */
async function written(): Promise<Map<string, number>> {
  const pods = (await inNamespace('get', 'pods', '-l', 'app=nginx', '-o', 'name')).trim().split('\n');
  const counts = new Map<string, number>();
  for (const name of pods) {
    const pod = name.replace('pod/', '');
    const text = await kubectl(
      ...['get', '--raw', `/api/v1/namespaces/realpod-example/pods/${pod}:9798/proxy/metrics`],
    );
    let lines = 0;
    for (const [, value] of text.matchAll(/^realpod_lines_total\{[^}]*\} (\d+)$/gm)) lines += Number(value);
    counts.set(pod, lines);
  }
  return counts;
}

/** Of what the store ingested: lines, and bytes on its disk. */
async function stored(): Promise<{ lines: Map<string, number>; bytes: number; text: number }> {
  const rows = await ask('_time:1h k8s.container.name:realpod | stats by (k8s.pod.name) count() as lines');
  const metrics = await store('/metrics');
  const sum = (pattern: RegExp): number => {
    let all = 0;
    for (const [, value] of metrics.matchAll(pattern)) all += Number(value);
    return all;
  };
  return {
    lines: new Map(rows.map((row) => [row['k8s.pod.name']!, Number(row.lines)])),
    bytes: sum(/^vl_data_size_bytes\{[^}]*\} ([\d.e+]+)$/gm),
    text: sum(/^vl_bytes_ingested_total\{[^}]*\} ([\d.e+]+)$/gm),
  };
}

/** Whether the answer to a query is what was done to the pods. */
function fits({ title }: Query, rows: readonly Row[], backend: Backend, since: number): boolean {
  const [first] = rows;
  if (title.startsWith('Which pod')) return (first?.['to.pod'] ?? first?.destination_pod) === backend.pod;
  if (title.startsWith('Which node')) return (first?.['to.node'] ?? first?.destination_node) === backend.node;
  if (title === 'Since when') {
    const begun = rows.find((row) => Number(row.p95) > 0.1)?._time;
    return begun !== undefined && Math.abs(Date.parse(begun) - since) < 20_000;
  }
  if (title.startsWith('Since when')) return Number(first?.value) >= 20;
  return true;
}

interface Answer extends Query {
  rows: Row[];
  right: boolean;
}

async function main(): Promise<number> {
  const queries = queriesOf(PAGE);
  await install();
  const all = await backends();
  const node = all
    .map((each) => each.node)
    .sort()
    .at(-1)!;
  const backend = all.find((each) => each.node === node)!;
  const inside = process.env.REALPOD_CLUSTER_INSIDE;
  const prometheus: Prometheus | undefined =
    inside === undefined ? undefined : await startPrometheus(inside, await sidecars());
  const answers: Answer[] = [];
  const run = async (wanted: (query: Query) => boolean, since: number): Promise<void> => {
    for (const query of queries.filter(wanted)) {
      if (query.language === 'promql' && !prometheus) continue;
      const text = query.text.replaceAll('$POD', backend.pod);
      const rows = query.language === 'logsql' ? await ask(text) : await prometheus!.query(text);
      for (const row of rows) if (row.value) row.value = String(Number(Number(row.value).toFixed(3)));
      const right = fits(query, rows, backend, since);
      answers.push({ ...query, rows, right });
      console.log(`${right ? 'right' : 'WRONG'}: ${query.title}\n${tableOf(rows)}`);
    }
  };
  try {
    await until('lines in the store', async () => (await ask('_time:5m | limit 1')).length > 0);
    await delay(20_000);
    let since = Date.now();
    await slow(backend.pod);
    await delay(SLOW_MS);
    await run(({ title }) => !title.startsWith('Which node'), since);
    since = Date.now();
    for (const { pod } of all.filter((each) => each.node === node && each.pod !== backend.pod))
      await slow(pod);
    await delay(60_000);
    await run(({ title }) => title.startsWith('Which node'), since);
    await inNamespace('delete', 'pod/client', '--grace-period=1');
    const lines = await written();
    let kept = await stored();
    await until(
      'every line in the store',
      async () => {
        kept = await stored();
        return [...lines].every(([pod, count]) => kept.lines.get(pod) === count);
      },
      30_000,
    ).catch((error: Error) => console.log(error.message));
    const text = await report(queries, answers, backend, lines, kept);
    console.log(text);
    if (process.env.REALPOD_CLUSTER_RESULTS === 'write') writeFileSync(RESULTS, text);
    const allKept = [...lines].every(([pod, count]) => kept.lines.get(pod) === count);
    return allKept && answers.every(({ right }) => right) ? 0 : 1;
  } finally {
    prometheus?.stop();
    await Promise.all(all.filter((each) => each.node === node).map(({ pod }) => swift(pod))).catch(() => {});
  }
}

async function report(
  queries: readonly Query[],
  answers: readonly Answer[],
  backend: Backend,
  lines: ReadonlyMap<string, number>,
  kept: { lines: ReadonlyMap<string, number>; bytes: number; text: number },
): Promise<string> {
  const { serverVersion } = JSON.parse(await kubectl('version', '-o', 'json')) as {
    serverVersion: { gitVersion: string };
  };
  const nodes = (await kubectl('get', 'nodes', '-o', 'name')).trim().split('\n').length;
  const total = [...lines.values()].reduce((sum, count) => sum + count, 0);
  const counts = [...lines].map(([pod, count]) => ({
    nginx: pod,
    'lines written': String(count),
    'lines in the store': String(kept.lines.get(pod) ?? 0),
  }));
  return `# What the queries of docs/fleet.md answered

\`npm run test:fleet\`, on ${new Date().toISOString().slice(0, 10)}: Kubernetes ${serverVersion.gitVersion}, ${nodes} nodes, three nginx,
six backends, 60 requests a second, an OpenTelemetry Collector on each node, VictoriaLogs${answers.some(({ language }) => language === 'promql') ? ', Prometheus' : ''}. A backend answers within
some milliseconds. \`${backend.pod}\` on \`${backend.node}\` was made to take 150 ms longer, and after ${SLOW_MS / 1000} s the queries were asked;
then all backends of \`${backend.node}\`, and after 60 s the queries about nodes. ${answers.length} of ${queries.length} queries were asked; ${answers.filter(({ right }) => right).length} answers are
what was done.

${answers.map(({ title, rows, right }) => `## ${title}\n\n${right ? '' : '**Not what was done.** '}${rows.length > 10 ? `The first 10 of ${rows.length} rows.` : ''}\n\n${tableOf(rows)}`.replace(/\n{3,}/g, '\n\n')).join('\n')}
## Every line in the store once

${tableOf(counts)}
The store's own figures: ${Math.round(kept.text / Math.max(1, total))} bytes a line as they came, ${Math.round(kept.bytes / Math.max(1, total))} bytes a line on its disk, for ${total} lines.
`;
}

process.exitCode = await main();
