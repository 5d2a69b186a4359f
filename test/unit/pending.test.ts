/** When a block of lines leaves, and what is deduced of the lines that wait (`PendingBlocks`). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Timing } from '../../src/inferred/timing.ts';
import { PendingBlocks } from '../../src/join/pending.ts';
import type { ParsedLine, UnparsedReason } from '../../src/model/line.ts';
import type { Outcome } from '../../src/model/outcome.ts';
import { lineOf, podIp, T0, VIP, Wire } from '../model/wire.ts';

const A = lineOf({ end: 10, took: 10 }, { id: 'a' });
/** Nothing distinguishes the two pods for it. */
const OPEN = lineOf({ end: 10, took: 10 });

/** Two pods; the request with id `a` went to pod 1. */
function start(timing?: Timing, { maxWaitMs = 2_000, maxBytes = 1e6 } = {}) {
  const wire = new Wire().open(1, 1, -500_000).open(2, 2, -500_000);
  for (const [pod, id] of [
    [1, 'a'],
    [2, 'b'],
  ] as const)
    wire.request(pod, pod, 0, { id });
  const blocks = new PendingBlocks<string>(wire.index, { maxWaitMs, maxBytes }, timing);
  const push = (tag: string, readAt: number, ...lines: (ParsedLine | UnparsedReason)[]): void =>
    blocks.push(
      Buffer.alloc(100),
      T0 + readAt,
      lines.map((parsed) => ({ start: 0, end: 0, parsed })),
      tag,
    );
  const say = (outcomes: readonly Outcome[]): string =>
    outcomes
      .map((outcome) =>
        'evidence' in outcome ? `${outcome.ip.split('.')[3]} ${outcome.evidence}` : outcome.reason,
      )
      .join();
  const take = (now: number): string[] =>
    blocks.take(T0 + now).map(({ tag, outcomes }) => `${tag}: ${outcomes.map(say).join('; ')}`);
  return { wire, blocks, push, take };
}

test('without blocks nothing is due, and the oldest tells when it was read and when it leaves', () => {
  const { blocks, push } = start();
  assert.deepEqual(
    [blocks.blocks, blocks.bytes, blocks.deadline, blocks.since, blocks.needsWatermark],
    [0, 0, undefined, undefined, false],
  );
  push('first', 11, A);
  push('second', 12, A);
  assert.deepEqual(
    [blocks.blocks, blocks.bytes, blocks.deadline, blocks.since],
    [2, 200, T0 + 2_011, T0 + 11],
  );
});

test('a block needs a watermark that is not before its reading', () => {
  const { wire, blocks, push, take } = start();
  push('x', 11, A);
  wire.tick(10.9);
  assert.equal(blocks.needsWatermark, true);
  assert.deepEqual(take(12), []);
  wire.tick(11);
  assert.equal(blocks.needsWatermark, false);
  assert.deepEqual(take(12), ['x: 1 request-id']);
  assert.deepEqual([blocks.blocks, blocks.bytes], [0, 0]);
});

test('lines that cannot be parsed, and those without attempts, keep their place among those that wait', () => {
  const { wire, push, take } = start();
  push('x', 11, 'format', A, { ...A, attempts: [] }, A);
  assert.deepEqual(take(11), []);
  wire.tick(11);
  assert.deepEqual(take(11), ['x: ; 1 request-id; ; 1 request-id']);
  push('y', 12, 'format', { ...A, attempts: [] });
  assert.deepEqual(take(11), ['y: ; '], 'without attempts nothing is waited for');
});

test('the needs of a block are those of the line that needs most, online all alike, and offline by their times', () => {
  const { wire, blocks, push, take } = start();
  blocks.push(
    Buffer.alloc(1),
    Infinity,
    [A, lineOf({ end: 500, took: 10 }, { id: 'a' }), A].map((parsed) => ({ start: 0, end: 0, parsed })),
    'offline',
  );
  wire.tick(1_500.9);
  assert.deepEqual(take(0), [], 'a second later it may have been written');
  wire.tick(1_501);
  assert.equal(take(0).length, 1);
  push('x', 11, A);
});

