import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { LogBlock } from '../../src/follow/follower.ts';
import type { LogPosition } from '../../src/follow/position.ts';
import { FlowIndex } from '../../src/join/index/flow-index.ts';
import type { Observation } from '../../src/model/feed.ts';
import { compileLogFormat } from '../../src/parse/log-format.ts';
import { type FeedState, Pipeline } from '../../src/pipeline.ts';
import { ReplaceStyle } from '../../src/rewrite/replace.ts';
import { Style } from '../../src/rewrite/style.ts';

const T0 = 1_764_837_843_000;
const format = compileLogFormat(
  '$upstream_addr $msec $request_time "$request_id" "$upstream_status" $status',
);
const FLOW = { src: '10.244.0.70', sport: 33454, vip: '10.105.148.194', vport: 10000, port: 10000 };

const line = (id: string, at: number): string =>
  `10.105.148.194:10000 ${(at / 1000).toFixed(3)} 0.001 "${id}" "200" 200\n`;
const position = (offset: number): LogPosition => ({
  dev: '1',
  ino: '2',
  offset,
  fingerprint: '',
  since: 0,
  older: [],
});

/** A pipeline whose log, feed and clock the test moves; what it wrote, and where the log stood behind it. */
function start({ maxBytes = 1e6 } = {}) {
  const index = new FlowIndex();
  const written: [text: string, offset: number | undefined][] = [];
  let now = T0;
  let state: FeedState = 'read';
  let give: ((block: LogBlock | undefined) => void) | undefined;
  const asked = { next: 0, hasten: 0, gather: [] as boolean[] };
  const pipeline = new Pipeline({
    follower: {
      next: () =>
        new Promise((resolve) => {
          asked.next++;
          give = resolve;
        }),
      hasten: () => void asked.hasten++,
      gather: (gathers) => void asked.gather.push(gathers),
      lookNow: () => {},
    },
    parse: (bytes, from, to) => format.parse(bytes, from, to),
    index,
    style: new Style(new ReplaceStyle()),
    write: async (chunks, end) => void written.push([Buffer.concat(chunks).toString(), end?.offset]),
    requestTick() {},
    feedState: () => state,
    onSettled() {},
    limits: { maxWaitMs: 2_000, maxBytes, maxUnwrittenBytes: 1e6 },
    batchMs: 0,
    clock: () => now,
  });
  let seq = 0;
  const feed = (...records: Observation[]): void => {
    for (const record of records) index.apply({ ...record, seq: ++seq } as Parameters<typeof index.apply>[0]);
    pipeline.advance();
  };
  const read = async (text: string, offset: number): Promise<void> => {
    give!({ bytes: Buffer.from(text), readAt: now, end: position(offset) });
    await turn();
    await turn();
  };
  const running = pipeline.run();
  return {
    asked,
    written,
    feed,
    read,
    pipeline,
    state: (next: FeedState) => {
      state = next;
    },
    at: (time: number) => {
      now = time;
    },
    end: async () => {
      give!(undefined);
      await running;
    },
  };
}

test('lines that were read together leave together, once the watermark has passed their reading', async () => {
  const { asked, written, feed, read, at, end } = start();
  feed(
    { kind: 'gap', source: 'conntrack', t: T0 - 100 },
    { kind: 'gap', source: 'tap', t: T0 - 100 },
    { kind: 'open', t: T0 - 90, via: 'conntrack', ...FLOW, ip: '10.244.0.64' },
    { kind: 'request', t: T0 - 90, via: 'tap', ...FLOW, ip: '10.244.0.64', id: 'a' },
    { kind: 'tick', t: T0 - 50 },
  );
  assert.equal(asked.hasten, 1);
  at(T0);
  const text = line('a', T0 - 89) + line('b', T0 - 40);
  await read(text, 300);
  assert.deepEqual(written, []);
  feed(
    { kind: 'request', t: T0 - 41, via: 'tap', ...FLOW, ip: '10.244.0.64', id: 'b' },
    { kind: 'tick', t: T0 + 1 },
  );
  await turn();
  assert.deepEqual(written, [[text.replaceAll('10.105.148.194', '10.244.0.64'), 300]]);
  await end();
});

test('a line whose evidence was there before its reading waits with the others of its block', async () => {
  const { written, feed, read, at, end } = start();
  feed({ kind: 'tick', t: T0 - 50 });
  at(T0);
  const text = line('a', T0 - 40) + line('b', T0 - 60);
  await read(text, 200);
  assert.deepEqual(written, []);
  feed({ kind: 'tick', t: T0 + 1 });
  await turn();
  assert.deepEqual(written, [[text, 200]]);
  await end();
});

