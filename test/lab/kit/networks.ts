/** Scenes for each kind of load balancing: the same traffic, the truth beside every line. */
import { after, before, describe, test } from 'node:test';
import { type Stored, service, slice } from '../../unit/api-server.ts';
import { readMetrics } from './check.ts';
import { type ApiServer, startApiServer } from './cluster.ts';
import type { FormatName } from './formats.ts';
import type { LoadPlan } from './load.ts';
import { startBackends, until } from './nginx.ts';
import { type Program, startHelper } from './product.ts';
import { labCanRun } from './requirements.ts';
import { type ResultsFile, type Row, table, writeSection } from './results.ts';
import { assertResolved, type Judge, judge } from './scenario.ts';
import { createScene, type Scene, type SceneOptions, type ServiceSpec } from './scene.ts';
import { SOCKET_LB, socketLbObstacle } from './socket-lb.ts';

export const RESULTS: ResultsFile = {
  url: new URL('../../../docs/results/networks.md', import.meta.url),
  header: `# Networks

Written by \`npm run test:networks\` (the first tables), \`npm run test:socket-lb\` and \`npm run bench:tap\` (the cost) when
\`REALPOD_LAB_RESULTS=write\` is set; not by hand. Each line's truth comes from the backend that answered it. A helper with the names of an API server's stand-in;
half of the pods are said to be on another node. \`id\`: the article's format with the id alone; \`times\`: with times and no id;
\`full\`: with both. Past netfilter the helper runs with \`--sources tap --tap-source packet\`. More of IPVS is in [lab.md](lab.md).

In the first tables one nginx writes the same requests into a log of each format, all to two Services over the same pods; a cell has
the lines that name their pod, and why the others do not. All requests have the id on the wire; behind TLS nobody sees it, and the
log has \`$upstream_local_port\` by [nginx-module](../../nginx-module/README.md) instead. HTTP/2 is read for ids alone. Past netfilter
connections are known by their packets alone, so ids and ports without \`$upstream_status\` or times name nothing: \`gap\`. With the id
alone a line does not tell whether its attempt was sent, so connections of the same moment leave it \`ambiguous\`. Without an id and a
port, HTTP/2 and gRPC beside, and requests of the other Service, leave nearly all lines alone. A port comes round, and is then \`ambiguous\` where
the pod before may have answered. The first tables are of one build, 0873da5, on a machine that did other work, too. IPVS is of a later one, c5b589c,
with fewer lines, as its machine is emulated.
`,
};

const NODE = 'worker-1';
export const ALL = [0, 1, 2, 3];
export const CONNECTIONS = 100;
export const LINES = 6000;

/** Two Services over the same pods and port, and one over the same addresses with another port. */
export const SERVICES: readonly ServiceSpec[] = [
  { name: 'a', port: 10000, targetPort: 10000, pods: ALL },
  { name: 'b', port: 80, targetPort: 10000, pods: ALL },
  { name: 'c', port: 10000, targetPort: 10002, pods: ALL },
  { name: 'solo', port: 10000, targetPort: 10001, pods: [0] },
  { name: 'a6', port: 10000, targetPort: 10000, pods: ALL, family: 6 },
  { name: 'b6', port: 80, targetPort: 10000, pods: ALL, family: 6 },
];
export const NAMES = SERVICES.map(({ name }) => name);

export const mix = (...names: readonly string[]): LoadPlan['requests'] =>
  names.flatMap((name) => [
    { path: `/${name}/item/{n}`, weight: 3 },
    { path: `/${name}/same`, weight: 2 },
    { path: `/${name}/form`, method: 'POST', bodyBytes: 600 },
    { path: `/${name}/status/500`, weight: 0.2 },
  ]);

export interface Stage {
  scene: Scene;
  api: ApiServer;
  helper: Program;
  scenario: Judge['scenario'];
  /** Ends the helper and starts another one. */
  restartHelper(): Promise<void>;
  /** Tells the API server of these Services. */
  tell(specs: readonly ServiceSpec[]): Promise<void>;
}

