import { CAPTURE_DEFAULTS } from '../../src/capture/capture.ts';
import { createCapture } from '../../src/capture/create.ts';
import { AddressSet, AddressTexts, addressBytes } from '../../src/capture/ip-bytes.ts';
import { HeaderPackets } from '../../src/capture/tap/header-tap.ts';
import { TCP_FLAGS } from '../../src/capture/tap/packet.ts';
import { type FeedRecord, type Observation, ONE_WRITE_BYTES } from '../../src/model/feed.ts';
import type { ParsedLine } from '../../src/model/line.ts';
import { seededRandom } from './traffic.ts';

/** What kind of nginx, backends and reader a run has. Shares are 0–1. */
export interface HeaderPlan {
  seed: number;
  pods: number;
  requests: number;
  /** Requests a second. */
  rate: number;
  keepalive: boolean;
  /** How many sizes of requests and of answers there are. */
  sizes: number;
  /** Requests with a body of up to 60 kB, and the share of those that are answered before they are read. */
  uploads: number;
  early: number;
  /** Requests through the same Service that are not logged. */
  unlogged: number;
  /** Clients that go away in the middle of the answer. */
  aborts: number;
  slowClients: number;
  turnMs: number;
  /** Bytes that TLS adds to each request and answer. */
  overhead: number;
  /** Share of readings that lose packets, and say so. */
  losses: number;
}

export interface HeaderRun {
  feed: { at: number; record: FeedRecord }[];
  /** In the order of the log. `truth`: ip:port. */
  lines: { line: ParsedLine; readAt: number; truth: string }[];
}

interface Connection {
  sport: number;
  pod: string;
  /** Next sequence numbers of nginx and of the backend. */
  seq: number;
  answerSeq: number;
  freeAt: number;
  /** Bytes of a request that nginx has written and that are not on the wire when its answer is complete. */
  unsent: number;
}

interface Wire {
  at: number;
  observation?: Observation;
  packet?: Buffer;
}

const START = 1_764_837_843_000;
const SRC = '10.244.0.70';
const VIP = '10.105.0.1';
const PORT = 8080;
const MSS = 1448;

