import type { FeedRecord, Observation } from '../../src/model/feed.ts';
import type { Attempt, ParsedLine } from '../../src/model/line.ts';
import { seededRandom } from './traffic.ts';

/** What kind of nginx, clients, backends and kernel a run has. Shares are 0–1. */
export interface TimingPlan {
  seed: number;
  pods: number;
  requests: number;
  /** Requests a second. */
  rate: number;
  /** Evenly spaced, not at random. */
  paced: boolean;
  /** Time between the turns of nginx's event loop under load, ms. */
  turnMs: number;
  /** `timer_resolution`, ms; 0 without. */
  resolutionMs: number;
  /** Upstream times come from a clock that moves in steps of this many ms (nginx 1.13.10 to 1.21.3); 0: it does not. */
  jiffyMs: number;
  /** Response times: this, times a random factor of 0.2 to 5. */
  tookMs: number;
  slowBodies: number;
  slowClients: number;
  retries: number;
  refused: number;
  /** Share of refused attempts whose refusal never reaches conntrack (rejected before the connection was confirmed). */
  unseenRefusals: number;
  aborts: number;
  /** Requests that nginx does not log (mirror, access_log off), through the same Service. */
  unlogged: number;
  /** Idle connections that nginx keeps; 0: upstream keepalive is off. */
  pool: number;
  keptMs: number;
  requestsPerConnection: number;
  /** Backends close their side this late. */
  lingerMs: number;
  /** Share of readings that lose half of their events, and say so. */
  losses: number;
  /** The kernel gives event times. */
  exact: boolean;
  /** Otherwise events are read this long after they happen at most (ms); 0: with the next batch. */
  promptMs: number;
  /** The helper tells how connections ended. */
  how: boolean;
  /** Share of connections whose backend sends its FIN twice: they count as finished before nginx has looked. */
  twiceShut: number;
  /** Share of connections that the kernel counts. */
  counted: number;
  /** Requests and answers have 200 bytes, and up to this many more. */
  sizes: number;
  /** Share of counted packets that are sent twice, or with longer headers. */
  resent: number;
}

export interface TimingRun {
  feed: { at: number; record: FeedRecord }[];
  /** In the order of the log. `truth`: ip:port of each attempt. */
  lines: { line: ParsedLine; readAt: number; truth: string[] }[];
}

interface Wire {
  at: number;
  observation: Extract<Observation, { kind: 'open' | 'close' }>;
}

interface Connection {
  sport: number;
  pod: string;
  carried: number;
  freeAt: number;
  /** Bytes to the backend and from it. */
  sent: number;
  received: number;
  close: Wire | undefined;
}

const START = 1_764_837_843_000;
const VIP = '10.105.0.1';

