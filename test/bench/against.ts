/** Two builds beside the same nginx, in turns: what other work on the machine costs, it costs both. */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { labCanRun } from '../lab/kit/requirements.ts';
import { buildOf, git } from './build-of.ts';
import { median, type Runs, table } from './figure.ts';
import { type Idle, LiveBench, type Steady } from './live.ts';

interface Side {
  name: string;
  /** The directory of the build. */
  dist: string;
}

export interface Plan {
  rounds: number;
  /** What V8 compiles meanwhile is not measured: it begins after so many calls, which at a low rate take minutes. */
  warmUp: readonly { rate: number; seconds: number }[];
  /** Requests a second, in this order; a rate may come several times. */
  rates: readonly number[];
  /** Seconds of each measurement. */
  secondsAt(rate: number): number;
  /** 0: being idle is not measured. */
  idleSeconds: number;
}

interface Found {
  steady: Map<number, Steady[]>;
  idle: Idle[];
}

const QUICK: Plan = {
  rounds: 1,
  warmUp: [{ rate: 5_000, seconds: 4 }],
  rates: [100, 5_000],
  secondsAt: () => 4,
  idleSeconds: 0,
};
const BUSY: Plan = {
  rounds: 3,
  warmUp: [{ rate: 5_000, seconds: 10 }],
  rates: [1_000, 5_000, 12_000],
  secondsAt: () => 6,
  idleSeconds: 0,
};
/** A sidecar lives for days, and most of them are quiet. */
const QUIET: Plan = {
  rounds: 1,
  warmUp: [
    { rate: 5_000, seconds: 5 },
    { rate: 100, seconds: 180 },
  ],
  rates: [100, 100, 100],
  secondsAt: () => 12,
  idleSeconds: 20,
};

/** Needs the lab. Each round measures every side; every second round in the other order. */
export async function inTurns(sides: readonly Side[], plan: Plan): Promise<Map<string, Found>> {
  const all = new Map<string, Found>(sides.map(({ name }) => [name, { steady: new Map(), idle: [] }]));
  const bench = await LiveBench.open();
  try {
    for (let round = 0; round < plan.rounds; round++) {
      for (const { name, dist } of round % 2 === 0 ? sides : sides.toReversed()) {
        const { steady, idle } = all.get(name)!;
        await bench.on(join(dist, 'cli.js'));
        for (const { rate, seconds } of plan.warmUp) await bench.steady(rate, seconds);
        for (const rate of plan.rates) {
          // What the rate before has left in the feed and in V8 is no part of this one.
          await delay(500);
          const seconds = plan.secondsAt(rate);
          steady.set(rate, [...(steady.get(rate) ?? []), await bench.steady(rate, seconds)]);
        }
        if (plan.idleSeconds > 0 && round === 0) idle.push(await bench.idle(plan.idleSeconds));
        await bench.off();
      }
    }
  } finally {
    await bench.close();
  }
  return all;
}

/** Medians, a row for each rate and side. CPU in µs a request. */
function turnsTable(found: ReadonlyMap<string, Found>, rates: readonly number[]): string {
  const rows: string[][] = [];
  for (const rate of rates) {
    for (const [name, { steady }] of found) {
      const runs = steady.get(rate)!;
      const of = (pick: (run: Steady) => number, digits = 1): string =>
        median(runs.map(pick) as Runs).toFixed(digits);
      const requests = runs.reduce((sum, run) => sum + run.requests, 0);
      const named = runs.reduce((sum, run) => sum + run.resolved, 0);
      rows.push([
        rate.toLocaleString('en'),
        name,
        of((run) => run.achieved, 0),
        of((run) => run.nginxMs),
        of((run) => run.sidecarMs),
        of((run) => run.helperMs),
        `${of((run) => run.delays.median, 0)}, ${of((run) => run.delays.p99, 0)}`,
        `${of((run) => run.wakeUps.sidecar, 0)}, ${of((run) => run.wakeUps.helper, 0)}`,
        `${of((run) => run.anonymousMb.sidecar, 0)}, ${of((run) => run.anonymousMb.helper, 0)}`,
        `${of((run) => run.sidecarMb, 0)}, ${of((run) => run.helperMb, 0)}`,
        `${named.toLocaleString('en')} of ${requests.toLocaleString('en')}`,
      ]);
    }
  }
  const head = [
    'requests/s',
    'build',
    'answered/s',
    'nginx, µs',
    'sidecar, µs',
    'helper, µs',
    'delay p50, p99 (ms)',
    'wake-ups/s, sidecar, helper',
    'anonymous MB',
    'resident MB, at most',
    'named',
  ];
  return table(head, rows);
}

function idleLines(found: ReadonlyMap<string, Found>): string[] {
  return [...found].flatMap(([name, { idle }]) =>
    idle.map(
      ({ sidecar, helper, sidecarMb, helperMb }) =>
        `* Idle, ${name}: sidecar ${(sidecar * 100).toFixed(3)} % of a core and ${sidecarMb.toFixed(0)} MB resident, helper ${(helper * 100).toFixed(3)} % and ${helperMb.toFixed(0)} MB.`,
    ),
  );
}

/** The commit `ref` and the build in `dist`: medians of three, in about 15 minutes; `quick`: one round. */
export async function liveAgainst(ref: string, dist: string, dir: string, quick: boolean): Promise<string> {
  if (!labCanRun()) return 'Not run: the lab needs root and its tools (test/lab/install.sh).';
  const base = buildOf(ref, dir);
  try {
    const sides = [
      { name: git('log', '-1', '--format=%h', ref), dist: base.dist },
      { name: 'here', dist },
    ];
    const tables: string[] = [];
    for (const plan of quick ? [QUICK] : [BUSY, QUIET]) {
      const found = await inTurns(sides, plan);
      tables.push(turnsTable(found, [...new Set(plan.rates)]), ...idleLines(found));
    }
    return tables.join('\n\n');
  } finally {
    base.remove();
  }
}
