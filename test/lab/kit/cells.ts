/**
 * The table of networks: each protocol to the backends, each log format, each number of clients' connections, with and without
 * upstream keepalive. One nginx writes the same requests into a log of each format, and each log has a sidecar of its own.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type Comparison, compare, difference } from './check.ts';
import { FORMATS, withLocalPort } from './formats.ts';
import type { LoadPlan } from './load.ts';
import { startFront } from './nginx.ts';
import { DEBIAN, type NginxBuild, newestNginx } from './nginx-build.ts';
import { caughtUp, countLines, type Sidecar, startSidecar, untilExact } from './product.ts';
import { dropLines } from './scenario.ts';
import type { Scene, ServiceSpec } from './scene.ts';
import { load, startBoth, startProtocols } from './traffic.ts';

const SOURCE = process.env.NGINX_SOURCE ?? '/usr/share/nginx/src';
const BUILD = fileURLToPath(new URL('../../../nginx-module/build.sh', import.meta.url));

/** Of each kind of backend two Services, over the same pods and port. */
export function cellServices(pods: readonly number[]): ServiceSpec[] {
  return [
    { name: 'a', port: 10000, targetPort: 10000, pods },
    { name: 'b', port: 80, targetPort: 10000, pods },
    { name: 'g', port: 10000, targetPort: 10010, pods },
    { name: 'h', port: 80, targetPort: 10010, pods },
    { name: 's', port: 10000, targetPort: 8443, pods },
    { name: 't', port: 443, targetPort: 8443, pods },
    { name: 'solo', port: 10000, targetPort: 10001, pods: [0] },
  ];
}

/** What nginx logs. The requests have the id in each case. */
export const CELL_FORMATS = {
  'id and times': FORMATS.full,
  'id alone': FORMATS.id,
  times: FORMATS.times,
  article: FORMATS.article,
} as const;
export type CellFormat = keyof typeof CELL_FORMATS;
const FORMAT_NAMES = Object.keys(CELL_FORMATS) as CellFormat[];

interface Protocol {
  services: readonly string[];
  /** In a location, for the group `svc_NAME`. */
  pass(group: string): string;
  /** The upstream's port is in the log. */
  port?: true;
  /** Requests as those of gRPC: a POST each, and their trailers are wanted. */
  calls?: true;
}

export const PROTOCOLS = {
  h1: { services: ['a', 'b'], pass: (group) => `proxy_pass http://${group};` },
  h2c: {
    services: ['g', 'h'],
    pass: (group) =>
      `proxy_http_version 2; proxy_set_header X-Request-ID $request_id; proxy_set_header Host $host; proxy_pass http://${group};`,
  },
  gRPC: {
    services: ['g', 'h'],
    pass: (group) => `grpc_set_header X-Request-ID $request_id; grpc_pass grpc://${group};`,
    calls: true,
  },
  'TLS + port': { services: ['s', 't'], pass: (group) => `proxy_pass https://${group};`, port: true },
} as const satisfies Record<string, Protocol>;
export type ProtocolName = keyof typeof PROTOCOLS;
export const PROTOCOL_NAMES = Object.keys(PROTOCOLS) as ProtocolName[];

/** One line of the table. */
export interface CellRow {
  protocol: ProtocolName;
  keepalive: boolean;
  connections: number;
  lines: number;
  cells: Record<CellFormat, Cell>;
}

export interface Cell extends Comparison {
  evidence: Record<string, number>;
  reasons: Record<string, number>;
}

/** Starts the backends of all protocols. */
export async function startCellBackends(scene: Scene): Promise<void> {
  await startBoth(scene, 10010);
  await startProtocols(scene, { fastcgi: 9000, uwsgi: 9001, grpc: 9002, https: 8443 });
}

const protocolOf = (name: ProtocolName): Protocol => PROTOCOLS[name];

export interface CellNginx {
  build: NginxBuild;
  main: string;
  protocols: readonly ProtocolName[];
}

/**
 * The newest nginx for what it can by itself, and Debian's with nginx-module, of which `module` is the file; or why one is not
 * here.
 */
