/**
 * Compares this tree with the commit before (or `guard.ts REF`) and fails where it has become clearly dearer:
 * `npm run bench:guard`. The machine may be noisy: both builds do the same fixed work in turns, and what counts is the
 * least CPU of each; allocated bytes and system calls hardly depend on the machine.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { labCanRun } from '../lab/kit/requirements.ts';
import { inTurns, type Plan, programsOf } from './against.ts';
import { build, buildOf, git } from './build-of.ts';
import type { Work } from './guard-work.ts';
import { WORKLOAD_FORMAT, writeWorkload } from './workload.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const LINES = 15_000;
const TURNS = 5;
/** Requests a second beside real nginx, where a process mostly sleeps and wakes. */
const QUIET_RATE = 100;
const QUIET_PLAN: Plan = {
  rounds: 2,
  warmUp: [{ rate: 2_000, seconds: 4 }],
  rates: [QUIET_RATE],
  secondsAt: () => 8,
  idleSeconds: 0,
  saturatedSeconds: 0,
  lookups: 0,
};
/** How much dearer is clearly dearer. Equal builds differ by up to 6 % in CPU on a busy machine, and by 1 % in the rest. */
const LIMITS = {
  cpuMicros: 1.15,
  allocatedBytes: 1.1,
  systemCalls: 1.1,
  quietWakeUps: 1.2,
  quietCpuMicros: 1.25,
} as const;
const NAMES = {
  cpuMicros: 'CPU a line, microseconds',
  allocatedBytes: 'bytes allocated a line',
  systemCalls: 'file system calls of realpod enrich',
  quietWakeUps: `wake-ups a second of sidecar and helper at ${QUIET_RATE} requests/s`,
  quietCpuMicros: `CPU a request of sidecar and helper at ${QUIET_RATE} requests/s, microseconds`,
} as const;
type Measure = keyof typeof LIMITS;

function work(dist: string, dir: string): Work {
  const flags = [
    '--expose-gc',
    '--min-semi-space-size=256',
    '--max-semi-space-size=256',
    '--single-threaded-gc',
  ];
  const text = execFileSync(
    process.execPath,
    [...flags, '--import', import.meta.resolve('tsx'), join(ROOT, 'test/bench/guard-work.ts'), dist, dir],
    { encoding: 'utf8' },
  );
  return JSON.parse(text) as Work;
}

/** Calls on files, or undefined without strace. Waiting and waking of threads is left out, as it varies. */
function systemCalls(dist: string, dir: string): number | undefined {
  const counts = join(dir, 'calls');
  const { status, error } = spawnSync(
    'strace',
    [
      ...['-f', '-c', '-o', counts, '-e', 'trace=%file,%desc', process.execPath, join(dist, 'cli.js')],
      ...[
        'enrich',
        '--feed',
        join(dir, 'guard.ndjson'),
        '--log-format',
        WORKLOAD_FORMAT,
        join(dir, 'guard.log'),
      ],
    ],
    { stdio: ['ignore', 'ignore', 'ignore'] },
  );
  if (error || status !== 0) return undefined;
  const text = execFileSync('cat', [counts], { encoding: 'utf8' });
  const CALLS = /^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$/gm;
  let calls = 0;
  for (const [, count, name] of text.matchAll(CALLS)) {
    if (name !== 'total' && !name!.startsWith('epoll')) calls += Number(count);
  }
  return calls;
}

const ref = process.argv[2] ?? (git('status', '--porcelain') === '' ? 'HEAD~1' : 'HEAD');
const dir = mkdtempSync(join(tmpdir(), 'realpod-guard-'));
const base = buildOf(ref, dir);
let failed = false;
try {
  build(ROOT);
  writeWorkload({ log: join(dir, 'guard.log'), feed: join(dir, 'guard.ndjson') }, LINES);
  const dists = { before: base.dist, here: join(ROOT, 'dist') };
  const least: Record<keyof typeof dists, Partial<Record<Measure, number>>> = { before: {}, here: {} };
  for (let turn = 0; turn < TURNS; turn++) {
    for (const side of ['before', 'here'] as const) {
      const found: Partial<Record<Measure, number>> = { ...work(dists[side], dir) };
      const calls = turn < 2 ? systemCalls(dists[side], dir) : undefined;
      if (calls !== undefined) found.systemCalls = calls;
      for (const [measure, value] of Object.entries(found) as [Measure, number][]) {
        least[side][measure] = Math.min(least[side][measure] ?? Infinity, value);
      }
    }
  }
  if (labCanRun()) {
    const sides = Object.entries(dists).map(([name, dist]) => ({ name, programs: programsOf(dist) }));
    for (const [name, { steady }] of await inTurns(sides, QUIET_PLAN)) {
      const runs = steady.get(QUIET_RATE)!;
      const found = least[name as keyof typeof dists];
      found.quietWakeUps = Math.min(...runs.map(({ wakeUps }) => wakeUps.sidecar + wakeUps.helper));
      found.quietCpuMicros = Math.min(...runs.map(({ sidecarMs, helperMs }) => sidecarMs + helperMs));
    }
  }
  console.log(`compared with ${git('log', '-1', '--format=%h %s', ref)}`);
  for (const measure of Object.keys(LIMITS) as Measure[]) {
    const [before, here] = [least.before[measure], least.here[measure]];
    if (before === undefined || here === undefined) {
      console.log(`  ${NAMES[measure]}: not compared (needs strace, or root and the lab)`);
      continue;
    }
    const ratio = here / before;
    const worse = ratio > LIMITS[measure];
    failed ||= worse;
    const verdict = worse ? `DEARER: more than ${LIMITS[measure]}` : 'fine';
    console.log(
      `  ${NAMES[measure]}: ${before.toFixed(2)} → ${here.toFixed(2)}, ${ratio.toFixed(2)} times; ${verdict}`,
    );
  }
} finally {
  base.remove();
  rmSync(dir, { recursive: true, force: true });
}
process.exitCode = failed ? 1 : 0;
