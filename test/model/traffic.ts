import type { FeedRecord, Observation } from '../../src/model/feed.ts';
import type { Attempt, ParsedLine } from '../../src/model/line.ts';

/** A repeatable source of numbers in [0, 1): mulberry32. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** What kind of nginx and of clients a run has. */
export interface TrafficPlan {
  seed: number;
  pods: number;
  services: number;
  requests: number;
  /** Requests a second. */
  rate: number;
  keepalive: boolean;
  /** Shares of requests, 0–1. */
  mirrors: number;
  auths: number;
  retries: number;
  refused: number;
  clientIds: number;
  lostIds: number;
  rewritten: number;
  slowClients: number;
  /**
   * Share of requests after one with a body, on the same connection, that begin within a packet of that; and of bodies
   * that go on after an answer has begun.
   */
  hidden: number;
  /** Share of closes that are recorded while nginx has not taken the answer. */
  earlyCloses: number;
  /** Length of nginx's event-loop turns, ms: everything in a turn is dated to its beginning. */
  turnMs: number;
  /** What the log format carries. */
  logs: {
    id: boolean;
    times: boolean;
    upstreamTimes: boolean;
    status: boolean;
    bytes: boolean;
    localPort: boolean;
  };
  /** Shares of conntrack and tap events lost, each batch of losses told by a gap. */
  losses: number;
}

export interface SimulatedLine {
  line: ParsedLine;
  /** When the sidecar reads it. */
  readAt: number;
  /** ip:port that served each attempt, in step; undefined where nothing was dialled. */
  truth: string[];
}

export interface Simulation {
  /** Records with the time at which they arrive, in order. */
  feed: { at: number; record: FeedRecord }[];
  lines: SimulatedLine[];
}

interface Wire {
  at: number;
  observation: Observation;
}

interface PooledConnection {
  /** Its last request had a body. */
  body?: boolean;
  sport: number;
  vip: string;
  pod: string;
  freeAt: number;
}

const SRC = '10.244.0.70';
const PORT = 8080;

/**
 * An nginx in front of Services, as the kernel and the log show it. The truth comes from the simulation's own choice
 * of pod; the matcher sees only records and lines.
 */