export function simulateHeaders(plan: HeaderPlan): HeaderRun {
  const random = seededRandom(plan.seed);
  const pick = (n: number): number => Math.floor(random() * n);
  const chance = (share: number): boolean => random() < share;
  const wires: Wire[] = [];
  const lines: HeaderRun['lines'] = [];
  let pool: Connection[] = [];
  let nextPort = 32_768;
  const turn = (t: number): number => START + Math.floor((t - START) / plan.turnMs) * plan.turnMs;
  const taken = (t: number, since: number): number => Math.max(t, turn(since) + plan.turnMs + 0.01);
  const { fin, syn, rst, psh, ack: acks } = TCP_FLAGS;

  const flowOf = ({ sport, pod }: Connection) => ({
    src: SRC,
    sport,
    vip: VIP,
    vport: 80,
    ip: pod,
    port: PORT,
    via: 'conntrack' as const,
  });
  const send = (c: Connection, at: number, length: number, flags: number): void => {
    const seen = (flags & (fin | syn | rst | psh)) !== 0;
    if (seen) wires.push({ at, packet: segment(false, c, c.seq, c.answerSeq, length, flags | acks) });
    c.seq = (c.seq + length + (flags & (syn | fin) ? 1 : 0)) >>> 0;
  };
  const answer = (c: Connection, at: number, whole: number, flags: number): void => {
    const length = whole % 60_000;
    // Longer than a segment can be: what comes before the last has no PSH, and is not seen.
    c.answerSeq = (c.answerSeq + whole - length) >>> 0;
    if ((flags & (fin | rst | psh)) !== 0)
      wires.push({ at, packet: segment(true, c, c.answerSeq, c.seq, length, flags | acks) });
    c.answerSeq = (c.answerSeq + length + (flags & fin ? 1 : 0)) >>> 0;
  };
  /** A write goes out in segments; the last has PSH. */
  const write = (c: Connection, at: number, length: number): void => {
    let left = length;
    const long = chance(0.5) ? MSS : 65_000;
    for (; left > long; left -= long) send(c, at, long, 0);
    send(c, at, left, psh);
  };
  const shut = (c: Connection, at: number, flags: number): void => {
    send(c, at, 0, flags);
    if (flags === fin) answer(c, at + 0.05, 0, fin);
    const observation: Observation = { kind: 'close', t: at, ...flowOf(c) };
    wires.push({ at: at + 0.1 + random() * 2, observation });
  };

  let now = START;
  for (let r = 0; r < plan.requests; r++) {
    now += (-Math.log(1 - random()) * 1000) / plan.rate;
    const begin = now;
    const started = begin + random() * plan.turnMs * 0.3;
    const logged = !chance(plan.unlogged);
    const upload = chance(plan.uploads);
    const head = 80 + pick(Math.min(plan.sizes, 1_300));
    const body = upload ? (plan.sizes < 5 ? 30_000 : 600 + pick(60_000)) : 0;
    const answered = 150 + pick(plan.sizes) * (chance(0.5) ? 1 : 100);
    pool = pool.filter(({ freeAt }) => freeAt < Infinity);
    const kept = plan.keepalive ? pool.find(({ freeAt }) => freeAt <= begin) : undefined;
    let c = kept;
    let at = started;
    if (!c) {
      c = {
        sport: nextPort++,
        pod: `10.244.1.${1 + pick(plan.pods)}`,
        seq: chance(0.1) ? 0xffffff00 : pick(2 ** 32),
        answerSeq: chance(0.1) ? 0xfffffe00 : pick(2 ** 32),
        freeAt: Infinity,
        unsent: 0,
      };
      wires.push({ at, observation: { kind: 'open', t: at, ...flowOf(c) } });
      send(c, at, 0, syn);
      at = taken(at + 0.1, at);
      if (plan.keepalive) pool.push(c);
    }
    c.freeAt = Infinity;
    // What was left of the request before goes out with this one, in one segment or in several.
    const rest = c.unsent;
    c.unsent = 0;
    const wire = head + body + plan.overhead;
    const early = upload && chance(plan.early);
    if (rest > 0 && chance(0.5)) write(c, at, rest + (early ? head : wire));
    else {
      if (rest > 0) write(c, at - 0.02, rest);
      // The kernel pushes the end of a write; of a long one that end may still wait when the answer comes.
      const held = early && head + body > ONE_WRITE_BYTES && chance(0.3);
      if (held) send(c, at, head, 0);
      else if (early) write(c, at, head);
      else if (body > 16_000) {
        write(c, at, head);
        write(c, at + 0.01, body + plan.overhead);
      } else write(c, at, wire);
    }
    if (early) {
      const flown = chance(0.3) ? 0 : pick(body);
      if (flown > 0) send(c, at + 0.02, flown, chance(0.5) ? psh : 0);
      const late = chance(0.4) ? 0 : pick(body - flown);
      c.unsent = body + plan.overhead - flown - late;
      const pieces = 1 + pick(2);
      const replyAt = at + 0.03 + random() * 3;
      for (let i = 0; i < pieces; i++) answer(c, replyAt + i * 0.01, split(answered, pieces, i), psh);
      if (late > 0) send(c, replyAt + 0.02, late, chance(0.5) ? psh : 0);
    }
    const took = chance(0.02) ? 500 + random() * 500 : 0.2 + random() * 10;
    const aborted = !early && chance(plan.aborts);
    let received = answered + plan.overhead;
    let end = taken(at + took + 0.1, at);
    if (early) {
      received = answered;
      end = taken(at + 3.2, at);
    } else if (aborted) {
      const part = 1 + pick(received - 1);
      answer(c, at + took, part, psh);
      if (chance(0.5)) {
        // It has read what had come, and closes.
        shut(c, end, fin);
        if (chance(0.5)) answer(c, end + 0.2, received - part, psh);
        received = part;
      } else {
        answer(c, end - 0.01, received - part, psh);
        shut(c, end, rst);
        received = part;
      }
      pool.splice(pool.indexOf(c), plan.keepalive ? 1 : 0);
    } else {
      const pieces = 1 + pick(3);
      for (let i = 0; i < pieces; i++) {
        const flags = i === pieces - 1 || chance(0.5) ? psh : 0;
        answer(c, at + took * (0.9 + (0.1 * i) / pieces), split(received, pieces, i), flags);
      }
    }
    if (!aborted) {
      if (!plan.keepalive || chance(0.03)) {
        shut(c, end, c.unsent > 0 ? rst : fin);
        if (plan.keepalive) pool.splice(pool.indexOf(c), 1);
      } else {
        c.freeAt = end;
        // What is left may go out before the next request.
        if (c.unsent > 0 && chance(0.5)) {
          write(c, end - 0.01, c.unsent);
          c.unsent = 0;
        }
      }
    }
    if (!logged) continue;
    const done = chance(plan.slowClients) ? end + random() * 800 : end;
    const endMs = Math.floor(turn(done));
    const responseMs = Math.floor(turn(end)) - Math.floor(turn(started));
    lines.push({
      readAt: done + plan.turnMs + random() * 4,
      truth: `${c.pod}:${PORT}`,
      line: {
        endMs,
        endStepMs: 1,
        requestMs: endMs - Math.floor(turn(begin)),
        id: undefined,
        method: upload ? 'POST' : 'GET',
        path: '/',
        status: 200,
        attempts: [
          {
            start: 0,
            end: 0,
            kind: 'ip',
            ip: VIP,
            port: 80,
            connectMs: 0,
            headerMs: Math.max(0, responseMs - pick(2)),
            responseMs,
            status: 200,
            bytesSent: head + body,
            bytesReceived: early || aborted ? received : answered,
            localPort: undefined,
          },
        ],
      },
    });
  }
  lines.sort((a, b) => a.readAt - b.readAt);
  return { feed: deliver(wires, plan, random), lines };
}

