/** Loads of the worst kind for each evidence: what the kernel shows of each request, and what its line says. */
import type { Flow, Observation } from '../../../src/model/feed.ts';

export const NGINX = '10.244.0.70';
const VIP = '10.105.148.194';
/** Opened long before the load, so that no window begins after them. */
const OLD_MS = 20_000;

/** What a line says of its attempts; text as nginx writes it. */
export interface Said {
  id?: string;
  port?: number;
  took?: number;
  connect?: string;
  header?: string;
  status?: string;
  bytes?: number;
  vip?: string;
  /** Attempts, all to the same Service. */
  attempts?: number;
}

export interface Played {
  /** The pod that served the last attempt. */
  pod: number;
  line: Said;
}

export type Tell = (at: number, observation: Observation) => void;

export interface HostileScene {
  name: string;
  evidence: string;
  /** Of the line, besides addresses and status. */
  logs: { id?: true; times?: true; port?: true; bytes?: true };
  args?: readonly string[];
  sources?: readonly ('conntrack' | 'tap' | 'kernel-log')[];
  rate?: number;
  seconds?: number;
  /** Connections that are there when the sidecar comes. */
  before?: (tell: Tell, now: number) => void;
  /** Request `n` begins at `at`: tells its records, also later ones. Undefined where nginx logs nothing. */
  request: (tell: Tell, n: number, at: number) => Played;
}

export const podIp = (pod: number): string => `10.244.1.${pod}`;
export const vipOf = (service: number): string =>
  service === 0 ? VIP : `10.${106 + (service >> 16)}.${(service >> 8) & 255}.${service & 255}`;

const flow = (sport: number, pod: number, vip = VIP): Required<Flow> => ({
  src: NGINX,
  sport,
  vip,
  vport: 80,
  ip: podIp(pod),
  port: 8000,
});

const opened = (t: number, sport: number, pod: number, vip = VIP): Observation => ({
  kind: 'open',
  t,
  ...flow(sport, pod, vip),
  via: 'conntrack',
});
const closed = (t: number, sport: number, pod: number, vip = VIP): Observation => ({
  kind: 'close',
  t,
  ...flow(sport, pod, vip),
  via: 'conntrack',
  end: 'fin',
});
const requested = (t: number, sport: number, pod: number, id?: string): Observation => ({
  kind: 'request',
  t,
  ...flow(sport, pod),
  ...(id === undefined ? {} : { id }),
  method: 'GET',
  path: '/item',
  bytes: 180,
  singleSegment: true,
  via: 'tap',
});
const answered = (t: number, sport: number, pod: number): Observation => ({
  kind: 'response',
  t,
  ...flow(sport, pod),
  via: 'tap',
});

const idOf = (n: number): string => n.toString(16).padStart(32, '0');
/** Source ports come round after 28,000 connections, as in Linux. */
const portOf = (n: number): number => 32_768 + (n % 28_000);

/** `count` connections under upstream keepalive, each to a pod of `pods`. */
function pool(count: number, pods: number) {
  const podAt = (n: number): number => 1 + ((n % count) % pods);
  return {
    podAt,
    portAt: (n: number): number => 20_000 + (n % count),
    before(tell: Tell, now: number): void {
      for (let n = 0; n < count; n++) tell(now - OLD_MS, opened(now - OLD_MS, 20_000 + n, podAt(n)));
    },
  };
}

/** A connection for every request. */
function dialed(tell: Tell, n: number, at: number, pod: number, took: number, id?: string): void {
  tell(at, opened(at, portOf(n), pod));
  tell(at, requested(at, portOf(n), pod, id));
  tell(at + took, answered(at + took, portOf(n), pod));
  tell(at + took, closed(at + took, portOf(n), pod));
}

function kept(tell: Tell, at: number, sport: number, pod: number, took: number, id?: string): void {
  tell(at, requested(at, sport, pod, id));
  tell(at + took, answered(at + took, sport, pod));
}

const wide = pool(128, 8);
const many = pool(4_000, 2);
const ID = { id: true, times: true } as const;
const TIMES = { times: true } as const;
const INFERRED = ['--evidence', 'inferred', '--max-wait', '4s'];
/** One old connection to another pod, so that no pod is the only one. */
const second = (tell: Tell, now: number): void => {
  tell(now - OLD_MS, opened(now - OLD_MS, 1_000, 2));
  tell(now - OLD_MS, requested(now - OLD_MS, 1_000, 2));
};
const spread = (n: number): number => 3 + ((n * 7_919) % 73);