export function simulate(plan: TrafficPlan): Simulation {
  const random = seededRandom(plan.seed);
  const pick = (n: number): number => Math.floor(random() * n);
  const chance = (p: number): boolean => random() < p;
  const wires: Wire[] = [];
  const lines: SimulatedLine[] = [];
  const pool: PooledConnection[] = [];
  const usedPorts = new Map<string, number>();
  const start = 1_764_837_843_000;
  const clientIds = Array.from({ length: 4 }, () => `client-${pick(1e9)}`);

  const portFor = (vip: string, now: number): number => {
    for (;;) {
      // A narrow range, so that ports are reused within seconds.
      const port = 32_768 + pick(400);
      if ((usedPorts.get(`${vip} ${port}`) ?? 0) < now) return port;
    }
  };

  const turn = (t: number): number => start + Math.floor((t - start) / plan.turnMs) * plan.turnMs;
  /** nginx's own time at `t`. */
  const logged = (t: number): number => Math.floor(turn(t));
  /** nginx takes up at the earliest in the next turn what came in answer to what it did at `t`. */
  const answered = (t: number, at: number): number => Math.max(at, turn(t) + plan.turnMs + 0.01);

  const flow = (c: { sport: number; vip: string; pod: string }) => ({
    src: SRC,
    sport: c.sport,
    vip: c.vip,
    vport: 80,
    ip: c.pod,
    port: PORT,
  });

  /** One exchange with a backend; returns when its response is over, or undefined if it was refused. */
  const exchange = (
    service: number,
    begin: number,
    took: number,
    request: { id: string | undefined; method: string; path: string; bytes: number; entire: boolean },
    refuse: boolean,
  ): { connection: PooledConnection; end: number; sent: boolean } => {
    const vip = `10.105.0.${service + 1}`;
    const idle = pool.find((c) => c.vip === vip && c.freeAt <= begin);
    let connection = plan.keepalive && !refuse ? idle : undefined;
    let now = begin;
    if (!connection) {
      connection = {
        sport: portFor(vip, now),
        vip,
        pod: `10.244.1.${1 + pick(plan.pods)}`,
        freeAt: Infinity,
      };
      usedPorts.set(`${vip} ${connection.sport}`, Infinity);
      wires.push({ at: now, observation: { kind: 'open', t: now, via: 'conntrack', ...flow(connection) } });
      now = answered(now, now + 0.05 + random() * 0.5) + random() * Math.min(plan.turnMs * 0.9, 20);
      if (refuse) {
        wires.push({
          at: now,
          observation: { kind: 'close', t: now, via: 'conntrack', ...flow(connection) },
        });
        usedPorts.set(`${vip} ${connection.sport}`, now + 1);
        return { connection, end: answered(begin, now), sent: false };
      }
      pool.push(connection);
    }
    const { id, entire, ...rest } = request;
    const hides = connection.body === true && chance(plan.hidden);
    connection.body = !entire;
    const seen = { kind: 'request', via: 'tap', ...flow(connection) } as const;
    wires.push({
      at: now,
      observation: hides
        ? { ...seen, t: now, midStream: true }
        : { ...seen, t: now, ...rest, ...(id === undefined ? {} : { id }) },
    });
    const end = answered(now, now + took);
    if (!entire && chance(plan.hidden)) {
      const at = now + (end - now) * random();
      wires.push({ at, observation: { ...seen, t: at, midStream: true } });
    }
    connection.freeAt = end;
    if (!plan.keepalive || chance(0.05)) {
      const early = chance(plan.earlyCloses);
      const closed = early ? now + (end - now) * random() : end + random() * 2;
      wires.push({
        at: closed,
        observation: { kind: 'close', t: closed, via: 'conntrack', ...flow(connection) },
      });
      usedPorts.set(`${vip} ${connection.sport}`, Math.max(closed, end) + 0.5);
      pool.splice(pool.indexOf(connection), 1);
    }
    return { connection, end, sent: true };
  };

  let now = start;
  for (let r = 0; r < plan.requests; r++) {
    now += (-Math.log(1 - random()) * 1000) / plan.rate;
    const service = pick(plan.services);
    const vip = `10.105.0.${service + 1}`;
    const ownId = chance(plan.clientIds) ? clientIds[pick(clientIds.length)]! : `id-${r}-${pick(1e9)}`;
    const method = chance(0.2) ? 'POST' : 'GET';
    const path = `/p/${pick(12)}`;
    const lost = chance(plan.lostIds);
    const wirePath = chance(plan.rewritten) ? `/rewritten${path}` : path;
    const bytes = 120 + pick(40);
    const request = { id: lost ? undefined : ownId, method, path: wirePath, bytes, entire: method === 'GET' };
    const begin = now;
    let at = begin + random() * 0.3;
    if (chance(plan.auths))
      at = exchange(
        chance(0.5) ? service : pick(plan.services),
        at,
        1 + random() * 5,
        { ...request, id: ownId, path: chance(0.5) ? '/auth' : path },
        false,
      ).end;
    const mirrored = chance(plan.mirrors);
    const mirror = (): number =>
      exchange(service, at + random() * 0.4, 1 + random() * 20, { ...request, id: ownId, path }, false).end;
    let until = at;
    if (mirrored && chance(0.5)) until = Math.max(until, mirror());
    const attempts: { pod: string; sport: number; ms: number; connect: number | null; sent: boolean }[] = [];
    const times = chance(plan.retries) ? 2 : 1;
    for (let a = 0; a < times; a++) {
      const last = a === times - 1;
      const refuse = last ? chance(plan.refused) : chance(0.7);
      const took = chance(0.02) ? 2000 + random() * 3000 : 1 + random() * 30;
      const done = exchange(service, at, took, request, refuse);
      attempts.push({
        pod: done.connection.pod,
        sport: done.connection.sport,
        ms: logged(done.end) - logged(at),
        connect: done.sent ? 0 : null,
        sent: done.sent,
      });
      at = done.end;
    }
    if (mirrored && until < at) until = Math.max(until, mirror());
    let end = Math.max(at, until);
    if (chance(plan.slowClients)) end += 200 + random() * 4000;
    const endMs = logged(end);
    const { logs } = plan;
    lines.push({
      readAt: end + random() * 4,
      truth: attempts.map((attempt) => `${attempt.pod}:${PORT}`),
      line: {
        endMs: logs.times ? endMs : Math.floor(endMs / 1000) * 1000,
        endStepMs: logs.times ? 1 : 1000,
        requestMs: logs.times ? endMs - logged(begin) : undefined,
        id: logs.id ? ownId : undefined,
        method,
        path,
        status: attempts[attempts.length - 1]!.sent ? 200 : 502,
        attempts: attempts.map(
          (attempt): Attempt => ({
            start: 0,
            end: 0,
            kind: 'ip',
            ip: vip,
            port: 80,
            connectMs: logs.upstreamTimes ? attempt.connect : undefined,
            headerMs: logs.upstreamTimes ? (attempt.sent ? attempt.ms : null) : undefined,
            responseMs: logs.upstreamTimes ? attempt.ms : undefined,
            status: logs.status ? (attempt.sent ? 200 : 502) : undefined,
            bytesSent: logs.bytes ? (attempt.sent ? bytes + (method === 'POST' ? 100 : 0) : 0) : undefined,
            bytesReceived: undefined,
            localPort: logs.localPort ? attempt.sport : undefined,
          }),
        ),
      },
    });
  }
  return { feed: deliver(wires, start, plan, random), lines: lines.sort((a, b) => a.readAt - b.readAt) };
}

