import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FlowIndex } from '../../src/join/index/flow-index.ts';
import { DEFAULT_LIMITS, type IndexLimits } from '../../src/join/index/limits.ts';
import { matchLine } from '../../src/join/match.ts';
import { lineEnd } from '../../src/join/window.ts';
import { isResolved } from '../../src/model/outcome.ts';
import { testSeed } from '../model/seed.ts';
import { seededRandom, simulate, type TrafficPlan } from '../model/traffic.ts';

const RUNS = Number(process.env.REALPOD_JOIN_RUNS ?? 300);
const SEED = testSeed();

interface Score {
  right: number;
  wrong: string[];
  left: Record<string, number>;
  evidence: Record<string, number>;
}

/** Plays a plan's feed and lines against the join in the order of time, and compares each claim with the truth. */
function play(plan: TrafficPlan, limits: IndexLimits = DEFAULT_LIMITS): Score {
  const { feed, lines } = simulate(plan);
  const index = new FlowIndex(limits);
  const score: Score = { right: 0, wrong: [], left: {}, evidence: {} };
  let next = 0;
  for (const { line, readAt, truth } of lines) {
    const needs = lineEnd(line, readAt);
    while (next < feed.length && (feed[next]!.at <= readAt || index.coverage.watermark < needs)) {
      index.apply(feed[next++]!.record);
    }
    let match = matchLine(line, readAt, index);
    while (match.retryAtNextWatermark && next < feed.length && index.coverage.watermark < needs + 100) {
      do index.apply(feed[next]!.record);
      while (feed[next++]!.record.kind !== 'tick' && next < feed.length);
      match = matchLine(line, readAt, index);
    }
    index.markMatched(match.matched);
    match.outcomes.forEach((outcome, k) => {
      if (!isResolved(outcome)) {
        score.left[outcome.reason] = (score.left[outcome.reason] ?? 0) + 1;
        return;
      }
      const said = `${outcome.ip}:${outcome.port}`;
      score.evidence[outcome.evidence] = (score.evidence[outcome.evidence] ?? 0) + 1;
      if (said === truth[k]) score.right++;
      else
        score.wrong.push(
          `attempt ${k} of ${JSON.stringify(line)}: said ${said} by ${outcome.evidence}, was ${truth[k]}`,
        );
    });
  }
  return score;
}

const QUIET: TrafficPlan = {
  seed: 1,
  pods: 4,
  services: 2,
  requests: 400,
  rate: 500,
  keepalive: true,
  mirrors: 0,
  auths: 0,
  retries: 0,
  refused: 0,
  clientIds: 0,
  lostIds: 0,
  rewritten: 0,
  slowClients: 0,
  earlyCloses: 0,
  hidden: 0,
  turnMs: 1,
  logs: { id: true, times: true, upstreamTimes: true, status: true, bytes: true, localPort: false },
  losses: 0,
};

/** Everything has to be forgotten early. */
const SMALL: IndexLimits = { connections: 12, requests: 4, matchedRequests: 2, services: 2 };

function randomPlan(seed: number): TrafficPlan {
  const random = seededRandom(seed);
  const share = (most: number): number => (random() < 0.5 ? 0 : random() * most);
  const coin = (): boolean => random() < 0.5;
  return {
    seed,
    pods: 1 + Math.floor(random() * 5),
    services: 1 + Math.floor(random() * 2),
    requests: 150,
    rate: 10 ** (0.5 + random() * 3),
    keepalive: coin(),
    mirrors: share(0.5),
    auths: share(0.5),
    retries: share(0.3),
    refused: share(0.2),
    clientIds: share(0.3),
    lostIds: share(1),
    rewritten: share(1),
    slowClients: share(0.3),
    earlyCloses: share(0.5),
    hidden: share(0.5),
    turnMs: 10 ** (random() * 2.5 - 0.5),
    logs: {
      id: coin(),
      times: coin(),
      upstreamTimes: coin(),
      status: coin(),
      bytes: coin(),
      localPort: random() < 0.25,
    },
    losses: share(0.05),
  };
}

test('no random mix of traffic makes the join name a pod that did not answer', () => {
  const evidence: Record<string, number> = {};
  for (let run = 0; run < RUNS; run++) {
    const plan = randomPlan(SEED + run);
    // With so little memory, a forgotten sighting of a repeated id shows only where the line says when, and that it was sent.
    if (run % 2 === 1) Object.assign(plan.logs, { status: true, times: true });
    const score = play(plan, run % 2 === 0 ? DEFAULT_LIMITS : SMALL);
    assert.deepEqual(
      score.wrong.slice(0, 1),
      [],
      `REALPOD_SEED=${SEED} fails at run ${run}: ${JSON.stringify(plan)}`,
    );
    for (const [name, count] of Object.entries(score.evidence))
      evidence[name] = (evidence[name] ?? 0) + count;
  }
  if (RUNS > 1) {
    for (const name of ['request-id', 'source-port', 'sole-backend', 'request-window']) {
      assert.ok((evidence[name] ?? 0) > 0, `${name} never settled anything: ${JSON.stringify(evidence)}`);
    }
  }
});

test('with the id forwarded and logged, every request is resolved by it', () => {
  for (const keepalive of [true, false]) {
    for (const logs of [
      QUIET.logs,
      { ...QUIET.logs, times: false, upstreamTimes: false, status: false, bytes: false },
    ]) {
      const score = play({ ...QUIET, keepalive, logs });
      assert.deepEqual(score.wrong, []);
      assert.equal(score.evidence['request-id'], QUIET.requests, JSON.stringify(score.left));
    }
  }
});

test('a mirror to the same Service leaves lines alone rather than guessing', () => {
  const score = play({ ...QUIET, services: 1, mirrors: 1 });
  assert.deepEqual(score.wrong, []);
  assert.ok((score.left.ambiguous ?? 0) > QUIET.requests / 4, JSON.stringify(score));
});

test('without an id, one backend is the answer and several are ambiguous', () => {
  const logs = { ...QUIET.logs, id: false };
  const one = play({ ...QUIET, pods: 1, logs });
  assert.deepEqual(one.wrong, []);
  assert.equal(one.evidence['sole-backend'], QUIET.requests);
  const several = play({ ...QUIET, services: 1, rate: 5_000, logs: { ...logs, bytes: false } });
  assert.deepEqual(several.wrong, []);
  assert.ok((several.left.ambiguous ?? 0) > QUIET.requests * 0.8, JSON.stringify(several.left));
});

test('with the local port, the port settles it', () => {
  const score = play({ ...QUIET, logs: { ...QUIET.logs, id: false, localPort: true } });
  assert.deepEqual(score.wrong, []);
  // By the first lines of each Service it is learned that the port is that of its connections.
  assert.ok(
    score.evidence['source-port']! >= QUIET.requests - 2 * QUIET.services,
    JSON.stringify(score.left),
  );
});

test('over a gap nothing is claimed', () => {
  const score = play({ ...QUIET, losses: 1 });
  assert.deepEqual(score.wrong, []);
  assert.equal(score.right, 0);
  assert.ok((score.left.gap ?? 0) > 0);
});
