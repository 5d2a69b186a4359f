/**
 * `npm run test:cluster`: the example in the cluster that the kubeconfig names, under 200 requests a second, through
 * everything that happens to it there. Each line is compared with nginx's second log and with what the pod said itself.
 *
 * REALPOD_CLUSTER_KUBECTL  how kubectl is called (`kubectl`)
 * REALPOD_CLUSTER_LOAD     a command that brings both images onto every node, such as `kind load docker-image …`
 * REALPOD_CLUSTER_API      a command that takes `stop`, `start`, `hang` or `continue` for the API server; without it those
 *                          two events are left out, and the table says so
 * REALPOD_CLUSTER_NODE     a command that takes `flush` (the nodes' connection tracking) or `restart` (containerd, kubelet
 *                          and kube-proxy of each node); the same without it
 * REALPOD_CLUSTER_FROM     DIR TAG: begins with an earlier version, its checkout and its images’ tag, and upgrades it
 * REALPOD_CLUSTER_RATE     requests a second (200)
 * REALPOD_CLUSTER_ONLY     a regular expression: only the events whose names it matches
 * REALPOD_CLUSTER_KEEP     a file for all logs; REALPOD_CLUSTER_JUDGE: such a file, judged again without a cluster
 * REALPOD_CLUSTER_RESULTS  `write`: the table goes into docs/results/cluster.md
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { compare, type Judged, judge, type Totals, totals, truthOf } from './kit/judge.ts';
import { apply, endFollowing, inNamespace, kubectl, NAMESPACE, shell } from './kit/kubectl.ts';
import { Logs, type PodLogs } from './kit/logs.ts';
import { manifests } from './kit/manifests.ts';
import { machineLoad, writeResults } from './kit/results.ts';

const HELPERS = ['-n', 'realpod', 'rollout', 'status', 'ds/realpod-helper', '--timeout=120s'];
const API = process.env.REALPOD_CLUSTER_API;
const NODE = process.env.REALPOD_CLUSTER_NODE;
const HELPER = fileURLToPath(new URL('../../k8s/helper', import.meta.url));
const FROM = process.env.REALPOD_CLUSTER_FROM?.split(' ');
const RATE = process.env.REALPOD_CLUSTER_RATE ?? '200';

interface Event {
  name: string;
  /** Milliseconds that the longest stretch without a pod may have. */
  goalMs?: number;
  run(): Promise<unknown>;
}

const rolled = (what: string) => inNamespace('rollout', 'status', what, '--timeout=120s');

/** Ends the sidecar's process, as an out-of-memory kill would, and not the container. */
const KILL =
  'for p in /proc/[0-9]*; do if tr "\\0" " " <$p/cmdline | grep -q "^[^ ]*node .*sidecar"; then kill -9 $(basename $p); fi; done';

async function nginxPods(): Promise<string[]> {
  return (await inNamespace('get', 'pods', '-l', 'app=nginx', '-o', 'name')).trim().split('\n');
}

const UPGRADE: Event[] = [
  {
    name: 'upgraded: the helper',
    run: async () => {
      await kubectl('apply', '-k', HELPER);
      await kubectl(...HELPERS);
    },
  },
  {
    name: 'upgraded: the sidecars',
    goalMs: 0,
    run: async () => {
      await apply(await manifests(RATE));
      await rolled('deploy/nginx');
    },
  },
];

