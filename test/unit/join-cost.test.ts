/** No input makes a line cost more than a bounded number of visits: 10,000 lines of the worst kind for each evidence. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FlowIndex } from '../../src/join/index/flow-index.ts';
import { DEFAULT_LIMITS } from '../../src/join/index/limits.ts';
import { PendingBlocks } from '../../src/join/pending.ts';
import type { ParsedLine } from '../../src/model/line.ts';
import { lineOf, T0, Wire } from '../model/wire.ts';

const LINES = 10_000;

/** Visits a line, over a second with 10,000 requests and their lines. */
function visitsPerLine(
  wire: Wire,
  request: (n: number, at: number) => void,
  line: (n: number, at: number) => ParsedLine,
) {
  for (let n = 0; n < LINES; n++) request(n, n / 10);
  wire.tick(1_200);
  const before = wire.index.counters.visited;
  for (let n = 0; n < LINES; n++) wire.says(line(n, n / 10), 1_100);
  return (wire.index.counters.visited - before) / LINES;
}

const timed = (at: number, id?: string): ParsedLine =>
  lineOf({ end: at, took: 5 }, id === undefined ? {} : { id });
/** Many connections of one pod, and one old one of another, so that no pod is the only one. */
function oneBusyPod(wire = new Wire()): Wire {
  wire.open(1, 2, -500_000).request(1, 2, -500_000).close(1, 2, -499_000).tick(-499_000);
  for (let n = 0; n < 20_000; n++)
    wire
      .open(2 + n, 1, -50_000)
      .request(2 + n, 1, -50_000)
      .close(2 + n, 1, -49_999);
  return wire;
}

test('request-id: one id on all requests', () => {
  const wire = new Wire().open(1, 1, -500_000).open(2, 2, -500_000);
  const visits = visitsPerLine(
    wire,
    (n, at) => wire.request(1 + (n % 2), 1 + (n % 2), at, { id: 'same' }),
    (_n, at) => timed(at, 'same'),
  );
  assert.ok(visits <= 64 + 2 * 513, `${visits}`);
});

test('request-id: requests without an id beside those that carry one', () => {
  const wire = new Wire()
    .open(1, 1, -500_000)
    .open(2, 1, -500_000)
    .open(3, 2, -500_000)
    .request(3, 2, -400_000);
  const visits = visitsPerLine(
    wire,
    (n, at) => wire.request(1 + (n % 2), 1, at, n % 2 ? {} : { id: `i${n}` }),
    (n, at) => timed(at, `i${n}`),
  );
  assert.ok(visits <= 3 * 513, `${visits}`);
});

test('source-port: one port again and again', () => {
  const wire = new Wire();
  const visits = visitsPerLine(
    wire,
    (_n, at) => wire.open(1, 1, at).request(1, 1, at).close(1, 1, at),
    (_n, at) => lineOf({ end: at, took: 5 }, { attempt: { localPort: 1 } }),
  );
  assert.ok(visits <= 4_096, `${visits}`);
});

test('sole-backend: connections of one pod beside a second one', () => {
  const wire = oneBusyPod();
  const visits = visitsPerLine(
    wire,
    () => {},
    (_n, at) => timed(at),
  );
  assert.ok(visits <= 4_097 + 513, `${visits}`);
});

test('sole-backend: attempts that never connected', () => {
  const wire = oneBusyPod();
  const never = { connectMs: null, headerMs: null, status: 502 };
  const visits = visitsPerLine(
    wire,
    () => {},
    (_n, at) => lineOf({ end: at, took: 5 }, { attempt: never }),
  );
  assert.ok(visits <= 4_097, `${visits}`);
});

test('request-window: ten thousand requests in every window', () => {
  const wire = new Wire().open(1, 1, -500_000).open(2, 2, -500_000).request(2, 2, -400_000);
  const visits = visitsPerLine(
    wire,
    (_n, at) => wire.request(1, 1, at),
    (_n, at) => timed(at),
  );
  assert.ok(visits <= 4_097 + 513, `${visits}`);
});

test('byte-counts: ten thousand requests of one size in every window', () => {
  const wire = new Wire().open(1, 1, -500_000).open(2, 2, -500_000).request(2, 2, -400_000);
  const counts = { sent: 100, received: 100 };
  const visits = visitsPerLine(
    wire,
    (_n, at) => wire.request(1, 1, at, counts),
    (_n, at) => lineOf({ end: at, took: 5 }, { attempt: { bytesSent: 100, bytesReceived: 100 } }),
  );
  assert.ok(visits <= 3 * 4_097, `${visits}`);
});

