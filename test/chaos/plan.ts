/** What a round of the random world does. Drawn from a seed and the round's number alone, so that a round repeats by itself. */
import { Random } from '../model/random.ts';

export const SERVICES = ['a', 'b', 'c', 'solo', 'host', 'odd', 'shut'] as const;
export type ServiceName = (typeof SERVICES)[number];

/** How nginx asks a place's Service. `h2`: grpc_pass, or proxy_http_version 2 where nginx has it. */
export type Upstream = 'http1.0' | 'http1.1' | 'h2' | 'tls';
/** Which X-Request-ID the Service gets: nginx's own, the client's (or none), an id of the client's choice, none at all. */
export type IdHeader = 'own' | 'client' | 'chosen' | 'none';

export const EXTRAS = [
  'none',
  'auth',
  'mirror',
  'accel',
  'error-page',
  'retry',
  'cache',
  'slice',
  'ssi',
  'post-action',
  'unlogged',
  'unbuffered',
  'limit-rate',
  'bind',
] as const;
export type Extra = (typeof EXTRAS)[number];

/** One location of the front, `/pN/`, with an upstream group of its own. */
export interface Place {
  service: ServiceName;
  upstream: Upstream;
  /** Connections kept; 0: no `keepalive` directive, as nginx has it by default. */
  keep: number;
  id: IdHeader;
  extra: Extra;
  /** Index of the place that a subrequest, a redirect or a second attempt goes to. */
  other: number;
}

export const FORMAT_NAMES = ['article', 'full', 'times', 'id', 'counts', 'json', 'chosen'] as const;
export type ChaosFormat = (typeof FORMAT_NAMES)[number];

export const FAULTS = [
  'helper-killed',
  'helper-restarted',
  'sidecar-killed',
  'sidecar-restarted',
  'both-killed',
  'reload',
  'rotate',
  'conntrack-flushed',
  'pods-replaced',
  'vip-given',
  'half-open',
  'helper-stopped',
  'sidecar-stopped',
] as const;
export type FaultName = (typeof FAULTS)[number];

export interface RoundPlan {
  round: number;
  nginx: 'debian' | 'newest';
  workers: number;
  format: ChaosFormat;
  style: 'annotate' | 'replace';
  /** Parameters of access_log. */
  logParameters: string;
  timerResolution?: string;
  /** How far nginx's clock is from the node's, as libfaketime takes it. */
  clock?: string;
  /** So few source ports that they come round (0: the kernel's default). */
  sourcePorts: number;
  places: readonly Place[];
  seconds: number;
  /** wrk: requests a second or so (0: as fast as it goes), client connections, TLS. */
  bulk: { perSecond: number; connections: number; keepalive: boolean; tls: boolean };
  /** One in so many of wrk's requests has an id of its client's. */
  clientIdOneIn: number;
  /** HTTP/2 clients. */
  h2Clients: number;
  /** Requests a second of aborts, uploads, HEAD, 100-continue, odd answers. */
  oddPerSecond: number;
  slowReaders: number;
  upgrades: number;
  faults: readonly { name: FaultName; atMs: number }[];
  /**
   * Requests a second of clients that come, ask once and go, in place of wrk's (0: wrk). Only where clients go is there a
   * quiet moment, which the evidence of formats without id or times begins with.
   */
  passers: number;
  /** The sidecar reads nginx's configuration, and compares requests with lines by content where that is understood. */
  conf: boolean;
  seed: number;
}

const WEIGHTS: Record<ChaosFormat, number> = {
  full: 30,
  article: 20,
  times: 12,
  id: 12,
  json: 10,
  chosen: 10,
  counts: 6,
};

function weighted<T extends string>(chance: Random, weights: Record<T, number>): T {
  const entries = Object.entries(weights) as [T, number][];
  let at = chance.next() * entries.reduce((sum, [, weight]) => sum + weight, 0);
  for (const [name, weight] of entries) {
    at -= weight;
    if (at < 0) return name;
  }
  return entries[0]![0];
}

/** With one of these somewhere, it is not known what nginx passes on. */
const NOT_UNDERSTOOD: readonly Extra[] = ['auth', 'mirror', 'cache', 'slice', 'ssi', 'post-action'];
const NEEDS_DEBIAN: readonly Extra[] = ['slice', 'ssi'];

function drawPlace(chance: Random, plan: { nginx: string; format: ChaosFormat }, count: number): Place {
  const service = chance.pick(['a', 'a', 'a', 'b', 'b', 'c', 'solo', 'host', 'odd', 'odd', 'shut'] as const);
  const nginxBehind = service !== 'odd' && service !== 'shut';
  const upstream = weighted<Upstream>(chance, {
    'http1.1': 60,
    'http1.0': 20,
    h2: nginxBehind ? 14 : 0,
    tls: nginxBehind ? 8 : 0,
  });
  const plain: Extra = 'none';
  const extra = chance.chance(0.45) ? plain : chance.pick(EXTRAS);
  const possible = plan.nginx === 'debian' || !NEEDS_DEBIAN.includes(extra);
  const id = weighted<IdHeader>(
    chance,
    plan.format === 'chosen'
      ? { chosen: 85, own: 0, client: 10, none: 5 }
      : { own: 85, client: 8, none: 7, chosen: 0 },
  );
  return {
    service,
    upstream,
    keep: chance.chance(0.6) ? chance.pick([4, 64, 256]) : 0,
    id,
    extra: possible ? extra : plain,
    other: chance.int(0, count - 1),
  };
}

