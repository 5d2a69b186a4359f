/** How cost grows with connections, pods and subscribers: microseconds of CPU for each record. No root. */
import { FlowTable } from '../../src/capture/conntrack/flow-table.ts';
import type { ConntrackEvent } from '../../src/capture/conntrack/message.ts';
import { FEED_LIMITS, Feed } from '../../src/feed/feed.ts';
import { FlowIndex } from '../../src/join/index/flow-index.ts';
import type { Observation } from '../../src/model/feed.ts';
import { cpuMicros, perThing } from './figure.ts';

const T0 = 1_795_412_620_000;
const EVENTS = 50_000;
const address = (n: number): string => `10.244.${n >> 8}.${n & 255}`;

function event(type: ConntrackEvent['type'], n: number, pods: number): ConntrackEvent {
  const place = Math.floor(n / pods);
  return {
    type,
    id: n,
    zone: 0,
    src: address(n % pods),
    sport: 1024 + (place % 60_000),
    vip: `10.105.${Math.floor(place / 60_000)}.1`,
    vport: 80,
    ip: '10.245.0.1',
    port: 8080,
    tcpState: type === 'new' ? 1 : 7,
    eventMs: T0,
  };
}

/** The helper's table of connections, over so many pods: a connection that comes and goes while `count` others are there. */
function connectionTable(count: number, pods: number, rounds: number): number[] {
  const table = new FlowTable(count + EVENTS);
  for (let n = 0; n < pods; n++) table.addSource(address(n));
  const out: Observation[] = [];
  for (let n = 0; n < count; n++) table.opened(event('new', n, pods), T0, out);
  return perThing(rounds, EVENTS, () => {
    out.length = 0;
    for (let n = count; n < count + EVENTS; n++) {
      table.opened(event('new', n, pods), T0, out);
      table.ended(event('destroy', n, pods));
      table.release(0, table.endings, T0, out);
    }
  });
}

/** Bytes of heap for each connection in the helper's table. */
function bytesPerConnection(count: number): number {
  globalThis.gc?.();
  const before = process.memoryUsage().heapUsed;
  const table = new FlowTable(count);
  table.addSource(address(0));
  const out: Observation[] = [];
  for (let n = 0; n < count; n++) {
    table.opened(event('new', n, 1), T0, out);
    out.length = 0;
  }
  globalThis.gc?.();
  return (process.memoryUsage().heapUsed - before) / Math.max(1, table.size);
}

function request(n: number, readers: number, connections: number): Observation {
  return {
    kind: 'request',
    t: T0 + n / 10,
    src: address(n % readers),
    sport: 1024 + (n % connections),
    vip: '10.105.0.1',
    vport: 80,
    ip: '10.245.0.1',
    port: 8080,
    id: n.toString(16).padStart(32, '0'),
    method: 'GET',
    path: `/orders/${n}`,
    bytes: 200,
    singleSegment: true,
    via: 'tap',
  };
}

async function openFeed(readers: number): Promise<Feed> {
  const feed = new Feed(() => T0, { ...FEED_LIMITS, lingerMs: 0 });
  feed.connect({
    subscribe: async () => ({ flows: [], completeSince: { tap: T0 } }),
    unsubscribe: () => {},
    readPromptly: () => {},
    gather() {},
    flush: async () => {},
  });
  for (let n = 0; n < readers; n++) await feed.open([address(n)], undefined, () => {});
  return feed;
}

/** A request handed over by the feed, with so many readers, in batches of 25. */
async function feedWith(readers: number, rounds: number): Promise<number[]> {
  const feed = await openFeed(readers);
  const batches: Observation[][] = [];
  for (let n = 0; n < EVENTS; n += 25) {
    batches.push(Array.from({ length: 25 }, (_, i) => request(n + i, readers, 1000)));
  }
  const runs = perThing(rounds, EVENTS, () => {
    for (const batch of batches) feed.batch(batch, T0);
  });
  feed.close();
  return runs;
}

/** A request applied to a sidecar's index in which so many connections are open. */
function indexWith(connections: number, rounds: number): number[] {
  const index = new FlowIndex();
  let seq = 0;
  for (let n = 0; n < connections; n++) {
    const { src, sport, vip, vport, ip, port } = request(n, 1, connections) as Extract<
      Observation,
      { kind: 'request' }
    >;
    index.apply({
      kind: 'open',
      seq: seq++,
      t: T0,
      src,
      sport,
      vip: vip!,
      vport: vport!,
      ip,
      port,
      via: 'conntrack',
    });
  }
  const records = Array.from({ length: EVENTS }, (_, n) => {
    const record = request(n, 1, connections) as Extract<Observation, { kind: 'request' }>;
    return { ...record, seq: seq++ };
  });
  // Long before an id comes again its last sighting is forgotten.
  return perThing(rounds, EVENTS, () => {
    for (const record of records) {
      index.apply(record);
      index.markMatched([index.requestsWithId(record.id!)!]);
    }
  });
}

/** A reader comes back after the ring has filled: everything in it, for one address of 50. */
async function catchUp(): Promise<{ records: number; bytes: number; ms: number }> {
  const feed = await openFeed(50);
  const [reader] = [address(0)];
  const first = { seq: 0 };
  for (let n = 0; feed.ringBytes < FEED_LIMITS.ringBytes * 0.9; n += 25) {
    feed.batch(
      Array.from({ length: 25 }, (_, i) => request(n + i, 50, 1000)),
      T0,
    );
    if (n === 0) first.seq = Math.floor(T0 * 1000) + 25;
  }
  let text = '';
  const begun = cpuMicros();
  await feed.open([reader!], first.seq, (piece) => {
    text += piece;
  });
  const bytes = Buffer.byteLength(text);
  const ms = (cpuMicros() - begun) / 1000;
  feed.close();
  return { records: text.split('\n').length - 2, bytes, ms };
}

export interface Scale {
  table: { connections: number; pods: number; runs: number[] }[];
  bytesPerConnection: number;
  feed: { readers: number; runs: number[] }[];
  index: { connections: number; runs: number[] }[];
  catchUp: { records: number; bytes: number; ms: number };
}

export async function scale(rounds: number): Promise<Scale> {
  const found: Scale = {
    table: [],
    bytesPerConnection: bytesPerConnection(100_000),
    feed: [],
    index: [],
    catchUp: await catchUp(),
  };
  for (const [connections, pods] of [
    [1_000, 1],
    [100_000, 200],
    [1_000_000, 200],
  ] as const) {
    found.table.push({ connections, pods, runs: connectionTable(connections, pods, rounds) });
  }
  for (const readers of [1, 50, 200]) found.feed.push({ readers, runs: await feedWith(readers, rounds) });
  for (const connections of [100, 5_000, 35_000])
    found.index.push({ connections, runs: indexWith(connections, rounds) });
  return found;
}
