import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TIMING_LIMITS, type TimingLimits } from '../../src/inferred/timing.ts';
import { testSeed } from '../model/seed.ts';
import { playTiming, type TimingScore } from '../model/timing-play.ts';
import { simulateTiming, type TimingPlan } from '../model/timing-traffic.ts';
import { seededRandom } from '../model/traffic.ts';

const RUNS = Number(process.env.REALPOD_JOIN_RUNS ?? 300);
const SEED = testSeed();

/** An nginx with a connection for each attempt, backends that answer in a few ms, nothing unusual. */
const PLAIN: TimingPlan = {
  seed: 1,
  pods: 4,
  requests: 2500,
  rate: 100,
  paced: true,
  turnMs: 0.3,
  resolutionMs: 0,
  jiffyMs: 0,
  tookMs: 2,
  slowBodies: 0,
  slowClients: 0,
  retries: 0,
  refused: 0,
  unseenRefusals: 0,
  aborts: 0,
  unlogged: 0,
  pool: 0,
  keptMs: 60_000,
  requestsPerConnection: 1000,
  lingerMs: 1,
  losses: 0,
  exact: false,
  promptMs: 0,
  how: true,
  twiceShut: 0,
  counted: 0,
  sizes: 0,
  resent: 0,
};

/** A memory in which hardly anything fits. */
const SMALL: TimingLimits = { flows: 40, attempts: 30, candidates: 6 };

function randomPlan(seed: number): TimingPlan {
  const random = seededRandom(seed);
  const coin = (): boolean => random() < 0.5;
  const share = (most: number): number => (coin() ? 0 : random() * most);
  return {
    seed,
    pods: 2 + Math.floor(random() * 4),
    requests: 300,
    rate: 10 ** (0.5 + random() * 3),
    paced: coin(),
    turnMs: 10 ** (random() * 2.5 - 1),
    resolutionMs: random() < 0.2 ? 10 ** (random() * 1.5 + 0.7) : 0,
    jiffyMs: random() < 0.2 ? 10 : 0,
    tookMs: 10 ** (random() * 3 - 0.5),
    slowBodies: share(1),
    slowClients: share(0.5),
    retries: share(0.5),
    refused: share(0.2),
    unseenRefusals: share(1),
    aborts: share(0.4),
    unlogged: share(1),
    pool: coin() ? 0 : 1 + Math.floor(random() * 8),
    // No backend and no nginx gives up idle connections sooner than after some hundred ms.
    keptMs: 10 ** (2.7 + random() * 2.5),
    requestsPerConnection: coin() ? 1000 : 1 + Math.floor(random() * 20),
    lingerMs: 10 ** (random() * 3 - 1),
    losses: share(0.1),
    exact: coin(),
    promptMs: coin() ? 0 : 10 ** (random() * 2.5 - 1),
    how: coin(),
    twiceShut: share(0.3),
    counted: share(1),
    sizes: coin() ? 0 : 10 ** (1 + random() * 4),
    resent: share(0.3),
  };
}

function play(plan: Partial<TimingPlan>, limits?: TimingLimits): TimingScore {
  const { feed, lines } = simulateTiming({ ...PLAIN, ...plan });
  const score = playTiming(feed, lines, limits);
  assert.deepEqual(score.wrong.slice(0, 1), [], JSON.stringify({ ...PLAIN, ...plan }));
  return score;
}

const covered = ({ right, attempts }: TimingScore): number => right / attempts;

test('no random mix of traffic makes the deduction name a pod that did not answer', () => {
  let named = 0;
  for (let run = 0; run < RUNS; run++) {
    const plan = randomPlan(SEED + run);
    const { feed, lines } = simulateTiming(plan);
    const score = playTiming(feed, lines, run % 3 === 0 ? SMALL : TIMING_LIMITS);
    assert.deepEqual(
      score.wrong.slice(0, 1),
      [],
      `REALPOD_SEED=${SEED} fails at run ${run}: ${JSON.stringify(plan)}`,
    );
    named += score.right;
  }
  // In most mixes something speaks against naming; from 30 to 1,300 attempts were seen to be named in 300 runs.
  if (RUNS >= 300) assert.ok(named > RUNS / 100, `REALPOD_SEED=${SEED}: only ${named} attempts named`);
});

test('at 100 requests a second nearly every line is named, with either kind of event time', () => {
  assert.ok(covered(play({})) > 0.93);
  assert.ok(covered(play({ exact: true })) > 0.95);
});

test("with the kernel's times, 300 requests a second are named", () => {
  assert.ok(covered(play({ exact: true, rate: 300 })) > 0.9);
});

test('clients that go away do not hide the other lines', () => {
  assert.ok(covered(play({ aborts: 0.2 })) > 0.9);
});

test('refused attempts leave the serving attempt its pod', () => {
  const { feed, lines } = simulateTiming({ ...PLAIN, retries: 0.2 });
  const serving = lines.map((each) => ({
    ...each,
    truth: each.truth.map((pod, k) => (k === each.truth.length - 1 ? pod : undefined)),
  }));
  const score = playTiming(feed, serving);
  assert.deepEqual(score.wrong, []);
  assert.ok(covered(score) > 0.9, `${covered(score)}`);
});