export function simulateTiming(plan: TimingPlan): TimingRun {
  const random = seededRandom(plan.seed);
  const chance = (share: number): boolean => random() < share;
  const phase = random();
  const wires: Wire[] = [];
  const lines: TimingRun['lines'] = [];
  const connections: Connection[] = [];
  let idle: Connection[] = [];
  let nextPort = 32_768;

  /** nginx takes things up in turns. A turn that begins at `t` acts somewhat later. */
  const turnAfter = (t: number): number => START + Math.ceil((t - START) / plan.turnMs) * plan.turnMs;
  const acts = (turn: number): number => turn + random() * plan.turnMs * 0.9;
  const clock = (turn: number): number =>
    plan.resolutionMs === 0
      ? turn
      : START + Math.floor((turn - START) / plan.resolutionMs) * plan.resolutionMs;
  const wall = (turn: number): number => Math.floor(clock(turn));
  const monotonic = (turn: number): number => {
    const t = clock(turn) - START + phase;
    return Math.floor(plan.jiffyMs === 0 ? t : Math.floor(t / plan.jiffyMs) * plan.jiffyMs);
  };
  const took = (): number => plan.tookMs * 0.2 * 25 ** random();

  /** What the kernel counts of so many bytes, in packets of 1,448 and three without any. */
  const countsOf = (bytes: number): [packets: number, bytes: number] => {
    let packets = 0;
    let counted = 0;
    const pass = (payload: number): void => {
      packets++;
      counted += payload + 40 + (random() < 0.5 ? 12 : 0);
      if (chance(plan.resent)) pass(payload);
    };
    for (let i = 0; i < 3; i++) pass(0);
    for (let left = bytes; left > 0; left -= 1448) pass(Math.min(left, 1448));
    return [packets, counted];
  };

  const tell = (
    connection: Connection,
    at: number,
    kind: 'open' | 'close',
    how?: 'fin' | 'refused',
  ): Wire => {
    const flow = {
      src: '10.244.0.70',
      sport: connection.sport,
      vip: VIP,
      vport: 80,
      ip: connection.pod,
      port: 8080,
      via: 'conntrack' as const,
    };
    const observation: Wire['observation'] =
      kind === 'open'
        ? { kind, t: at, ...flow }
        : { kind, t: at, ...flow, ...(how && plan.how ? { end: how } : {}) };
    const wire = { at, observation };
    wires.push(wire);
    return wire;
  };

  /** `early`: when the whole answer has come. */
  const shut = (connection: Connection, at: number, early?: number): void => {
    if (connection.close) connection.close.at = Math.min(connection.close.at, at);
    else if (early !== undefined && chance(plan.twiceShut))
      connection.close = tell(connection, early + random() * 0.1, 'close', 'fin');
    else connection.close = tell(connection, at + 0.1 + random() * plan.lingerMs, 'close', 'fin');
  };

  /** What the kernel says of the connection some time after its end. */
  const count = ({ close, sent, received }: Connection): void => {
    if (!close || !plan.how || !chance(plan.counted)) return;
    const { end: _, ...flow } = close.observation as Extract<Observation, { kind: 'close' }>;
    const [sentPackets, sentBytes] = countsOf(sent);
    const [receivedPackets, receivedBytes] = countsOf(received);
    const counts = { sentPackets, sentBytes, receivedPackets, receivedBytes };
    wires.push({ at: close.at + 400, observation: { ...flow, update: true, counts } });
  };

  /** One attempt that starts in the turn that began at `turn`. */
  const attempt = (turn: number, refuse: boolean, abortAfter: number | undefined) => {
    const started = acts(turn);
    idle = idle.filter((c) => c.close === undefined || c.close.at > started);
    const kept = plan.pool > 0 && !refuse ? idle.findIndex((c) => c.freeAt <= turn) : -1;
    let connection: Connection;
    let ready = turn;
    if (kept >= 0) {
      connection = idle.splice(kept, 1)[0]!;
      if (connection.close) {
        wires.splice(wires.indexOf(connection.close), 1);
        connection.close = undefined;
      }
    } else {
      connection = {
        sport: nextPort++,
        pod: `10.244.1.${1 + Math.floor(random() * plan.pods)}`,
        carried: 0,
        freeAt: Infinity,
        sent: 0,
        received: 0,
        close: undefined,
      };
      connections.push(connection);
      const answered = started + 0.03 + random() * 0.3 + (chance(0.01) ? random() * 40 : 0);
      ready = turnAfter(answered);
      const seen = !refuse || !chance(plan.unseenRefusals);
      if (seen) tell(connection, started, 'open');
      if (refuse) {
        if (seen) tell(connection, plan.how ? answered : answered + 10_000, 'close', 'refused');
        return { pod: connection.pod, turn, ready, end: ready, sent: 0, received: 0, aborted: false };
      }
    }
    const done = acts(ready) + took();
    const aborted = abortAfter !== undefined && turn + abortAfter < done;
    const end = turnAfter(Math.max(aborted ? turn + abortAfter : done, ready + 0.001));
    const closes = acts(end);
    const sent = 200 + Math.floor(random() * plan.sizes);
    const size = 200 + Math.floor(random() * plan.sizes);
    const received = aborted ? Math.floor(size * random()) : size;
    connection.sent += sent;
    connection.received += size;
    connection.carried++;
    if (!aborted && plan.pool > idle.length && connection.carried < plan.requestsPerConnection) {
      connection.freeAt = end;
      connection.close = tell(connection, closes + plan.keptMs * (0.5 + random()), 'close', 'fin');
      idle.unshift(connection);
    } else shut(connection, aborted ? Math.max(closes, done) : closes, aborted ? undefined : done);
    return { pod: connection.pod, turn, ready, end, sent, received, aborted };
  };

  let now = START;
  for (let r = 0; r < plan.requests; r++) {
    now += ((plan.paced ? 0.9 + random() * 0.2 : -Math.log(1 - random())) * 1000) / plan.rate;
    if (chance(plan.unlogged)) attempt(turnAfter(now), false, undefined);
    const begin = turnAfter(now);
    let turn = chance(plan.slowBodies) ? turnAfter(begin + random() * 300) : begin;
    const abortAfter = chance(plan.aborts) ? random() * plan.tookMs * 2 : undefined;
    const tries: ReturnType<typeof attempt>[] = [];
    let last = !chance(plan.retries);
    for (;;) {
      const refuse = last ? chance(plan.refused) : true;
      const one = attempt(turn, refuse, abortAfter);
      tries.push(one);
      turn = one.end;
      if (last) break;
      last = chance(0.7);
    }
    const final = tries[tries.length - 1]!;
    const logged = chance(plan.slowClients) ? turnAfter(turn + random() * 2500) : turn;
    const status = final.aborted ? 499 : final.sent > 0 ? 200 : 502;
    lines.push({
      readAt: logged + random() * 5 + plan.turnMs,
      truth: tries.map(({ pod }) => `${pod}:8080`),
      line: {
        endMs: wall(logged),
        endStepMs: 1,
        requestMs: wall(logged) - wall(begin),
        id: undefined,
        method: 'GET',
        path: '/',
        status,
        attempts: tries.map((one): Attempt => {
          const response = monotonic(one.end) - monotonic(one.turn);
          const answered = one.sent > 0 && !one.aborted;
          return {
            start: 0,
            end: 0,
            kind: 'ip',
            ip: VIP,
            port: 80,
            connectMs: one.sent > 0 ? monotonic(one.ready) - monotonic(one.turn) : null,
            headerMs: answered ? response : null,
            responseMs: response,
            status: answered ? 200 : one.aborted ? null : 502,
            bytesSent: one.sent,
            bytesReceived: one.received,
            localPort: undefined,
          };
        }),
      },
    });
  }
  for (const connection of connections) count(connection);
  lines.sort((a, b) => a.readAt - b.readAt);
  return { feed: deliver(wires, plan, random), lines };
}

