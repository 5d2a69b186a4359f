/** What the project wants its programs to cost, beside what was seen. */
import { median, type Runs, table } from './figure.ts';
import type { Idle, Pair, Steady } from './live.ts';

/** What was measured of one build. */
export interface Found {
  steady: Map<number, Steady[]>;
  idle: Idle[];
  saturated: Pair[];
  /** How long a look-up took (ms). */
  lookupMs: number[];
}

/** CPU µs a request, at most, by requests a second. */
const CPU_GOALS: readonly [rate: number, sidecar: number, helper: number][] = [
  [100, 100, 100],
  [1_000, 35, 20],
  [5_000, 8, 5],
  [12_000, 6, 4],
];
const IDLE_GOAL = 0.05;
const RESIDENT_GOAL = { sidecar: 64, helper: 80 };
/** At which rate the resident memory counts. */
const RESIDENT_RATE = 5_000;
const DELAY_GOAL = { median: 70, p99: 200 };
const LOOKUP_GOAL = 20;
const SATURATED_GOAL = 85;

type Goal = [what: string, goal: string, seen: string, met: boolean];

const medianOf = <T>(all: readonly T[], pick: (one: T) => number): number => median(all.map(pick) as Runs);

function steadyGoals(rate: number, runs: readonly Steady[]): Goal[] {
  const goals: Goal[] = [];
  const [, sidecar, helper] = CPU_GOALS.find(([at]) => at === rate) ?? [];
  if (sidecar !== undefined && helper !== undefined) {
    const seen = [medianOf(runs, (run) => run.sidecarMs), medianOf(runs, (run) => run.helperMs)] as const;
    goals.push([
      `CPU at ${rate.toLocaleString('en')}/s, sidecar and helper, µs a request`,
      `≤ ${sidecar} and ${helper}`,
      seen.map((us) => us.toFixed(1)).join(' and '),
      seen[0] <= sidecar && seen[1] <= helper,
    ]);
  }
  if (rate === RESIDENT_RATE) {
    const seen = [medianOf(runs, (run) => run.sidecarMb), medianOf(runs, (run) => run.helperMb)] as const;
    goals.push([
      `resident at most, ${rate.toLocaleString('en')}/s, MB`,
      `≤ ${RESIDENT_GOAL.sidecar} and ${RESIDENT_GOAL.helper}`,
      seen.map((mb) => mb.toFixed(0)).join(' and '),
      seen[0] <= RESIDENT_GOAL.sidecar && seen[1] <= RESIDENT_GOAL.helper,
    ]);
  }
  const [middle, late] = [
    medianOf(runs, (run) => run.delays.median),
    medianOf(runs, (run) => run.delays.p99),
  ];
  goals.push([
    `delay at ${rate.toLocaleString('en')}/s, p50 and p99, ms`,
    `≤ ${DELAY_GOAL.median} and ${DELAY_GOAL.p99}`,
    `${middle.toFixed(0)} and ${late.toFixed(0)}`,
    middle <= DELAY_GOAL.median && late <= DELAY_GOAL.p99,
  ]);
  const [named, all] = [sum(runs, (run) => run.resolved), sum(runs, (run) => run.requests)];
  goals.push([
    `named at ${rate.toLocaleString('en')}/s`,
    'all',
    `${named.toLocaleString('en')} of ${all.toLocaleString('en')}`,
    named === all,
  ]);
  return goals;
}

function sum<T>(all: readonly T[], pick: (one: T) => number): number {
  return all.reduce((total, one) => total + pick(one), 0);
}

/** One row for each goal that these measurements of one build tell of. */
export function goalsTable(found: readonly Found[]): string {
  const goals: Goal[] = [];
  for (const { steady, idle, saturated, lookupMs } of found) {
    for (const [rate, runs] of steady) goals.push(...steadyGoals(rate, runs));
    for (const { sidecar, helper } of idle) {
      const seen = [100 * sidecar, 100 * helper] as const;
      goals.push([
        'idle, sidecar and helper, % of a core',
        `≤ ${IDLE_GOAL} each`,
        seen.map((share) => share.toFixed(3)).join(' and '),
        seen.every((share) => share <= IDLE_GOAL),
      ]);
    }
    if (lookupMs.length > 0) {
      const seen = median(lookupMs);
      goals.push(['a look-up, ms', `≤ ${LOOKUP_GOAL}`, seen.toFixed(1), seen <= LOOKUP_GOAL]);
    }
    if (saturated.length > 0) {
      const seen = medianOf(saturated, ({ on, off }) => (100 * on.perSecond) / off.perSecond);
      goals.push([
        'nginx saturated, % of its throughput without',
        `≥ ${SATURATED_GOAL}`,
        seen.toFixed(0),
        seen >= SATURATED_GOAL,
      ]);
    }
  }
  const rows = goals.map(([what, goal, seen, met]) => [what, goal, seen, met ? 'yes' : 'no']);
  return table(['goal', 'asked', 'seen', 'met'], rows);
}