export function cellNginxes(module: string): (CellNginx | { missing: string })[] {
  const newest = newestNginx();
  const missing = moduleObstacle(module);
  const names = (port: boolean) => PROTOCOL_NAMES.filter((name) => (protocolOf(name).port === true) === port);
  return [
    newest
      ? { build: newest, main: '', protocols: names(false) }
      : { missing: 'no nginx that speaks HTTP/2 to its backends' },
    missing ? { missing } : { build: DEBIAN, main: `load_module ${module};`, protocols: names(true) },
  ];
}

/** Builds nginx-module for Debian's nginx unless it is there; why it cannot, in one line. */
function moduleObstacle(module: string): string | undefined {
  if (existsSync(module)) return undefined;
  if (!existsSync(join(SOURCE, 'configure'))) return `no nginx source in ${SOURCE} (nginx-dev)`;
  const { status, stderr } = spawnSync('sh', [BUILD, SOURCE, module], { encoding: 'utf8' });
  return status === 0 ? undefined : `nginx-module does not build: ${stderr.trim().split('\n').at(-1)}`;
}

export interface CellOptions {
  /** Lines by the number of connections. */
  plan: readonly { connections: number; lines: number }[];
  sidecarArgs?: readonly string[];
  /** Is told of each row when it is there. */
  onRow?(row: CellRow): void;
}

/** Lines at the beginning that are not judged. */
const WARM_UP = 40;
let runs = 0;

/** The cells of one nginx on a scene whose backends and helper are up. Rejects where a line is wrong, lost or altered. */
export async function runCells(
  scene: Scene,
  { build, main, protocols }: CellNginx,
  keepalive: boolean,
  { plan, sidecarArgs = [], onRow }: CellOptions,
): Promise<CellRow[]> {
  const dir = join(scene.dir, `cells${++runs}`);
  const pod = scene.fronts[0]!;
  const hasPort = protocols.some((name) => protocolOf(name).port);
  const text = (format: CellFormat) => (hasPort ? withLocalPort(CELL_FORMATS[format]) : CELL_FORMATS[format]);
  const logOf = (i: number) => join(dir, i === 0 ? 'access.log' : `access${i}.log`);
  const others = FORMAT_NAMES.map((format, i) =>
    i === 0
      ? `access_log ${logOf(0)} lab;`
      : `log_format lab${i} '${text(format)}'; access_log ${logOf(i)} lab${i};`,
  );
  // From 1.29.7 on nginx keeps connections unless it is told not to.
  const keep = keepalive ? 'keepalive 256;' : build.newest ? 'keepalive 0;' : '';
  const groups: string[] = [];
  const locations: string[] = [];
  // Each protocol has groups of its own: connections that are kept speak one.
  for (const protocol of protocols)
    for (const service of protocolOf(protocol).services) {
      const path = pathOf(protocol, service);
      groups.push(`upstream svc_${path} { server ${scene.service(service).address}; ${keep} }`);
      locations.push(`location /${path}/ { ${protocolOf(protocol).pass(`svc_${path}`)} }`);
    }
  const front = await startFront(scene, pod, dir, {
    format: text(FORMAT_NAMES[0]!),
    keepalive,
    services: ['solo'],
    http: [...others.slice(1), ...groups].join('\n'),
    locations: locations.join('\n'),
    main,
    build,
  });
  const sidecars: Sidecar[] = [];
  try {
    for (const [i, format] of FORMAT_NAMES.entries())
      sidecars.push(
        await startSidecar(scene, pod, {
          accessLog: logOf(i),
          format: text(format),
          dir: join(dir, `sidecar${i}`),
          port: 9900 + i,
          extra: [...(hasPort ? ['--local-port-field', 'upstream_local_port'] : []), ...sidecarArgs],
        }),
      );
    await untilExact(scene, sidecars[0]!, pod);
    // On direct connections nothing is named before pods of both places have answered.
    const requests = protocols.flatMap((each) => requestsOf(each));
    await load(scene, { connections: 4, total: WARM_UP, requests });
    const rows: CellRow[] = [];
    for (const protocol of protocols)
      for (const each of plan) {
        const row = await runRow(scene, protocol, keepalive, sidecars, each);
        rows.push(row);
        onRow?.(row);
      }
    return rows;
  } finally {
    await Promise.all(sidecars.map((sidecar) => sidecar.stop()));
    await front.stop();
  }
}