test('unreadable: ten thousand connections that cannot be read', () => {
  const wire = new Wire();
  const visits = visitsPerLine(
    wire,
    (n, at) => wire.open(n, 1, at).unreadable(n, 1, at),
    (n, at) => timed(at, `i${n}`),
  );
  assert.ok(visits <= 4_097 + 513, `${visits}`);
});

test('a block that waits for one connection is not matched from its beginning again at every watermark', () => {
  const index = new FlowIndex(DEFAULT_LIMITS);
  const pending = new PendingBlocks<number>(index, { maxWaitMs: 2_000, maxBytes: 1e6 });
  const wire = { seq: 0 };
  const apply = (record: object): void =>
    index.apply({ ...record, seq: ++wire.seq } as Parameters<typeof index.apply>[0]);
  const flow = (sport: number, pod: number) => ({
    src: '10.244.0.70',
    sport,
    vip: '10.105.148.194',
    vport: 80,
    ip: `10.244.1.${pod}`,
    port: 8000,
  });
  for (const source of ['conntrack', 'tap']) apply({ kind: 'gap', source, t: T0 - 100_000 });
  apply({ kind: 'open', t: T0 - 50_000, ...flow(1, 1), via: 'conntrack' });
  for (let n = 0; n < 1_000; n++)
    apply({ kind: 'request', t: T0 - 1_000 + n, ...flow(1, 1), id: `i${n}`, via: 'tap' });
  apply({ kind: 'tick', t: T0 });
  apply({ kind: 'open', t: T0 + 1, ...flow(2, 2), via: 'conntrack' });
  const parsed = [...Array(999).keys()].map((n) => lineOf({ end: n - 1_000, took: 5 }, { id: `i${n}` }));
  // Perhaps it was never sent, and the connection that just opened was its own.
  parsed.push(lineOf({ end: 0, took: 5 }, { id: 'i999', attempt: { headerMs: null, status: 504 } }));
  pending.push(
    Buffer.alloc(10),
    T0 + 2,
    parsed.map((each) => ({ start: 0, end: 0, parsed: each })),
    0,
  );
  for (let ms = 3; ms < 90; ms++) {
    apply({ kind: 'tick', t: T0 + ms });
    assert.equal(pending.take(T0 + ms).length, 0);
  }
  const visited = index.counters.visited;
  assert.ok(visited < 20_000, `${visited}`);
  apply({ kind: 'tick', t: T0 + 102 });
  assert.equal(pending.take(T0 + 102).length, 1);
});

test('a new Service costs the same however many are in use', () => {
  const wire = new Wire();
  const visits = (from: number): number => {
    const before = wire.index.counters.visited;
    for (let n = from; n < from + 5_000; n++)
      wire.open(n, 1, n / 100, { vip: `10.107.${n >> 8}.${n & 255}` }).close(n, 1, n / 100);
    return wire.index.counters.visited - before;
  };
  for (let n = 0; n < 30_000; n += 5_000) {
    const count = visits(n);
    assert.ok(count <= 2 * 16 * 5_000, `${count}`);
  }
});

test('lines that cost much are matched in several turns, each line once', () => {
  const wire = oneBusyPod();
  wire.tick(1_200);
  const { index } = wire;
  const never = { connectMs: null, headerMs: null, status: 502 };
  const settled = (each: (visits: number) => void): [outcomes: unknown[], timedOut: number] => {
    const pending = new PendingBlocks<number>(index, { maxWaitMs: 2_000, maxBytes: 1e6 });
    for (let block = 0; block < 5; block++) {
      const lines = [...Array(400).keys()].map((n) =>
        lineOf({ end: n - 49_990, took: 500 }, { attempt: never }),
      );
      const spans = lines.map((parsed) => ({ start: 0, end: 0, parsed }));
      pending.push(Buffer.alloc(10), T0 + 1_100, spans, block);
    }
    const outcomes: unknown[] = [];
    for (let turn = 0; pending.blocks > 0; turn++) {
      assert.ok(turn < 100, 'it comes to an end');
      const before = index.counters.visited;
      const blocks = pending.take(T0 + 9_000);
      each(index.counters.visited - before);
      assert.equal(pending.unfinished, pending.blocks > 0);
      for (const block of blocks) outcomes.push([block.tag, block.outcomes]);
    }
    return [outcomes, pending.counters.timedOut];
  };
  let turns = 0;
  const [outcomes, timedOut] = settled((visits) => {
    turns++;
    assert.ok(visits <= 1_000_000 + 3 * 4_097, `${visits} in one turn`);
  });
  assert.ok(turns > 3, `${turns}`);
  assert.equal(outcomes.length, 5);
  assert.equal(timedOut, 0);
});
