/** Two builds beside the same nginx, in turns: what other work on the machine costs, it costs both. */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { labCanRun } from '../lab/kit/requirements.ts';
import { buildOf, git } from './build-of.ts';
import { median, type Runs, table } from './figure.ts';
import { type Found, goalsTable } from './goals.ts';
import { LiveBench, type Pair, type Programs, type Steady } from './live.ts';

interface Side {
  name: string;
  programs: Programs;
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
  /** As fast as nginx can, with the programs and without; 0: not measured. */
  saturatedSeconds: number;
  lookups: number;
}

const QUICK: Plan = {
  rounds: 1,
  warmUp: [{ rate: 5_000, seconds: 4 }],
  rates: [100, 5_000],
  secondsAt: () => 4,
  idleSeconds: 4,
  saturatedSeconds: 3,
  lookups: 5,
};
const BUSY: Plan = {
  rounds: 3,
  warmUp: [{ rate: 5_000, seconds: 10 }],
  rates: [1_000, 5_000, 12_000],
  secondsAt: () => 6,
  idleSeconds: 0,
  saturatedSeconds: 4,
  lookups: 0,
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
  saturatedSeconds: 0,
  lookups: 20,
};

/** The programs of a build's directory. */
export function programsOf(dist: string): Programs {
  return { cli: join(dist, 'cli.js') };
}

/** Needs the lab. Each round measures every side; every second round in the other order. */
export async function inTurns(sides: readonly Side[], plan: Plan): Promise<Map<string, Found>> {
  const all = new Map<string, Found>(
    sides.map(({ name }) => [name, { steady: new Map(), idle: [], saturated: [], lookupMs: [] }]),
  );
  const bench = await LiveBench.open();
  try {
    for (let round = 0; round < plan.rounds; round++) {
      for (const { name, programs } of round % 2 === 0 ? sides : sides.toReversed()) {
        const { steady, idle, saturated, lookupMs } = all.get(name)!;
        await bench.on(programs);
        // So little code is compiled soon.
        const most = programs.joins === false ? 10 : Number.POSITIVE_INFINITY;
        for (const { rate, seconds } of plan.warmUp) await bench.steady(rate, Math.min(seconds, most));
        for (const rate of plan.rates) {
          // What the rate before has left in the feed and in V8 is no part of this one.
          await delay(500);
          const seconds = plan.secondsAt(rate);
          steady.set(rate, [...(steady.get(rate) ?? []), await bench.steady(rate, seconds)]);
        }
        if (plan.idleSeconds > 0 && round === 0) idle.push(await bench.idle(plan.idleSeconds));
        if (plan.lookups > 0 && programs.joins !== false) lookupMs.push(...bench.lookups(plan.lookups));
        const on = plan.saturatedSeconds > 0 ? await bench.saturated(plan.saturatedSeconds) : undefined;
        await bench.off();
        if (on) saturated.push({ on, off: await bench.saturated(plan.saturatedSeconds) });
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
        named === 0 ? '–' : `${named.toLocaleString('en')} of ${requests.toLocaleString('en')}`,
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

function otherLines(found: ReadonlyMap<string, Found>): string[] {
  return [...found].flatMap(([name, { idle, saturated }]) => [
    ...idle.map(
      ({ sidecar, helper, sidecarMb, helperMb }) =>
        `* Idle, ${name}: sidecar ${(sidecar * 100).toFixed(3)} % of a core and ${sidecarMb.toFixed(0)} MB resident, helper ${(helper * 100).toFixed(3)} % and ${helperMb.toFixed(0)} MB.`,
    ),
    ...(saturated.length > 0 ? [`* Saturated, ${name}: ${saturatedText(saturated)}.`] : []),
  ]);
}

/** Medians: what was answered beside without, and where a request's CPU went. */
function saturatedText(pairs: readonly Pair[]): string {
  const of = (pick: (pair: Pair) => number, digits: number): string =>
    median(pairs.map(pick)).toFixed(digits);
  const share = of(({ on, off }) => (100 * on.perSecond) / off.perSecond, 0);
  const on = of((pair) => pair.on.perSecond, 0);
  const off = of((pair) => pair.off.perSecond, 0);
  const cpu = `nginx ${of((pair) => pair.on.nginxMs, 1)}, sidecar ${of((pair) => pair.on.sidecarMs, 1)}, helper ${of((pair) => pair.on.helperMs, 1)}`;
  return `${on} requests/s of ${off} without, ${share} %; CPU µs a request: ${cpu}, nginx without ${of((pair) => pair.off.nginxMs, 1)}`;
}

/** Programs on Node that do what any have to, and nothing else: what the runtime and the kernel take. */
const ALONE = { cli: fileURLToPath(new URL('node-alone.mjs', import.meta.url)), joins: false };
const FLOORS: readonly Side[] = [
  { name: 'Node alone', programs: ALONE },
  { name: 'Node alone, no feed', programs: { ...ALONE, sidecarOptions: ['--no-feed'] } },
];

/**
 * The commit `ref` and the build in `dist`, and the floors: medians of three, in about half an hour; `quick`: one round.
 */
export async function liveAgainst(ref: string, dist: string, dir: string, quick: boolean): Promise<string> {
  if (!labCanRun()) return 'Not run: the lab needs root and its tools (test/lab/install.sh).';
  const base = buildOf(ref, dir);
  try {
    const sides: Side[] = [
      { name: git('log', '-1', '--format=%h', ref), programs: programsOf(base.dist) },
      { name: 'here', programs: programsOf(dist) },
      ...FLOORS,
    ];
    const parts: string[] = [];
    const here: Found[] = [];
    for (const plan of quick ? [QUICK] : [BUSY, QUIET]) {
      const found = await inTurns(sides, plan);
      parts.push(turnsTable(found, [...new Set(plan.rates)]), otherLines(found).join('\n'));
      here.push(found.get('here')!);
    }
    return [goalsTable(here), ...parts].filter((part) => part !== '').join('\n\n');
  } finally {
    base.remove();
  }
}
