import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  bucketStart,
  LATENCY_BUCKETS,
  latencyBucket,
  quantile,
  secondsBucket,
} from '../../src/http/sidecar/latency.ts';
import { findOutliers } from '../../src/http/sidecar/outlier.ts';
import { PodWindow, SLOT_MS, SLOTS, type Tally } from '../../src/http/sidecar/pod-window.ts';
import { PodTable } from '../../src/http/sidecar/pods.ts';
import type { PendingBlock } from '../../src/join/pending.ts';
import type { ParsedLine } from '../../src/model/line.ts';
import { isResolved, type Outcome, type PodName } from '../../src/model/outcome.ts';
import { settledDemo } from './serve-demo.ts';

const GONE_MS = SLOTS * SLOT_MS;

function table(nameAt: (ip: string) => PodName | undefined = () => undefined) {
  const { blocks, end } = settledDemo();
  const pods = new PodTable(nameAt);
  for (const block of blocks) pods.add(block, end);
  return { pods, blocks, end };
}

test('every attempt is counted for the pod that it led to, with its status and its time', () => {
  const { pods, blocks, end } = table();
  const wanted = new Map<string, { requests: number; errors: number; ms: number }>();
  for (const block of blocks) {
    block.lines.forEach(({ parsed }, i) => {
      if (typeof parsed === 'string') return;
      parsed.attempts.forEach((attempt, k) => {
        const outcome = block.outcomes[i]![k]!;
        assert.ok(isResolved(outcome));
        const key = `${attempt.ip} ${outcome.ip} ${outcome.port}`;
        const sum = wanted.get(key) ?? { requests: 0, errors: 0, ms: 0 };
        sum.requests++;
        if (attempt.status! >= 500) sum.errors++;
        sum.ms += attempt.responseMs ?? 0;
        wanted.set(key, sum);
      });
    });
  }
  const found = [...pods.all(end)];
  assert.equal(found.length, wanted.size);
  for (const pod of found) {
    const sum = wanted.get(`${pod.vip} ${pod.ip} ${pod.port}`)!;
    assert.deepEqual({ requests: pod.requests, errors: pod.errors, ms: pod.timedMs }, sum);
    const recent = pod.window.sum(end, SLOTS);
    assert.equal(recent.requests, sum.requests);
    assert.equal(recent.errors, sum.errors);
    assert.equal(
      pod.byStatus.reduce((a, b) => a + b),
      sum.requests,
    );
  }
  assert.equal(pods.timedBy, 'upstream_response_time');
});

test('a pod without requests for a quarter of an hour is gone, and comes back at zero', () => {
  const { pods, blocks, end } = table();
  assert.ok(pods.size > 0);
  assert.equal([...pods.all(end + GONE_MS - 1)].length, pods.size);
  assert.equal([...pods.all(end + GONE_MS)].length, 0);
  assert.equal(pods.size, 0);
  pods.add(blocks[0]!, end + GONE_MS);
  for (const pod of pods.all(end + GONE_MS)) assert.ok(pod.requests <= blocks[0]!.lines.length);
});

test('an address that another pod takes begins anew; a name that comes late belongs to the first', () => {
  const { blocks, end } = settledDemo();
  let name: PodName | undefined;
  const pods = new PodTable(() => undefined);
  const named = () => ({
    ...blocks[0]!,
    outcomes: blocks[0]!.outcomes.map((each) => each.map((o) => ({ ...o, name }) as Outcome)),
  });
  pods.add(named(), end);
  const before = pods.size;
  name = { pod: 'cart-0', namespace: 'shop', node: 'a', service: 'cart' };
  pods.add(named(), end);
  assert.equal(pods.size, before);
  for (const pod of pods.all(end)) assert.equal(pod.name?.pod, 'cart-0');
  name = { ...name, pod: 'cart-1' };
  pods.add(named(), end);
  assert.equal(pods.size, 2 * before);
  const counted = [...pods.all(end)].map((pod) => [pod.name!.pod, pod.requests]);
  const sum = (wanted: string) =>
    counted.reduce((all, [pod, n]) => all + (pod === wanted ? (n as number) : 0), 0);
  assert.equal(sum('cart-0'), 2 * sum('cart-1'));
});