function split(length: number, pieces: number, i: number): number {
  const each = Math.floor(length / pieces);
  return i === pieces - 1 ? length - each * (pieces - 1) : each;
}

/** An NFLOG message with the headers of one segment, as `--tap headers` has the kernel copy them. */
function segment(
  answered: boolean,
  c: Connection,
  seq: number,
  ack: number,
  length: number,
  flags: number,
): Buffer {
  const packet = Buffer.alloc(40);
  packet[0] = 0x45;
  packet.writeUInt16BE(40 + length, 2);
  packet[9] = 6;
  const nginx = addressBytes(SRC)!;
  const pod = addressBytes(c.pod)!;
  (answered ? pod : nginx).copy(packet, 12);
  (answered ? nginx : pod).copy(packet, 16);
  packet.writeUInt16BE(answered ? PORT : c.sport, 20);
  packet.writeUInt16BE(answered ? c.sport : PORT, 22);
  packet.writeUInt32BE(seq, 24);
  packet.writeUInt32BE(ack, 28);
  packet[32] = 0x50;
  packet[33] = flags;
  const prefix = Buffer.from(answered ? [6, 0, 10, 0, 0x61, 0, 0, 0] : [5, 0, 10, 0, 0, 0, 0, 0]);
  const numbered = Buffer.from([8, 0, 12, 0, 0, 0, 0, 0]);
  const payload = Buffer.concat([Buffer.from([44, 0, 9, 0]), packet]);
  const message = Buffer.concat([Buffer.alloc(20), prefix, numbered, payload]);
  message.writeUInt32LE(message.length, 0);
  message.writeUInt16LE(0x400, 4);
  return message;
}

const NUMBER_AT = 20 + 8 + 4;

/** As the helper reads: connections, then packets, in batches with a watermark each. */
function deliver(wires: Wire[], plan: HeaderPlan, random: () => number): HeaderRun['feed'] {
  wires.sort((a, b) => a.at - b.at);
  const addresses = new AddressSet();
  addresses.add(SRC);
  const { stats } = createCapture({ ...CAPTURE_DEFAULTS, log: () => {} }, { batch: () => {} });
  const packets = new HeaderPackets({ addresses, texts: new AddressTexts(), stats, maxFlows: 1000 });
  const feed: HeaderRun['feed'] = [];
  let seq = 1;
  const push = (at: number, observation: Observation): void => {
    feed.push({ at, record: { ...observation, seq: seq++ } as FeedRecord });
  };
  let watermark = START - 10;
  for (const source of ['conntrack', 'tap'] as const)
    push(watermark, { kind: 'gap', t: START - 100_000, source });
  push(watermark, { kind: 'tick', t: watermark });
  const last = wires[wires.length - 1]?.at ?? START;
  let number = 0;
  for (let i = 0, now = START; now < last + 2_000; ) {
    now += i < wires.length ? 1 + random() * 8 : 500;
    const losing = random() < plan.losses;
    const closes: Observation[] = [];
    for (; i < wires.length && wires[i]!.at <= now; i++) {
      const { observation, packet } = wires[i]!;
      if (observation?.kind === 'open') push(now, { ...observation, t: now });
      if (observation?.kind === 'close') closes.push({ ...observation, t: now });
      if (!packet) continue;
      packet.writeUInt32BE(number++, NUMBER_AT);
      if (losing && random() < 0.5) continue;
      packets.add(packet, 0, packet.length, now);
    }
    for (const { request } of packets.take()) push(now, { ...request, vip: VIP, vport: 80 });
    const lost = packets.takeLost();
    // What was lost last shows with the next number, and the kernel says at once that something was.
    if (losing) packets.overrun();
    if (lost > 0 || losing) push(now, { kind: 'gap', t: now, from: watermark, source: 'tap', lost });
    for (const close of closes) push(now, close);
    push(now, { kind: 'tick', t: now });
    watermark = now;
  }
  return feed;
}
