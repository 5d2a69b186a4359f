import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FlowIndex } from '../../src/join/index/flow-index.ts';
import { type BlockLine, PendingBlocks } from '../../src/join/pending.ts';
import type { Observation } from '../../src/model/feed.ts';
import { compileLogFormat } from '../../src/parse/log-format.ts';

const T0 = 1_764_837_843_000;
const format = compileLogFormat(
  '$upstream_addr $msec $request_time "$request_id" "$upstream_status" $status',
);
const FLOW = { src: '10.244.0.70', vip: '10.105.148.194', vport: 10000, port: 10000 };

/** A join whose feed and clock the test moves. */
function start(limits: Partial<{ maxWaitMs: number; maxBytes: number }> = {}) {
  const index = new FlowIndex();
  const waiting = new PendingBlocks<string>(index, { maxWaitMs: 2_000, maxBytes: 1e6, ...limits });
  let seq = 0;
  const feed = (...records: Observation[]): void => {
    for (const record of records) index.apply({ ...record, seq: ++seq } as Parameters<typeof index.apply>[0]);
  };
  feed(
    { kind: 'gap', source: 'conntrack', t: T0 - 100 },
    { kind: 'gap', source: 'tap', t: T0 - 100 },
    { kind: 'tick', t: T0 - 100 },
  );
  const push = (text: string, readAt: number, tag: string): void => {
    const bytes = Buffer.from(`${text}\n`);
    const lines: BlockLine[] = [{ start: 0, end: text.length, parsed: format.parse(bytes, 0, text.length) }];
    waiting.push(bytes, readAt, lines, tag);
  };
  const take = (now: number): string[] =>
    waiting.take(now).map(({ tag, outcomes: [outcomes] }) => {
      const [outcome] = outcomes!;
      return `${tag}: ${!outcome ? 'nothing' : 'reason' in outcome ? outcome.reason : `${outcome.ip} by ${outcome.evidence}`}`;
    });
  return { waiting, feed, push, take };
}

const line = (id: string, at: number): string =>
  `10.105.148.194:10000 ${(at / 1000).toFixed(3)} 0.010 "${id}" "200" 200`;
const served = (id: string, at: number, sport: number, ip: string): Observation[] => [
  { kind: 'open', t: at, via: 'conntrack', ...FLOW, sport, ip },
  { kind: 'request', t: at, via: 'tap', ...FLOW, sport, ip, id },
];

test('a line waits for the watermark and no longer', () => {
  const { feed, push, take } = start();
  push(line('a', T0), T0 + 1, 'first');
  feed(...served('a', T0 - 5, 33454, '10.244.0.64'), { kind: 'tick', t: T0 - 5 });
  assert.deepEqual(take(T0 + 2), []);
  feed({ kind: 'tick', t: T0 + 2 });
  assert.deepEqual(take(T0 + 2), ['first: 10.244.0.64 by request-id']);
});

test('a sighting that comes with the last batch before the watermark is not missed', () => {
  const { feed, push, take } = start();
  push(line('a', T0), T0 + 1, 'first');
  feed(...served('a', T0 - 5, 33454, '10.244.0.64'), { kind: 'tick', t: T0 - 4 });
  // A mirror of the same request, to another pod: with it, nothing can be said.
  feed(...served('a', T0 - 3, 33455, '10.244.0.65'), { kind: 'tick', t: T0 + 2 });
  assert.deepEqual(take(T0 + 2), ['first: ambiguous']);
});

test('lines leave in the order of the log, also when a younger one could go first', () => {
  const { feed, push, take } = start();
  push(line('a', T0 + 50), T0 + 51, 'older');
  push(line('b', T0), T0 + 52, 'younger');
  feed(...served('b', T0 - 5, 1, '10.244.0.64'), { kind: 'tick', t: T0 + 20 });
  assert.deepEqual(take(T0 + 52), []);
  feed(...served('a', T0 + 42, 2, '10.244.0.65'), { kind: 'tick', t: T0 + 60 });
  assert.deepEqual(take(T0 + 60), ['older: 10.244.0.65 by request-id', 'younger: 10.244.0.64 by request-id']);
});

test('without a watermark a line leaves as it is after the longest wait, as late', () => {
  const { waiting, push, take } = start();
  push(line('a', T0), T0 + 1, 'first');
  assert.equal(waiting.deadline, T0 + 2_001);
  assert.deepEqual(take(T0 + 2_000), []);
  assert.deepEqual(take(T0 + 2_001), ['first: late']);
  assert.equal(waiting.counters.timedOut, 1);
});

test('beyond the limit in bytes the oldest leave as they are', () => {
  const { waiting, push, take } = start({ maxBytes: 150 });
  for (const tag of ['1', '2', '3', '4']) push(line(tag, T0), T0 + 1, tag);
  assert.deepEqual(take(T0 + 1), ['1: late', '2: late']);
  assert.ok(waiting.bytes <= 150);
  assert.equal(waiting.counters.pushedOut, 2);
});

test('a line without attempts waits for nothing', () => {
  const { push, take } = start();
  push('not a line of this format', T0 + 1, 'odd');
  assert.deepEqual(take(T0 + 1), ['odd: nothing']);
});

test('a connection that opened just now holds a line up until it has carried its request', () => {
  const { feed, push, take } = start();
  const untold = `10.105.148.194:10000 ${(T0 / 1000).toFixed(3)} 0.010 "a" "-" 200`;
  feed(...served('a', T0 - 5, 1, '10.244.0.64'));
  feed(
    { kind: 'open', t: T0, via: 'conntrack', ...FLOW, sport: 2, ip: '10.244.0.65' },
    { kind: 'tick', t: T0 + 1 },
  );
  push(untold, T0 + 1, 'first');
  assert.deepEqual(take(T0 + 1), []);
  feed(
    { kind: 'request', t: T0 + 2, via: 'tap', ...FLOW, sport: 2, ip: '10.244.0.65', id: 'b' },
    { kind: 'tick', t: T0 + 3 },
  );
  assert.deepEqual(take(T0 + 3), ['first: 10.244.0.64 by request-id']);
});

test('where the clock was set back, nothing is claimed from before, and claims go on after', () => {
  const { feed, push, take } = start();
  feed({ kind: 'tick', t: T0 + 3_600_000 });
  const back = T0 + 1_000;
  feed(
    { kind: 'gap', source: 'conntrack', t: back },
    { kind: 'gap', source: 'tap', t: back },
    { kind: 'tick', t: back },
  );
  const after = back + 1_020;
  push(line('a', after), after + 1, 'after');
  assert.deepEqual(take(after + 1), []);
  feed(...served('a', after - 8, 1, '10.244.0.64'), { kind: 'tick', t: after + 10 });
  assert.deepEqual(take(after + 10), ['after: 10.244.0.64 by request-id']);
  push(line('z', back), after + 11, 'before');
  feed({ kind: 'tick', t: after + 11 });
  assert.deepEqual(take(after + 11), ['before: gap']);
});

test('an id that a client repeats without end is settled for nobody, costs no more each time, and harms no other', () => {
  const { feed, push, take } = start();
  for (let i = 0; i < 2_000; i++) feed(...served('same', T0 - 5, 10_000 + i, `10.244.0.${i % 4}`));
  push(line('same', T0), T0 + 1, 'repeated');
  push(line('other', T0), T0 + 1, 'another');
  feed(...served('other', T0 - 5, 33454, '10.244.0.64'), { kind: 'tick', t: T0 + 2 });
  assert.deepEqual(take(T0 + 2), ['repeated: ambiguous', 'another: 10.244.0.64 by request-id']);
});