test('the number of pods is bounded: further ones are counted as refused until one is gone', () => {
  const { blocks, end } = settledDemo();
  const [first] = blocks as [PendingBlock<undefined>];
  const line = first.lines[0]!;
  const pods = new PodTable(() => undefined);
  const add = (n: number, now: number) => {
    const ip = `10.1.${n >> 8}.${n & 255}`;
    pods.add({ lines: [line], outcomes: [[{ evidence: 'request-id', ip, port: 80 }]], readAt: now }, now);
  };
  for (let n = 0; n < 1_500; n++) add(n, end);
  assert.equal(pods.size, 1_000);
  assert.equal(pods.counters.refused, 500);
  add(2_000, end + GONE_MS + 1);
  assert.equal(pods.size, 1);
});

test('the window forgets slot by slot, and ignores what is older than it', () => {
  const window = new PodWindow();
  const begin = 1_764_869_600_000;
  for (let s = 0; s < SLOTS; s++) window.add(begin + s * SLOT_MS, s % 2 === 0, 5);
  const now = begin + (SLOTS - 1) * SLOT_MS;
  assert.equal(window.sum(now, SLOTS).requests, SLOTS);
  assert.equal(window.sum(now, 6).requests, 6);
  assert.equal(window.sum(now + 10 * SLOT_MS, SLOTS).requests, SLOTS - 10);
  window.add(now + SLOT_MS, false, 5);
  window.add(begin, true, 5);
  assert.equal(window.sum(now + SLOT_MS, SLOTS).requests, SLOTS);
  assert.deepEqual(window.series(now + SLOT_MS).requests, new Array(SLOTS).fill(1));
});

test('every time lands in the bucket that holds it, and quantiles are at most an eighth off', () => {
  for (let ms = 0; ms < 100_000; ms = ms < 100 ? ms + 1 : Math.round(ms * 1.07)) {
    const bucket = latencyBucket(ms);
    assert.ok(bucketStart(bucket) <= ms && ms < bucketStart(bucket + 1), `${ms}`);
    const counts = new Uint32Array(LATENCY_BUCKETS);
    counts[bucket] = 1;
    const found = quantile(counts, 0.95)!;
    assert.ok(Math.abs(found - ms) <= ms / 8 + 0.5, `${ms} became ${found}`);
  }
  assert.equal(latencyBucket(1e12), LATENCY_BUCKETS - 1);
  const counts = new Uint32Array(LATENCY_BUCKETS);
  for (let ms = 1; ms <= 1000; ms++) counts[latencyBucket(ms)]!++;
  for (const [q, ms] of [
    [0.5, 500],
    [0.95, 950],
    [0.99, 990],
  ] as const) {
    assert.ok(Math.abs(quantile(counts, q)! - ms) <= ms / 8);
  }
  assert.equal(quantile(new Uint32Array(LATENCY_BUCKETS), 0.5), null);
});

test("the exported histogram's bounds are inclusive", () => {
  assert.deepEqual([0, 5, 6, 10, 100, 101, 10_000, 10_001].map(secondsBucket), [0, 0, 1, 1, 4, 5, 10, 11]);
});

/** `requests` answers, of which `errors` failed; `times` are dealt out in turn. */
function tally(requests: number, errors: number, times: readonly number[]): Tally {
  const latency = new Uint32Array(LATENCY_BUCKETS);
  for (let i = 0; i < requests; i++) latency[latencyBucket(times[i % times.length]!)]!++;
  return { requests, errors, latency };
}

const usual = [3, 4, 5, 4, 3, 6, 5, 20, 4, 3, 5, 90, 4, 3, 5, 4, 6, 5, 4, 3];
/** What each is marked for. Each is an object of its own, also where a test names one twice. */
const kinds = (pods: readonly Tally[]) =>
  findOutliers(pods.map((pod) => ({ ...pod }))).map(({ outlier }) => outlier.map(({ kind }) => kind).join());