test('the deadline: a block leaves at it, and the next ones then wait for theirs', () => {
  const { blocks, push, take } = start();
  push('x', 11, A);
  push('y', 12, A);
  assert.deepEqual(take(2_010.9), []);
  assert.deepEqual(take(2_011), ['x: late']);
  assert.equal(blocks.counters.timedOut, 1);
  assert.equal(blocks.deadline, T0 + 2_012);
  blocks.expire();
  assert.deepEqual(take(11), ['y: late']);
});

test('with more bytes than may wait the oldest leave, and no more of them than are too many', () => {
  const { blocks, push, take } = start(undefined, { maxBytes: 200 });
  for (const tag of ['1', '2']) push(tag, 11, A);
  assert.deepEqual(take(11), [], 'as many as may wait');
  push('3', 11, A);
  assert.deepEqual(take(11), ['1: late']);
  assert.deepEqual(blocks.counters, { timedOut: 0, pushedOut: 1 });
});

const PERHAPS = lineOf({ end: 10, took: 10 }, { id: 'a', attempt: { headerMs: null, status: 504 } });

test('a connection that opened just now holds a block up for 100 ms, and each look needs a new watermark', () => {
  const { wire, blocks, push, take } = start();
  wire.tick(1).open(3, 2, 2).tick(11);
  push('x', 11, A, PERHAPS);
  assert.equal(blocks.needsWatermark, false);
  assert.deepEqual(take(12), []);
  assert.equal(blocks.needsWatermark, true, 'at this watermark it was looked at');
  wire.request(3, 2, 20, { id: 'c' });
  assert.deepEqual(take(13), [], 'nor does a record help without one');
  wire.tick(21);
  assert.equal(blocks.needsWatermark, false);
  assert.deepEqual(take(14), ['x: 1 request-id; 1 request-id']);
});

test('after 100 ms, at the deadline, or with too many bytes it is held up no longer', () => {
  const young = () => {
    const it = start(undefined, { maxBytes: 150 });
    it.wire.tick(1).open(3, 2, 2).tick(110.9);
    it.push('x', 11, PERHAPS);
    return it;
  };
  const late = young();
  assert.deepEqual(late.take(20), []);
  late.wire.tick(111);
  assert.deepEqual(late.take(21), ['x: ambiguous']);
  const due = young();
  assert.deepEqual(due.take(2_011), ['x: ambiguous']);
  const full = young();
  full.push('y', 111, A);
  assert.deepEqual(full.take(20), ['x: ambiguous']);
});

test('a request belongs to the line of the block that leaves, not to one that still waits', () => {
  const { wire, push, take } = start();
  wire.tick(1).open(3, 2, 2).tick(11);
  push('x', 11, A, PERHAPS);
  take(12);
  assert.equal(wire.index.requestsWithId('a')!.matched, false);
  wire.tick(200);
  take(200);
  assert.equal(wire.index.requestsWithId('a')!.matched, true);
});

test('the times of lines tell of nginx’s clock, if they are logged to the millisecond', () => {
  const { wire, push } = start();
  for (let n = 0; n < 100; n++)
    push('x', 15, { ...A, endStepMs: 1_000 }, 'format', { ...A, endMs: undefined });
  assert.equal(wire.index.lineClock.coarsenessMs, Infinity);
  for (let n = 0; n < 100; n++) push('x', 15, A);
  assert.equal(wire.index.lineClock.coarsenessMs, 5);
});

/** Deduces pod 2 for every line, 50 ms after it. */
function deduction(pod: { ip: string; port: number } | undefined = { ip: podIp(2), port: 8000 }) {
  const told: string[] = [];
  const timing = {
    waitMs: 50,
    counters: { decisions: 0 },
    observe: (_line: ParsedLine, readAt: number) => told.push(`read ${readAt - T0}`),
    know: (_line: ParsedLine, k: number, ip: string) => told.push(`${k} is ${ip}`),
    backend: () => pod,
  };
  return { timing: timing as unknown as Timing, told };
}