export const SCENES: readonly HostileScene[] = [
  {
    name: 'ordinary: an id of its own on each request, keepalive',
    evidence: 'request-id',
    logs: ID,
    before: wide.before,
    request(tell, n, at) {
      kept(tell, at, wide.portAt(n), wide.podAt(n), 5, idOf(n));
      return { pod: wide.podAt(n), line: { id: idOf(n), took: 5 } };
    },
  },
  {
    name: 'one id on all requests',
    evidence: 'request-id',
    logs: ID,
    before: wide.before,
    request(tell, n, at) {
      kept(tell, at, wide.portAt(n), wide.podAt(n), 5, 'same');
      return { pod: wide.podAt(n), line: { id: 'same', took: 5 } };
    },
  },
  {
    name: 'every second request without its id',
    evidence: 'request-id',
    logs: ID,
    before: wide.before,
    request(tell, n, at) {
      kept(tell, at, wide.portAt(n), wide.podAt(n), 5, n % 2 ? undefined : idOf(n));
      return { pod: wide.podAt(n), line: { id: idOf(n), took: 5 } };
    },
  },
  {
    name: 'ids, and no times in the line; requests of a second',
    evidence: 'request-id',
    logs: { id: true },
    before: many.before,
    request(tell, n, at) {
      kept(tell, at, many.portAt(n), many.podAt(n), 350, idOf(n));
      return { pod: many.podAt(n), line: { id: idOf(n), took: 350 } };
    },
  },
  {
    name: 'four attempts a line, all with its id',
    evidence: 'request-id',
    logs: ID,
    rate: 2_500,
    before: wide.before,
    request(tell, n, at) {
      for (let k = 0; k < 4; k++)
        kept(tell, at + k, wide.portAt(4 * n + k), wide.podAt(4 * n + k), 1, idOf(n));
      return { pod: wide.podAt(4 * n + 3), line: { id: idOf(n), took: 5, attempts: 4 } };
    },
  },
  {
    name: 'one port, opened again for every request',
    evidence: 'source-port',
    logs: { times: true, port: true },
    args: ['--local-port-field', 'upstream_local_port'],
    request(tell, n, at) {
      const pod = 1 + (n % 8);
      tell(at, opened(at, 33_000, pod));
      tell(at, requested(at, 33_000, pod));
      tell(at, closed(at, 33_000, pod));
      return { pod, line: { port: 33_000, took: 1 } };
    },
  },
  {
    name: 'LOG records, a port of its own for each request',
    evidence: 'source-port',
    logs: { times: true, port: true },
    args: ['--local-port-field', 'upstream_local_port'],
    sources: ['kernel-log'],
    request(tell, n, at) {
      const pod = 1 + (n % 8);
      tell(at, { kind: 'open', t: at, ...flow(portOf(n), pod), via: 'kernel-log' });
      return { pod, line: { port: portOf(n), took: 1 } };
    },
  },
  {
    name: 'a connection for every request, one pod beside an old second',
    evidence: 'sole-backend',
    logs: TIMES,
    before: second,
    request(tell, n, at) {
      dialed(tell, n, at, 1, 5);
      return { pod: 1, line: { took: 5 } };
    },
  },
  {
    name: 'attempts that never connected, among thousands that did',
    evidence: 'sole-backend',
    logs: TIMES,
    before: second,
    request(tell, n, at) {
      dialed(tell, n, at, 1, 300);
      return { pod: 1, line: { took: 300, connect: '-', header: '-', status: '502' } };
    },
  },
  {
    name: 'no times in the line, 4,000 connections',
    evidence: 'sole-backend',
    logs: {},
    before: many.before,
    request(tell, n, at) {
      kept(tell, at, many.portAt(n), many.podAt(n), 5);
      return { pod: many.podAt(n), line: { took: 5 } };
    },
  },
  {
    name: 'every line to another Service',
    evidence: 'sole-backend',
    logs: TIMES,
    request(tell, n, at) {
      const vip = vipOf(1 + (n % 60_000));
      tell(at, opened(at, portOf(n), 1, vip));
      tell(at + 5, closed(at + 5, portOf(n), 1, vip));
      return { pod: 1, line: { took: 5, vip } };
    },
  },
  {
    name: 'requests of 350 ms on 4,000 connections to two pods',
    evidence: 'request-window',
    logs: TIMES,
    before: many.before,
    request(tell, n, at) {
      kept(tell, at, many.portAt(n), many.podAt(n), 350);
      return { pod: many.podAt(n), line: { took: 350 } };
    },
  },
  {
    name: 'the same, and one pod alone in the window',
    evidence: 'request-window',
    logs: TIMES,
    before(tell, now) {
      for (let n = 0; n < 4_000; n++) tell(now - OLD_MS, opened(now - OLD_MS, 20_000 + n, 1));
      second(tell, now);
    },
    request(tell, n, at) {
      kept(tell, at, 20_000 + (n % 4_000), 1, 350);
      return { pod: 1, line: { took: 350 } };
    },
  },
  {
    name: 'exchanges of one size on 4,000 connections',
    evidence: 'byte counts',
    logs: { times: true, bytes: true },
    before: many.before,
    request(tell, n, at) {
      counted(tell, at, many.portAt(n), many.podAt(n), 350, 2_000);
      return { pod: many.podAt(n), line: { took: 350, bytes: 2_000 } };
    },
  },
  {
    name: 'exchanges that differ in size',
    evidence: 'byte counts',
    logs: { times: true, bytes: true },
    before: many.before,
    request(tell, n, at) {
      const bytes = 1_000 + (n % 30_000);
      counted(tell, at, many.portAt(n), many.podAt(n), 350, bytes);
      return { pod: many.podAt(n), line: { took: 350, bytes } };
    },
  },
  {
    name: 'a connection that cannot be read for every request',
    evidence: 'unreadable',
    logs: ID,
    request(tell, n, at) {
      const pod = 1 + (n % 2);
      tell(at, opened(at, portOf(n), pod));
      tell(at, { kind: 'unreadable', t: at, ...flow(portOf(n), pod), via: 'tap', protocol: 'http2' });
      tell(at + 5, closed(at + 5, portOf(n), pod));
      return { pod, line: { took: 5, id: idOf(n) } };
    },
  },
  {
    name: '4,000 open connections that cannot be read',
    evidence: 'unreadable',
    logs: ID,
    before(tell, now) {
      many.before(tell, now);
      for (let n = 0; n < 4_000; n++)
        tell(now - OLD_MS, {
          kind: 'unreadable',
          t: now - OLD_MS,
          ...flow(20_000 + n, many.podAt(n)),
          via: 'tap',
          protocol: 'http2',
        });
    },
    request(_tell, n) {
      return { pod: many.podAt(n), line: { took: 5, id: idOf(n) } };
    },
  },
  ...[
    { rate: 7_000, seconds: 6 },
    { rate: 10_000, seconds: 5 },
  ].map(
    (pace): HostileScene => ({
      name: `${pace.rate.toLocaleString('en')} lines a second, a connection for every request`,
      evidence: 'inferred',
      logs: TIMES,
      args: INFERRED,
      ...pace,
      request(tell, n, at) {
        const pod = 1 + ((n * 31) % 8);
        const took = spread(n);
        dialed(tell, n, at, pod, took);
        return { pod, line: { took, connect: '0.000' } };
      },
    }),
  ),
  {
    name: 'requests of a second, each with its connection',
    evidence: 'inferred',
    logs: TIMES,
    args: INFERRED,
    request(tell, n, at) {
      const pod = 1 + ((n * 31) % 8);
      dialed(tell, n, at, pod, 1_000);
      return { pod, line: { took: 1_000, connect: '0.900' } };
    },
  },
  {
    name: 'keepalive, so that no line has a connection of its own',
    evidence: 'inferred',
    logs: TIMES,
    args: INFERRED,
    before: many.before,
    request(tell, n, at) {
      kept(tell, at, many.portAt(n), many.podAt(n), 5);
      return { pod: many.podAt(n), line: { took: 5 } };
    },
  },
  {
    name: 'every second request not logged by this log',
    evidence: 'inferred',
    logs: TIMES,
    args: INFERRED,
    request(tell, n, at) {
      const pod = 1 + ((n * 31) % 8);
      dialed(tell, 2 * n, at, pod, 5);
      dialed(tell, 2 * n + 1, at, 1 + ((n * 17) % 8), 5);
      return { pod, line: { took: 5 } };
    },
  },
];

function counted(tell: Tell, at: number, sport: number, pod: number, took: number, bytes: number): void {
  const {
    id: _,
    method: _m,
    path: _p,
    ...request
  } = requested(at, sport, pod) as Extract<Observation, { kind: 'request' }>;
  tell(at, { ...request, sent: 180, received: 0 });
  tell(at + took, { ...request, t: at + took, sent: 180, received: bytes, update: true });
}