test('pods alike are not marked, at any number of requests', () => {
  for (const requests of [1, 20, 100, 1_000, 100_000]) {
    const pod = tally(requests, Math.floor(requests / 50), usual);
    assert.deepEqual(kinds([pod, pod, pod]), ['', '', '']);
  }
});

test('the pod whose errors grow is marked from some point on, and its siblings never', () => {
  const good = tally(200, 2, usual);
  const marks = [];
  for (let errors = 0; errors <= 60; errors++) {
    const [bad, ...others] = kinds([tally(200, errors, usual), good, good]);
    assert.deepEqual(others, ['', '']);
    marks.push(bad);
  }
  const first = marks.indexOf('errors');
  assert.ok(first >= 12 && first <= 30, `marked from ${first} errors of 200 on`);
  assert.ok(marks.slice(first).every((mark) => mark === 'errors'));
});

test('what is said of a slow pod is what sets it furthest apart', () => {
  const found = (times: readonly number[], siblings: readonly number[]) =>
    findOutliers([tally(400, 0, times), tally(400, 0, siblings), tally(400, 0, siblings)])[0]!.outlier[0]!;
  // Its every request is slow, and hardly one is slower than the siblings' slowest.
  const everySlow = found([...Array<number>(19).fill(150), 320], [...Array<number>(18).fill(25), 100, 140]);
  assert.ok(everySlow.share > 0.9 && everySlow.slowMs! < 80, JSON.stringify(everySlow));
  // One in five is slow, and the others are as the siblings'.
  const someSlow = found([...Array<number>(16).fill(25), 400, 400, 400, 400], Array<number>(20).fill(25));
  assert.equal(someSlow.share, 0.2);
});

test('what stands out is one sentence with the pod’s own figure and its siblings’', () => {
  const texts = (pods: Tally[]) => findOutliers(pods)[0]!.outlier.map(({ text }) => text);
  const good = tally(400, 0, [20, 21, 22]);
  assert.deepEqual(texts([tally(400, 0, [128]), good, good]), [
    '6.6 × slower than its siblings: p95 158 ms, theirs 24 ms',
  ]);
  assert.deepEqual(texts([tally(400, 100, [20, 21, 22]), good, good]), [
    '25 % of its requests fail, none of its siblings’',
  ]);
});

test('an odd pod with too few requests is called that, not passed over in silence', () => {
  const few = (pods: Tally[]) => findOutliers(pods.map((pod) => ({ ...pod }))).map(({ tooFew }) => tooFew);
  const good = tally(400, 0, usual);
  assert.deepEqual(few([tally(12, 6, usual), good, good]), [true, false, false]);
  assert.deepEqual(few([tally(24, 4, usual), good, good]), [true, false, false], 'four errors of 24');
  assert.deepEqual(few([tally(400, 100, usual), good, good]), [false, false, false], 'it is marked');
  assert.deepEqual(few([tally(5, 5, usual)]), [false], 'a pod alone has nothing to be compared with');
  assert.deepEqual(few([tally(0, 0, usual), good]), [false, false]);
});

test('attempts without a pod count in the upstream’s share, and each upstream has their reason', () => {
  const { blocks, end } = settledDemo();
  const pods = new PodTable(() => undefined);
  const spoilt = blocks.map((block, b) => ({
    ...block,
    outcomes: block.outcomes.map((each) =>
      each.map((outcome) =>
        b % 4 === 0 ? outcome : ({ reason: b === 1 ? 'late' : 'ambiguous' } as Outcome),
      ),
    ),
  }));
  for (const block of spoilt) pods.add(block, end);
  const recent = pods.unresolved.recent(end, SLOTS);
  assert.equal(recent.length, 2);
  const attempts = blocks.reduce((sum, { outcomes }) => sum + outcomes.flat().length, 0);
  const found = [...pods.all(end)].reduce((sum, { requests }) => sum + requests, 0);
  assert.equal(recent.reduce((sum, { requests }) => sum + requests, 0) + found, attempts);
  for (const { reason } of recent) assert.equal(reason, 'ambiguous');
  assert.deepEqual(pods.unresolved.recent(end + GONE_MS, SLOTS), []);
});