test('what other evidence leaves ambiguous waits for the lines beside it, and is then deduced', () => {
  const { timing, told } = deduction();
  const { wire, blocks, push, take } = start(timing);
  push('x', 11, A, 'format', { ...A, attempts: [] }, OPEN);
  assert.deepEqual(told, ['read 11', 'read 11']);
  wire.tick(11);
  assert.deepEqual(take(12), []);
  assert.deepEqual(told.slice(2), [`0 is ${podIp(1)}`]);
  assert.equal(blocks.needsWatermark, true);
  wire.tick(60.9);
  assert.deepEqual(take(13), []);
  wire.tick(61);
  assert.equal(blocks.needsWatermark, false);
  assert.deepEqual(take(14), ['x: 1 request-id; ; ; 2 timing']);
  assert.equal(told.length, 3, 'it is told once');
});

test('after a block for which a decision was made others have their turn; the next blocks leave when asked again', () => {
  const { timing } = deduction();
  const { wire, blocks, push, take } = start(timing);
  for (const tag of ['x', 'y', 'z']) push(tag, 11, OPEN);
  wire.tick(11).tick(61);
  const decided = timing.backend;
  timing.backend = (...of) => {
    timing.counters.decisions++;
    return decided(...of);
  };
  assert.deepEqual([take(12), blocks.unfinished], [['x: 2 timing'], true]);
  timing.backend = decided;
  assert.deepEqual([take(12), blocks.unfinished], [['y: 2 timing', 'z: 2 timing'], false]);
});

test('a block of which nothing is ambiguous does not wait, nor does one past its deadline', () => {
  const { timing } = deduction();
  const { wire, push, take } = start(timing);
  const nowhere = lineOf({ end: 10, took: 10 }, { attempt: { ip: '10.96.0.9' } });
  push('x', 11, A, nowhere);
  wire.tick(11);
  assert.deepEqual(take(12), ['x: 1 request-id; no-flow']);
  const due = start(timing);
  due.push('y', 11, OPEN);
  due.wire.tick(11);
  assert.deepEqual(due.take(2_011), ['y: 2 timing']);
});

test('a pod’s own address is not replaced by a deduction, and none is made up', () => {
  const own = deduction({ ip: VIP, port: 80 });
  const direct = start(own.timing);
  direct.push('x', 11, OPEN);
  direct.wire.tick(61);
  assert.deepEqual(direct.take(12), ['x: direct']);
  const other = start(deduction({ ip: VIP, port: 81 }).timing);
  other.push('x', 11, OPEN);
  other.wire.tick(61);
  assert.deepEqual(other.take(12), ['x: 194 timing']);
  const none = start({
    ...deduction().timing,
    waitMs: 0,
    backend: () => undefined,
    observe() {},
    know() {},
  } as never);
  none.push('x', 11, OPEN);
  none.wire.tick(61);
  assert.deepEqual(none.take(12), ['x: ambiguous']);
});

test('lines that one connection is named for share a list of outcomes, as those of recent lines are kept', () => {
  const { wire, blocks, push } = start();
  const alike = lineOf({ end: 10, took: 10 }, { id: 'a', attempts: [{}, {}] });
  push('x', 11, A, A, alike, lineOf({ end: 10, took: 10 }, { id: 'b' }));
  wire.tick(11);
  const [first, second, two, other] = blocks.take(T0 + 12)[0]!.outcomes;
  assert.equal(first, second);
  assert.equal(two!.length, 2);
  assert.notEqual(two, first);
  assert.deepEqual(
    [first, other].map((outcomes) => outcomes!.map((outcome) => 'evidence' in outcome && outcome.ip)),
    [[podIp(1)], [podIp(2)]],
  );
});