test('with upstream keepalive nothing is named', () => {
  assert.ok(covered(play({ pool: 8, rate: 300 })) === 0);
});

test('a pool of one beside unlogged requests is not taken for a connection a request', () => {
  for (let seed = 1; seed <= 40; seed++) {
    for (const rate of [2, 10, 50]) {
      play({ seed, pool: 1, unlogged: 1, rate, requests: 150 });
      play({ seed, pool: 2, unlogged: 0.7, rate, requests: 150, keptMs: 400, requestsPerConnection: 3 });
    }
  }
});

test('one request that is not logged makes the lines around it stay as they are', () => {
  assert.equal(play({ unlogged: 0.5 }).right, 0);
});

test('with timer_resolution nothing is named that the coarse clock could have hidden', () => {
  for (const resolutionMs of [5, 10, 50, 100, 200]) {
    for (let seed = 1; seed <= 10; seed++) {
      const score = play({ seed, resolutionMs, rate: 20, requests: 300, tookMs: 20 });
      if (resolutionMs >= 50) assert.equal(score.right, 0);
    }
  }
});

test('a clock of jiffies that is read only now and then is not taken for a finer one', () => {
  for (let seed = 1; seed <= 200; seed++) {
    play({
      seed,
      requests: 300,
      rate: 180,
      paced: false,
      turnMs: 4.6,
      tookMs: 22,
      resolutionMs: 16.5,
      jiffyMs: 10,
      exact: true,
    });
  }
});

test('an attempt that may have had no connection explains one connection left over, not all', () => {
  // Of 40,000 random mixes the two that named a wrong pod: requests that are not logged, a pool, refusals, retries.
  for (const seed of [446328409, 446333952]) {
    const { feed, lines } = simulateTiming(randomPlan(seed));
    assert.deepEqual(playTiming(feed, lines).wrong, []);
  }
});

test('while events are lost nothing is named', () => {
  assert.equal(play({ losses: 1 }).right, 0);
});

test('what does not fit into memory is left alone', () => {
  const score = play({ rate: 2000, requests: 3000 }, SMALL);
  assert.ok(covered(score) < 0.5);
  assert.ok(score.counters.forgotten > 0);
});

test('attempts with too many connections to choose from are left alone, and the others are named', () => {
  const plan = { rate: 1000, requests: 4000, tookMs: 20, turnMs: 5, exact: true, sizes: 60_000, counted: 1 };
  const score = play(plan, { ...TIMING_LIMITS, candidates: 12 });
  assert.ok(score.counters.tooMany > 1000, `${score.counters.tooMany}`);
  assert.ok(covered(score) > 0.9, `${covered(score)}`);
});

test('answers of a tenth of a second do not count as connections that were kept', () => {
  const plan = { rate: 1000, requests: 4000, tookMs: 120, exact: true, sizes: 60_000, counted: 1 };
  const share = covered(play(plan));
  assert.ok(share > 0.9, `${share}`);
});

test('lines that are read later and later are waited for, and no sign of requests that are not logged', () => {
  const { feed, lines } = simulateTiming({ ...PLAIN, requests: 4000 });
  const begin = lines[1000]!.readAt;
  for (const line of lines) {
    // Ever later for six seconds, by up to three, and then in time again.
    const since = line.readAt - begin;
    line.readAt += Math.max(0, Math.min(since, 12_000 - since)) / 2;
  }
  const score = playTiming(feed, lines);
  assert.deepEqual(score.wrong, []);
  assert.ok(covered(score) > 0.9, `${covered(score)}`);
});

test('where sizes vary, byte counts name what times leave open, at any rate', () => {
  for (const exact of [false, true]) {
    const plan = { rate: 1000, exact, sizes: 60_000, requests: 4000 };
    assert.ok(covered(play(plan)) < 0.7);
    const counted = covered(play({ ...plan, counted: 1 }));
    assert.ok(counted > 0.9, `${counted}`);
  }
});

test('byte counts of one size, with longer headers or with packets sent twice, mislead nobody', () => {
  let named = 0;
  for (let seed = 1; seed <= 12; seed++) {
    for (const sizes of [0, 30, 300, 3000]) {
      named += play({
        seed,
        sizes,
        counted: 1,
        resent: seed % 2 === 0 ? 0.2 : 0,
        rate: 300,
        requests: 500,
      }).right;
    }
  }
  assert.ok(named > 1000, `${named}`);
});

test('a connection that counts as finished before nginx has looked at it is not taken for over', () => {
  for (const turnMs of [2, 5]) {
    const score = play({ twiceShut: 0.4, turnMs, rate: 150, tookMs: 8, requests: 1000, exact: true });
    assert.ok(covered(score) > 0.8, `${covered(score)}`);
    assert.equal(score.counters.unmatched, 0);
  }
});