test('the number of upstreams with attempts without a pod is bounded, and what goes beyond is counted', () => {
  const { blocks, end } = settledDemo();
  const line = blocks[0]!.lines[0]!;
  const pods = new PodTable(() => undefined);
  const parsed = line.parsed as ParsedLine;
  for (let n = 0; n < 250; n++) {
    const attempts = [{ ...parsed.attempts[0]!, ip: `10.2.0.${n}` }];
    const lines = [{ ...line, parsed: { ...parsed, attempts } as unknown as ParsedLine }];
    pods.add({ lines, outcomes: [[{ reason: 'no-flow' }]], readAt: end }, end);
  }
  assert.equal(pods.unresolved.counters.refused, 50);
});

test('the pod whose times grow is marked from twice and 10 ms on', () => {
  const good = tally(300, 0, usual);
  const slow = (factor: number) =>
    kinds([
      good,
      tally(
        300,
        0,
        usual.map((ms) => ms * factor),
      ),
      good,
      good,
    ]);
  assert.deepEqual(slow(1), ['', '', '', '']);
  assert.deepEqual(slow(1.5), ['', '', '', '']);
  assert.deepEqual(slow(10), ['', 'latency', '', '']);
});

test('a pod of which only the slowest tenth is slow is marked', () => {
  const tail = usual.map((ms, i) => (i % 10 === 0 ? 2_000 : ms));
  assert.deepEqual(kinds([tally(400, 0, usual), tally(400, 0, tail), tally(400, 0, usual)]), [
    '',
    'latency',
    '',
  ]);
});

test('two bad pods do not hide each other among five', () => {
  const good = tally(300, 1, usual);
  const bad = tally(300, 60, usual);
  assert.deepEqual(kinds([good, bad, good, bad, good]), ['', 'errors', '', 'errors', '']);
});

test('what chance may well have done is not marked; the same share of more requests is', () => {
  const good = tally(1_000, 30, usual);
  assert.deepEqual(kinds([tally(40, 5, usual), good, good]), ['', '', '']);
  assert.deepEqual(kinds([tally(400, 50, usual), good, good]), ['errors', '', '']);
});

test('of two pods the bad one is marked', () => {
  assert.deepEqual(kinds([tally(300, 0, usual), tally(300, 60, usual)]), ['', 'errors']);
});

test('a pod alone, or with few requests, is not marked', () => {
  assert.deepEqual(kinds([tally(1_000, 1_000, usual)]), ['']);
  assert.deepEqual(kinds([tally(19, 19, usual), tally(1_000, 0, usual)]), ['', '']);
  assert.deepEqual(kinds([tally(1_000, 500, usual), tally(19, 0, usual)]), ['', '']);
});

test('chance alone marks almost no pod', () => {
  // A linear congruential generator, so that a failure can be repeated.
  let seed = 7;
  const random = () => {
    seed = (seed * 1_664_525 + 1_013_904_223) % 2 ** 32;
    return seed / 2 ** 32;
  };
  let marked = 0;
  for (let round = 0; round < 1_000; round++) {
    const pods = [50, 200, 800, 3_000].map((requests) => {
      let errors = 0;
      const latency = new Uint32Array(LATENCY_BUCKETS);
      for (let i = 0; i < requests; i++) {
        if (random() < 0.02) errors++;
        // Long-tailed, as response times are.
        latency[latencyBucket(Math.floor(5 * Math.exp(2 * random() * random() * 1.5)))]!++;
      }
      return { requests, errors, latency };
    });
    marked += kinds(pods).filter(Boolean).length;
  }
  assert.ok(marked <= 4, `${marked} of 4,000 marked`);
});