/** Two places of one Service, one sends nginx's ids and one passes on its clients'; a subrequest or the error page of the first leads to the second. */
function withIdsOfClients(chance: Random, places: readonly Place[]): Place[] {
  const [first, second, ...rest] = places as [Place, Place, ...Place[]];
  const service = chance.pick(['a', 'b', 'odd'] as const);
  const extra = chance.pick(['auth', 'mirror', 'error-page', 'post-action'] as const);
  const both = { ...first, service, upstream: chance.pick(['http1.0', 'http1.1'] as const) };
  const id = extra === 'error-page' ? 'own' : 'client';
  return [
    { ...both, id, extra, other: 1 },
    {
      ...both,
      id: id === 'own' ? 'client' : 'own',
      extra: second.extra === 'auth' ? 'auth' : 'none',
      other: 0,
    },
    ...rest,
  ];
}

export function drawRound(seed: number, round: number, builds: readonly ('debian' | 'newest')[]): RoundPlan {
  const chance = new Random(seed * 1_000_003 + round * 7919);
  const nginx = builds[round % builds.length]!;
  const format = weighted(chance, WEIGHTS);
  const quiet = chance.chance(0.1);
  const count = chance.int(2, 6);
  const places = Array.from({ length: count }, () => drawPlace(chance, { nginx, format }, count));
  const drawn = quiet ? chance.int(6, 12) : chance.int(8, 14);
  // Without times in the line nothing is settled in a record's first ten seconds.
  const untimed = format === 'article' || format === 'id';
  const seconds = drawn + (untimed ? 8 : 0);
  const faults = Array.from({ length: chance.pick([0, 0, 1, 1, 2, 3]) }, () => ({
    name: chance.pick(FAULTS),
    atMs: chance.int(500, seconds * 1000),
  })).toSorted((a, b) => a.atMs - b.atMs);
  const clocks = nginx === 'debian' && chance.chance(0.08);
  const plan: RoundPlan = {
    round,
    nginx,
    workers: chance.chance(0.25) ? 2 : 1,
    format,
    style: quiet && chance.chance(0.5) ? 'replace' : 'annotate',
    logParameters: chance.pick(['', '', '', '', 'buffer=32k flush=300ms', 'if=$lab_logged']),
    sourcePorts: chance.chance(0.08) ? 3000 : 0,
    places,
    seconds,
    bulk: {
      perSecond: quiet ? chance.pick([1, 10, 60, 200]) : 0,
      connections: quiet ? chance.int(1, 4) : chance.pick([4, 16, 40, 100]),
      keepalive: chance.chance(0.8),
      tls: chance.chance(0.1),
    },
    clientIdOneIn: 10,
    h2Clients: chance.chance(0.3) ? chance.int(1, 4) : 0,
    oddPerSecond: quiet ? chance.pick([0, 1, 5]) : chance.pick([0, 50, 150]),
    slowReaders: chance.chance(0.3) ? chance.int(1, 10) : 0,
    upgrades: chance.chance(0.3) ? chance.int(1, 5) : 0,
    faults,
    passers: 0,
    conf: false,
    seed: chance.int(1, 1_000_000),
  };
  if (chance.chance(0.08)) plan.timerResolution = chance.pick(['100ms', '1s']);
  if (format === 'article' && chance.chance(0.7)) {
    plan.passers = chance.pick([5, 20, 60, 150, 300]);
    plan.oddPerSecond = 0;
    if (chance.chance(0.7)) plan.upgrades = plan.h2Clients = 0;
  }
  if (format === 'article' && chance.chance(0.7)) {
    plan.conf = true;
    const understood = chance.chance(0.8);
    plan.places = places.map((place) =>
      understood && NOT_UNDERSTOOD.includes(place.extra) ? { ...place, extra: 'none' } : place,
    );
  }
  if (clocks) plan.clock = chance.pick(['-0.05s', '+0.05s', '-1s', '-0.2s']);
  if (!plan.conf && format !== 'chosen' && chance.chance(format === 'id' ? 0.4 : 0.1)) {
    plan.clientIdOneIn = chance.pick([1, 1, 2]);
    // A request without any id contradicts all lines without times, and at full speed those are not named.
    plan.oddPerSecond = plan.h2Clients = plan.slowReaders = 0;
    plan.bulk.perSecond = chance.pick([100, 300, 1_000]);
    plan.places = withIdsOfClients(chance, plan.places);
  }
  return plan;
}