async function runRow(
  scene: Scene,
  protocol: ProtocolName,
  keepalive: boolean,
  sidecars: readonly Sidecar[],
  { connections, lines }: CellOptions['plan'][number],
): Promise<CellRow> {
  const before = countLines(sidecars[0]!.accessLog);
  for (const sidecar of sidecars) await caughtUp(sidecar);
  const earlier = sidecars.map((sidecar) => sidecar.counts());
  const done = await load(scene, {
    seed: before + connections,
    connections,
    total: lines,
    requests: requestsOf(protocol),
  });
  const title = `${protocol}, ${connections} connections, ${keepalive ? '' : 'no '}keepalive`;
  assert.deepEqual({ ...done.statuses }, { 200: lines }, `${title}: ${JSON.stringify(done)}`);
  for (const sidecar of sidecars) await caughtUp(sidecar);
  await delay(100);
  const cells = sidecars.map((sidecar, i): [CellFormat, Cell] => {
    const later = sidecar.counts();
    const tail = (path: string) => dropLines(readFileSync(path), before);
    const cell: Cell = {
      ...compare(tail(sidecar.accessLog), tail(sidecar.output)),
      evidence: difference(later.evidence, earlier[i]!.evidence),
      reasons: difference(later.reasons, earlier[i]!.reasons),
    };
    const { wrong, unverified, lost, repeated, altered, reordered, findings } = cell;
    assert.deepEqual(
      { lines: cell.lines, wrong, unverified, lost, repeated, altered, reordered },
      { lines, wrong: 0, unverified: 0, lost: 0, repeated: 0, altered: 0, reordered: 0 },
      `${title}, ${FORMAT_NAMES[i]}: ${findings.join('\n')}`,
    );
    return [FORMAT_NAMES[i]!, cell];
  });
  const row = { protocol, keepalive, connections, lines, cells: Object.fromEntries(cells) } as CellRow;
  if (process.env.REALPOD_LAB_ROWS) console.log(JSON.stringify(row));
  return row;
}

/** First part of the paths of a protocol's requests to a Service. */
function pathOf(protocol: ProtocolName, service: string): string {
  return `${protocol.replaceAll(/\W/g, '')}_${service}`;
}

function requestsOf(protocol: ProtocolName): LoadPlan['requests'] {
  const { services, calls } = protocolOf(protocol);
  const one = calls
    ? { method: 'POST', bodyBytes: 40, headers: ['TE: trailers', 'Content-Type: application/grpc'] }
    : {};
  return services.flatMap((service) => {
    const path = `/${pathOf(protocol, service)}`;
    return [
      { ...one, path: `${path}/item/{n}`, weight: 3 },
      { ...one, path: `${path}/same`, weight: 2 },
      { ...one, path: `${path}/form`, method: 'POST', bodyBytes: 600 },
    ];
  });
}

/** Markdown. */
export function cellTable(rows: readonly CellRow[]): string {
  const group = (n: number) => n.toLocaleString('en');
  const textOf = ({ right, reasons }: Cell, lines: number): string => {
    const left = Object.entries(reasons)
      .filter(([, n]) => n > 0)
      .map(([reason, n]) => `${reason} ${group(n)}`)
      .join(', ');
    return right === lines ? group(right) : `${group(right)} (${left})`;
  };
  const sum = (pick: (cell: Cell) => number) =>
    rows.reduce((total, { cells }) => total + FORMAT_NAMES.reduce((n, name) => n + pick(cells[name]), 0), 0);
  return [
    `| upstream | connections | lines | ${FORMAT_NAMES.join(' | ')} |`,
    `|---|---|---|${FORMAT_NAMES.map(() => '---').join('|')}|`,
    ...rows.map(({ protocol, keepalive, connections, lines, cells }) =>
      [
        `| ${protocol}${keepalive ? ', keepalive' : ''}`,
        connections,
        group(lines),
        ...FORMAT_NAMES.map((name) => textOf(cells[name], lines)),
        '',
      ]
        .join(' | ')
        .trimEnd(),
    ),
    '',
    `Lines in all ${group(sum((cell) => cell.lines))}, wrong ${sum((cell) => cell.wrong)}, lost ${sum((cell) => cell.lost)}.`,
  ].join('\n');
}