/** Hands events over in batches with watermarks, as the helper does, and loses some with a gap in their place. */
function deliver(wires: Wire[], start: number, plan: TrafficPlan, random: () => number): Simulation['feed'] {
  wires.sort((a, b) => a.at - b.at);
  const feed: Simulation['feed'] = [];
  let seq = 1;
  const push = (at: number, observation: Observation): void => {
    feed.push({ at, record: { ...observation, seq: seq++ } as FeedRecord });
  };
  push(start - 10, { kind: 'gap', t: start - 100_000, source: 'conntrack' });
  push(start - 10, { kind: 'gap', t: start - 100_000, source: 'tap' });
  push(start - 10, { kind: 'tick', t: start - 10 });
  let watermark = start - 10;
  const lostOpens: Extract<Observation, { kind: 'open' }>[] = [];
  const last = wires[wires.length - 1]?.at ?? start;
  for (let i = 0, now = start; now < last + 20_000; ) {
    now += i < wires.length ? 1 + random() * 8 : 1000;
    const losing = random() < plan.losses;
    const batch: Wire[] = [];
    while (i < wires.length && wires[i]!.at <= now) batch.push(wires[i++]!);
    if (losing) {
      push(now, { kind: 'gap', t: now, from: watermark, source: 'tap' });
      push(now, { kind: 'gap', t: now, from: watermark, source: 'conntrack' });
    }
    // The two sockets are read one after the other: connections first.
    for (const kind of ['conntrack', 'tap']) {
      for (const { observation } of batch) {
        if (!('via' in observation) || observation.via !== kind) continue;
        // A lost `close` is only late; what was opened and lost comes with the dump that repairs the record.
        if (losing && observation.kind === 'request' && random() < 0.5) continue;
        if (losing && observation.kind === 'open' && random() < 0.5) {
          lostOpens.push({ ...observation, preexisting: true });
          continue;
        }
        push(now, { ...observation, t: now });
      }
    }
    for (const open of lostOpens.splice(0)) {
      const over = wires.some(
        ({ at, observation: o }) =>
          o.kind === 'close' && o.sport === open.sport && o.vip === open.vip && at >= open.t && at <= now,
      );
      if (!over) push(now, { ...open, t: now });
    }
    push(now, { kind: 'tick', t: now });
    watermark = now;
  }
  return feed;
}