test('lines wait beyond --max-wait for a feed that is expected back, and leave late once it is not', async () => {
  const world = start();
  world.state('returning');
  await world.read(line('one', T0), 1);
  world.at(T0 + 9_000);
  world.pipeline.settle();
  assert.deepEqual(world.written, []);
  world.state('away');
  world.pipeline.settle();
  await turn();
  assert.equal(world.written.length, 1);
  assert.deepEqual(world.pipeline.counters.reasons, { late: 1 });
  await world.end();
});

test('a feed that comes back settles the lines that waited for it', async () => {
  const world = start();
  world.state('returning');
  world.at(T0 + 100);
  await world.read(line('one', T0 + 50), 1);
  world.at(T0 + 4_000);
  world.state('read');
  const { vip, vport } = FLOW;
  world.feed(
    { kind: 'gap', t: T0, source: 'tap' },
    { kind: 'gap', t: T0, source: 'conntrack' },
    { kind: 'open', t: T0 + 10, via: 'conntrack', ...FLOW, ip: '10.244.0.64' },
    {
      kind: 'request',
      t: T0 + 49.5,
      via: 'tap',
      ...FLOW,
      vip,
      vport,
      ip: '10.244.0.64',
      id: 'one',
      singleSegment: true,
    },
    { kind: 'tick', t: T0 + 4_000 },
  );
  await turn();
  assert.match(world.written[0]![0], /^10\.244\.0\.64:10000 /);
  await world.end();
});

test('the log is read on when the feed has caught up, or is later than lines may wait', async () => {
  const text = line('a', T0);
  for (const [how, catchUp] of [
    ['it has caught up', { now: T0 + 10, tick: T0 + 10 }],
    ['it is too late', { now: T0 + 1_960, tick: T0 - 45 }],
  ] as const) {
    const { asked, feed, read, at, end, pipeline } = start({ maxBytes: 2 * text.length });
    feed({ kind: 'tick', t: T0 - 50 });
    at(T0);
    await read(text, 1);
    assert.equal(asked.next, 2, 'one line is not many');
    await read(text, 2);
    assert.equal(asked.next, 2, 'two are');
    at(catchUp.now);
    feed({ kind: 'tick', t: catchUp.tick });
    await turn();
    await turn();
    assert.equal(asked.next, 3, how);
    assert.equal(pipeline.pending.counters.pushedOut, 0);
    feed({ kind: 'tick', t: T0 + 2_000 });
    await end();
  }
});

for (const state of ['returning', 'away'] as const) {
  test(`at the end lines do not wait for a feed that is ${state}`, async () => {
    const world = start();
    world.state(state);
    await world.read(line('one', T0), 1);
    assert.deepEqual(world.written, []);
    // The clock of this world stands still: only giving up on the feed lets them go.
    await world.end();
    assert.equal(world.written.length, 1);
  });
}

for (const [how, id, evidence] of [
  ['ambiguous', 'unseen', 'request-id'],
  ['named by times', '-', 'sole-backend'],
] as const)
  test(`lines are gathered once 256 attempts in a row were named by an id, until two of 256 are ${how}`, async () => {
    const { asked, feed, read, at, end, pipeline } = start();
    feed(
      { kind: 'gap', source: 'conntrack', t: T0 - 100 },
      { kind: 'gap', source: 'tap', t: T0 - 100 },
      { kind: 'open', t: T0 - 90, via: 'conntrack', ...FLOW, ip: '10.244.0.64' },
      { kind: 'tick', t: T0 - 50 },
    );
    const ask = (id: string): Observation[] => [
      { kind: 'request', t: T0 - 41, via: 'tap', ...FLOW, ip: '10.244.0.64', id },
    ];
    const named = async (from: number, to: number): Promise<void> => {
      at(T0 + from);
      const ids = Array.from({ length: to - from }, (_, i) => `id${from + i}`);
      await read(ids.map((id) => line(id, T0 - 40)).join(''), 1);
      at(T0 + from + 5);
      feed(...ids.flatMap(ask), { kind: 'tick', t: T0 + from + 1 });
      await turn();
    };
    await named(0, 255);
    assert.deepEqual(asked.gather, [false]);
    await named(255, 256);
    assert.deepEqual(asked.gather, [false, true]);
    const other = async (after: number): Promise<void> => {
      at(T0 + after);
      await read(line(id, T0 + after - 100), 2);
      at(T0 + after + 105);
      feed({ kind: 'tick', t: T0 + after + 100 });
      await turn();
    };
    await other(300);
    assert.deepEqual(asked.gather, [false, true, true], 'a lone one');
    await other(500);
    assert.deepEqual(asked.gather, [false, true, true, false]);
    assert.equal(Object.keys(pipeline.counters.evidence).at(-1), evidence);
    await end();
  });
