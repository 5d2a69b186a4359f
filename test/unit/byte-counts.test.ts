import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FlowIndex } from '../../src/join/index/flow-index.ts';
import { matchLine } from '../../src/join/match.ts';
import { COUNTED_SLACK_MS } from '../../src/join/rules/byte-counts.ts';
import { lineEnd } from '../../src/join/window.ts';
import { isResolved } from '../../src/model/outcome.ts';
import { type HeaderPlan, simulateHeaders } from '../model/header-traffic.ts';
import { testSeed } from '../model/seed.ts';
import { seededRandom } from '../model/traffic.ts';

const RUNS = Number(process.env.REALPOD_JOIN_RUNS ?? 300);
const SEED = testSeed();

interface Score {
  lines: number;
  right: number;
  wrong: string[];
  evidence: Record<string, number>;
  left: Record<string, number>;
}

const PLAIN: HeaderPlan = {
  seed: 1,
  pods: 4,
  requests: 1500,
  rate: 1000,
  keepalive: true,
  sizes: 20_000,
  uploads: 0,
  early: 0,
  unlogged: 0,
  aborts: 0,
  slowClients: 0,
  turnMs: 0.5,
  overhead: 0,
  losses: 0,
};

function play(changes: Partial<HeaderPlan>): Score {
  const plan = { ...PLAIN, ...changes };
  const { feed, lines } = simulateHeaders(plan);
  const index = new FlowIndex();
  const score: Score = { lines: lines.length, right: 0, wrong: [], evidence: {}, left: {} };
  let next = 0;
  for (const { line, readAt, truth } of lines) {
    const needs = lineEnd(line, readAt, COUNTED_SLACK_MS);
    while (next < feed.length && (feed[next]!.at <= readAt || index.coverage.watermark < needs))
      index.apply(feed[next++]!.record);
    const match = matchLine(line, readAt, index);
    index.markMatched(match.matched);
    const outcome = match.outcomes[0]!;
    if (!isResolved(outcome)) {
      score.left[outcome.reason] = (score.left[outcome.reason] ?? 0) + 1;
    } else if (`${outcome.ip}:${outcome.port}` === truth) {
      score.right++;
      score.evidence[outcome.evidence] = (score.evidence[outcome.evidence] ?? 0) + 1;
    } else {
      score.wrong.push(`${JSON.stringify(line)}: said ${outcome.ip} by ${outcome.evidence}, was ${truth}`);
    }
  }
  assert.deepEqual(score.wrong.slice(0, 1), [], `${score.wrong.length} wrong: ${JSON.stringify(plan)}`);
  return score;
}

function randomPlan(seed: number): Partial<HeaderPlan> {
  const random = seededRandom(seed);
  const coin = (): boolean => random() < 0.5;
  const share = (most: number): number => (coin() ? 0 : random() * most);
  return {
    seed,
    pods: 2 + Math.floor(random() * 4),
    requests: 300,
    rate: 10 ** (random() * 4 - 0.5),
    keepalive: random() < 0.7,
    sizes: Math.ceil(10 ** (random() * 4)),
    uploads: share(1),
    early: share(1),
    unlogged: share(0.6),
    aborts: share(0.3),
    slowClients: share(0.3),
    turnMs: 10 ** (random() * 2.5 - 1),
    overhead: random() < 0.15 ? 22 : 0,
    losses: share(0.1),
  };
}

test('no random mix of traffic makes byte counts name a pod that did not answer', () => {
  let named = 0;
  for (let run = 0; run < RUNS; run++) named += play(randomPlan(SEED + run)).right;
  if (RUNS > 1) assert.ok(named > RUNS, `only ${named} lines named`);
});

test('with answers of varied sizes nearly every line is named by its byte counts', () => {
  for (const keepalive of [true, false]) {
    const { right, lines, left } = play({ keepalive });
    assert.ok(right > 0.97 * lines, JSON.stringify(left));
  }
});

test('clients that go away in the middle leave lines that are right or left alone', () => {
  const { right, lines } = play({ aborts: 0.2 });
  assert.ok(right > 0.6 * lines, `${right} of ${lines}`);
});

test('with TLS, whose bytes are not those in the log, time alone names lines', () => {
  const busy = play({ overhead: 22 });
  assert.ok(busy.right < 0.1 * busy.lines, JSON.stringify(busy.evidence));
  const quiet = play({ overhead: 22, rate: 1, requests: 60 });
  assert.ok(quiet.right > 0.9 * quiet.lines, JSON.stringify(quiet.left));
});

test('quiet traffic is named whatever its sizes', () => {
  for (const keepalive of [true, false]) {
    const { right, lines, left } = play({ keepalive, sizes: 1, rate: 1, requests: 60 });
    assert.ok(right > 0.9 * lines, JSON.stringify(left));
  }
});

test('where every upload is answered before it is read, nothing is named by byte counts', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const { evidence } = play({ seed, uploads: 1, early: 1, sizes: 3, requests: 300 });
    assert.equal(evidence['request-window'] ?? 0, 0);
  }
});

test('while packets are lost nothing is named', () => {
  assert.equal(play({ losses: 1 }).evidence['request-window'] ?? 0, 0);
});