const EVENTS: Event[] = [
  { name: 'nothing happens', goalMs: 0, run: () => delay(8_000) },
  {
    name: 'backends rolled',
    goalMs: 0,
    run: async () => {
      await inNamespace('rollout', 'restart', 'deploy/backend');
      await rolled('deploy/backend');
    },
  },
  {
    name: 'backends scaled 6 → 2 → 8',
    goalMs: 0,
    run: async () => {
      for (const replicas of [2, 8]) {
        await inNamespace('scale', 'deploy/backend', `--replicas=${replicas}`);
        await rolled('deploy/backend');
        await delay(2_000);
      }
    },
  },
  {
    name: 'all backends deleted',
    goalMs: 0,
    run: async () => {
      await inNamespace('delete', 'pods', '-l', 'app=backend', '--wait=false');
      await delay(3_000);
      await rolled('deploy/backend');
    },
  },
  {
    name: 'nginx rolled',
    goalMs: 0,
    run: async () => {
      await inNamespace('rollout', 'restart', 'deploy/nginx');
      await rolled('deploy/nginx');
    },
  },
  {
    name: 'an nginx pod deleted',
    goalMs: 0,
    run: async () => {
      await inNamespace('delete', (await nginxPods())[0]!);
      await rolled('deploy/nginx');
    },
  },
  {
    name: 'sidecars killed (SIGKILL)',
    goalMs: 500,
    run: async () => {
      for (const pod of await nginxPods())
        await inNamespace('exec', pod, '-c', 'realpod', '--', 'sh', '-c', KILL);
      await delay(6_000);
    },
  },
  {
    name: 'helper rolled',
    goalMs: 1_500,
    run: async () => {
      await kubectl('-n', 'realpod', 'rollout', 'restart', 'ds/realpod-helper');
      await kubectl(...HELPERS);
    },
  },
  {
    name: 'helper deleted',
    run: async () => {
      await kubectl('-n', 'realpod', 'delete', 'pods', '--all', '--wait=false');
      await delay(4_000);
      await kubectl(...HELPERS);
    },
  },
  {
    name: 'a Service deleted and made again',
    goalMs: 0,
    run: async () => {
      const { spec } = JSON.parse(await inNamespace('get', 'service', 'twin', '-o', 'json'));
      const { clusterIP, selector, ports } = spec;
      await inNamespace('delete', 'service', 'twin');
      await delay(3_000);
      // nginx has looked the name up at its start: the address stays.
      const again = { apiVersion: 'v1', kind: 'Service', metadata: { name: 'twin', namespace: NAMESPACE } };
      await apply(JSON.stringify({ ...again, spec: { clusterIP, selector, ports } }));
      await delay(5_000);
    },
  },
  ...(NODE === undefined
    ? []
    : [
        {
          name: 'connection tracking flushed',
          run: async () => {
            for (let i = 0; i < 3; i++) {
              await shell(`${NODE} flush`);
              await delay(3_000);
            }
          },
        },
        {
          name: 'containerd, kubelet and kube-proxy restarted',
          goalMs: 0,
          run: async () => {
            await shell(`${NODE} restart`);
            await delay(10_000);
          },
        },
      ]),
  ...(API === undefined
    ? []
    : [
        {
          name: 'API server away for 15 s',
          goalMs: 0,
          run: async () => {
            await shell(`${API} stop`);
            await delay(15_000);
            await shell(`${API} start`);
            await delay(5_000);
          },
        },
        {
          name: 'API server hung for 15 s',
          goalMs: 0,
          run: async () => {
            await shell(`${API} hang`);
            await delay(15_000);
            await shell(`${API} continue`);
            await delay(3_000);
          },
        },
      ]),
];

async function install(): Promise<void> {
  const load = process.env.REALPOD_CLUSTER_LOAD;
  if (load !== undefined) await shell(load);
  await apply(await manifests(RATE, ...(FROM ?? [])));
  await kubectl(...HELPERS);
  for (const what of ['deploy/backend', 'deploy/nginx', 'ds/host']) await rolled(what);
  await inNamespace('wait', 'pod/client', '--for=condition=Ready', '--timeout=60s');
}

interface Row extends Totals {
  name: string;
  goalMs: number | undefined;
}

/** All that was seen of one run. */
interface Run {
  version: string;
  nodes: number;
  /** `load`: of this machine at the event's end. */
  spans: { name: string; goalMs?: number | undefined; from: number; to: number; load: string }[];
  /** Events that failed by themselves. */
  broken: string[];
  client: string[];
  pods: [name: string, logs: PodLogs][];
}

async function live(): Promise<Run> {
  const version = JSON.parse(await kubectl('version', '-o', 'json')) as {
    serverVersion: { gitVersion: string };
  };
  const nodes = (await kubectl('get', 'nodes', '-o', 'name')).trim().split('\n').length;
  console.log(`Kubernetes ${version.serverVersion.gitVersion}, ${nodes} nodes`);
  await install();
  const logs = new Logs();
  const running = logs.run();
  await delay(5_000);
  const spans: Run['spans'] = [];
  const broken: string[] = [];
  const only = new RegExp(process.env.REALPOD_CLUSTER_ONLY ?? '');
  for (const { name, goalMs, run } of [...(FROM ? UPGRADE : []), ...EVENTS].filter((event) =>
    only.test(event.name),
  )) {
    const from = Date.now();
    try {
      await run();
    } catch (error) {
      console.log(`${name}: ${(error as Error).message}`);
      broken.push(name);
    }
    await delay(2_000);
    spans.push({ name, goalMs, from, to: Date.now(), load: machineLoad() });
    console.log(`${name}: ${((Date.now() - from) / 1000).toFixed(0)} s`);
  }
  await inNamespace('delete', 'pod/client', '--grace-period=1');
  // What is written by now is read.
  await delay(6_000);
  logs.stop();
  endFollowing();
  await running;
  const { gitVersion } = version.serverVersion;
  return { version: gitVersion, nodes, spans, broken, client: logs.client, pods: [...logs.pods] };
}