export async function openStage(
  mode: SceneOptions['mode'],
  rows: Row[],
  helperArgs: readonly string[],
  services: readonly ServiceSpec[] = SERVICES,
): Promise<Stage> {
  const scene = await createScene({ pods: 4, services, ...(mode ? { mode } : {}) });
  try {
    const api = await startApiServer(scene);
    const tell = async (specs: readonly ServiceSpec[]): Promise<void> => {
      for (const { name, port, targetPort, pods, family } of specs) {
        const endpoints = pods.map((i) => ({
          ip: scene.pods[i]![family === 6 ? 'ip6' : 'ip'],
          pod: scene.pods[i]!.name,
          node: i < 2 ? NODE : 'worker-2',
        }));
        const at = (object: Stored, ports: object[]): Stored =>
          object.kind === 'Service'
            ? { ...object, spec: { ...(object.spec as object), ports } }
            : { ...object, ports };
        await api.send({
          put: at(slice('shop', name, 'x', endpoints), [{ name: 'http', port: targetPort }]),
        });
        const { clusterIp } = scene.service(name);
        await api.send({
          put: at(service('shop', name, [clusterIp]), [{ name: 'http', port, targetPort: 'http' }]),
        });
      }
    };
    await tell(services);
    await startBackends(scene, [10000, 10001, 10002]);
    const openHelper = async (): Promise<Program> => {
      process.env.NODE_NAME = NODE;
      const options = ['--auth', 'none', '--kubeconfig', api.kubeconfig, ...helperArgs];
      const helper = await startHelper(scene, options);
      delete process.env.NODE_NAME;
      await until('the helper to have listed both kinds', () => {
        const lists = readMetrics(helper.get('/metrics').text).filter(
          ({ name }) => name === 'realpod_helper_api_lists_total',
        );
        return lists.length === 2 && lists.every(({ value }) => value > 0);
      });
      return helper;
    };
    const stage: Stage = {
      scene,
      api,
      helper: await openHelper(),
      tell,
      scenario: judge(scene, rows).scenario,
      async restartHelper() {
        await stage.helper.stop();
        stage.helper = await openHelper();
      },
    };
    return stage;
  } catch (error) {
    await scene.dispose();
    throw error;
  }
}

const skip = !labCanRun(SOCKET_LB, socketLbObstacle);

export function suite(
  title: string,
  mode: SceneOptions['mode'],
  tests: (stage: () => Stage) => void,
  notes: readonly string[] = [],
  helperArgs: readonly string[] = [],
): void {
  const unwanted = !new RegExp(process.env.REALPOD_NETWORKS ?? '').test(title);
  describe(title, { skip: skip || unwanted, concurrency: false, timeout: 400_000 }, () => {
    const rows: Row[] = [];
    let stage: Stage;
    before(async () => {
      stage = await openStage(mode, rows, helperArgs);
    });
    after(async () => {
      if (process.env.REALPOD_LAB_ROWS && stage) console.log(stage.helper.said(), lossesOf(stage.helper));
      await stage?.scene.dispose();
      if (rows.length > 0) writeSection(RESULTS, title, table(rows), notes);
    });
    tests(() => stage);
  });
}

/** The helper's losses, for people. */
export function lossesOf(helper: Program): string {
  return readMetrics(helper.get('/metrics').text)
    .filter(({ name, value }) => value > 0 && /lost|gaps|overruns|starts|malformed|refused/.test(name))
    .map(({ name, labels, value }) => `${name}${JSON.stringify(labels)} ${value}`)
    .join('\n');
}

interface Traffic {
  connections?: number;
  total?: number;
  ratePerSecond?: number;
  services?: readonly string[];
}

function judged(
  stage: () => Stage,
  title: string,
  format: FormatName,
  keepalive: boolean,
  traffic: Traffic,
): void {
  const { services = ['a', 'b', 'c'], connections = CONNECTIONS, total = LINES, ratePerSecond } = traffic;
  const name = `${title}, ${keepalive ? 'keepalive' : 'no keepalive'}`;
  test(`${name}: no line names a wrong pod`, async () => {
    const options = {
      format,
      keepalive,
      services: NAMES,
      ...(format === 'times' || format === 'article' ? { withoutIdHeader: true } : {}),
    };
    const rate = ratePerSecond === undefined ? {} : { ratePerSecond };
    const row = await stage().scenario(name, options, ({ sentTo }) =>
      sentTo({ connections, total, ...rate, requests: mix(...services) }),
    );
    if (format === 'full') assertResolved(row, 'request-id', 0.999);
  });
}

/** Each format, without and with upstream keepalive. */
export function formats(stage: () => Stage, names: readonly FormatName[]): void {
  for (const format of names)
    for (const keepalive of [false, true]) judged(stage, format, format, keepalive, {});
}

/** One client, or ten, and IPv6. */
export function fewConnections(stage: () => Stage): void {
  for (const connections of [1, 10])
    for (const keepalive of [false, true])
      judged(stage, `full, ${connections} connection${connections === 1 ? '' : 's'}`, 'full', keepalive, {
        connections,
        total: LINES / 10,
      });
}

export function ipv6(stage: () => Stage): void {
  for (const keepalive of [false, true])
    judged(stage, 'full, IPv6', 'full', keepalive, { services: ['a6', 'b6'], total: LINES / 2 });
}

/** Formats without an id, or with the id alone, where requests seldom overlap. */
export function quiet(stage: () => Stage, names: readonly FormatName[]): void {
  for (const format of names)
    for (const keepalive of [false, true])
      judged(stage, `${format}, 1 connection, 50/s`, format, keepalive, {
        connections: 1,
        total: 300,
        ratePerSecond: 50,
        services: ['a', 'b'],
      });
}