/** As the helper reads: in batches, each with a watermark, and ends one batch late. */
function deliver(wires: Wire[], plan: TimingPlan, random: () => number): TimingRun['feed'] {
  wires.sort((a, b) => a.at - b.at);
  const feed: TimingRun['feed'] = [];
  let seq = 1;
  const push = (at: number, observation: Observation): void => {
    feed.push({ at, record: { ...observation, seq: seq++ } as FeedRecord });
  };
  push(START - 10, { kind: 'gap', t: START - 10, source: 'conntrack' });
  let watermark = START - 10;
  push(START - 10, { kind: 'tick', t: watermark });
  let ends: Wire[] = [];
  let looked = watermark;
  const last = Math.max(...wires.map(({ at }) => at), START);
  for (let i = 0, now = START; now < last + 5_000; ) {
    const rest = 1 + random() * (random() < 0.02 ? 80 : 8);
    now =
      i < wires.length && wires[i]!.at > now + rest ? Math.min(wires[i]!.at, now + 900) + 0.05 : now + rest;
    const losing = random() < plan.losses;
    if (losing) push(now, { kind: 'gap', t: now, from: watermark, source: 'conntrack' });
    for (const { observation } of ends) push(now, { ...observation, t: now });
    ends = [];
    for (; i < wires.length && wires[i]!.at <= now; i++) {
      const { at, observation } = wires[i]!;
      if (losing && random() < 0.5) continue;
      const stamp = Math.round((plan.exact ? at : at + random() * plan.promptMs) * 1000) / 1000;
      const prompt = plan.exact || plan.promptMs > 0;
      if (observation.kind === 'close' && observation.update) push(now, { ...observation, t: now });
      else if (observation.kind === 'close') {
        ends.push(
          prompt ? { at, observation: { ...observation, endedBefore: Math.min(stamp, now) } } : wires[i]!,
        );
      } else if (plan.exact) push(now, { ...observation, t: stamp, kernelTime: true });
      else if (!prompt) push(now, { ...observation, t: now });
      else {
        const t = Math.min(stamp, now);
        push(now, { ...observation, t, openedAfter: Math.max(watermark, Math.min(looked, at)) });
        looked = Math.max(looked, at);
      }
    }
    push(now, { kind: 'tick', t: now });
    watermark = now;
  }
  return feed;
}