async function main(): Promise<number> {
  const { REALPOD_CLUSTER_KEEP: keep, REALPOD_CLUSTER_JUDGE: kept } = process.env;
  const run = kept === undefined ? await live() : (JSON.parse(readFileSync(kept, 'utf8')) as Run);
  if (keep !== undefined) writeFileSync(keep, JSON.stringify(run));
  const { spans } = run;
  const truth = truthOf(run.client);
  const lines: Judged[] = [];
  const sums = { lost: 0, repeated: 0, changed: 0 };
  for (const [pod, both] of run.pods) {
    for (const line of both.realpod) {
      const judged = judge(pod, line, truth);
      // What an earlier run sent to the same pods has other numbers.
      if (judged && judged.at >= spans[0]!.from) lines.push(judged);
    }
    const found = compare(both);
    for (const key of ['lost', 'repeated', 'changed'] as const) sums[key] += found[key];
  }
  const rows: Row[] = spans.map(({ name, goalMs, from, to, load }) => ({
    name: load ? `${name} (load ${load})` : name,
    goalMs: goalMs ?? undefined,
    ...totals(lines.filter(({ at, kind }) => at >= from && at < to && kind !== 'long')),
  }));
  const kinds: Row[] = [...new Set(lines.map(({ kind }) => kind))].sort().map((kind) => ({
    name: kind,
    goalMs: undefined,
    ...totals(lines.filter((line) => line.kind === kind)),
  }));
  const text = report(run, rows, kinds, sums, truth.size);
  console.log(text);
  writeResults('events', text);
  const failed =
    sums.lost > 0 ||
    sums.changed > 0 ||
    truth.size === 0 ||
    run.broken.length > 0 ||
    rows.some(({ wrong, unnamedMs, goalMs }) => wrong > 0 || (goalMs !== undefined && unnamedMs > goalMs));
  return failed ? 1 : 0;
}

function report(
  { version, nodes, spans }: Run,
  rows: readonly Row[],
  kinds: readonly Row[],
  { lost, repeated, changed }: { lost: number; repeated: number; changed: number },
  truths: number,
): string {
  const row = ({ name, answered, named, wrong, unnamedMs, goalMs }: Row): string => {
    const share = answered === 0 ? '–' : `${((100 * named) / answered).toFixed(2)} %`;
    const goal = goalMs === undefined ? '' : goalMs === 0 ? '0' : `≤ ${goalMs / 1000} s`;
    return `| ${name} | ${answered} | ${named} (${share}) | ${wrong} | ${(unnamedMs / 1000).toFixed(2)} s | ${goal} |`;
  };
  const head =
    '| | answered | named | wrong | longest without a pod | goal |\n| --- | --- | --- | --- | --- | --- |';
  return `Written by \`npm run test:cluster\`: Kubernetes ${version}, ${nodes} nodes; the example with six backends, two nginx pods and a
client that sends ${RATE} requests a second, each on a new connection. ${truths} answers say themselves which pod gave them. Each
line of the sidecars is compared with that, and with nginx's second log (its stdout).

Lines lost: **${lost}**, changed elsewhere than in the address: **${changed}**, written twice (after a SIGKILL, on stdout):
${repeated}. "Answered": a pod answered with 200, and nginx logged the Service's address, so there is a pod to name. "Longest without a pod": from the first such
line that was left alone to the next one that was not, in one nginx pod. "Load": of the machine, of two cores, with all that runs
on it.

${head}
${rows.map(row).join('\n')}
${spans.some(({ name }) => name.startsWith('API')) ? '' : '\nThe API server was left alone.\n'}
### By the Service's kind

\`r\`: ClusterIP, half of the requests. \`local\`: \`internalTrafficPolicy: Local\`. \`host\`: hostNetwork pods on every node.
\`long\`: request lines of 20 KB, whose
id lies behind what the tap copies (\`--tap-snaplen\`), left out above. \`hairpin\`: the nginx pods themselves, half of it the pod that asks. \`none\`: no pod behind it, nginx answers 502. \`headless\`: nginx dials pods itself, so there is nothing to name.

${head}
${kinds.map(row).join('\n')}
`;
}

process.exitCode = await main().catch((error: Error) => {
  console.error(error.message);
  endFollowing();
  return 1;
});
