/**
 * The scenes of the source `trace` again and again, until so many lines have been judged: `npm run soak:trace -- --lines N
 * [--seed N] [--minutes N] [--seconds N] [--rounds N]
 * [--scene REGEXP] [--state FILE] [--connections]`. Each scene's own traffic, and wrk with the same requests beside it. Says
 * after each scene how it stands, and ends with 1 where a line was wrong. Needs root and what bpf/build.sh needs.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { startHelper } from './kit/product.ts';
import { labCanRun } from './kit/requirements.ts';
import { type Row, writeSection } from './kit/results.ts';
import { judge } from './kit/scenario.ts';
import { childPids } from './kit/stage.ts';
import { lacks, TRACE_CASES } from './kit/trace-cases.ts';
import { createTraceScene, runConnections, runTraceCase } from './kit/trace-run.ts';
import { traceResults } from './kit/trace-witness.ts';

const BUILD = fileURLToPath(new URL('../../bpf/build.sh', import.meta.url));
const { values } = parseArgs({
  options: {
    lines: { type: 'string', default: '100000' },
    seed: { type: 'string', default: '1' },
    minutes: { type: 'string', default: '240' },
    /** Times through all scenes. */
    rounds: { type: 'string', default: '1000000' },
    /** Of wrk, for each scene. */
    seconds: { type: 'string', default: '15' },
    /** No sidecar: only the helper's record is judged, for many more lines. */
    connections: { type: 'boolean', default: false },
    /** Only scenes whose name this regular expression matches. */
    scene: { type: 'string', default: '' },
    /** Where the figures so far are kept, as JSON: a further run adds to them. */
    state: { type: 'string' },
  },
});

interface Sum {
  runs: number;
  lines: number;
  answered: number;
  right: number;
  wrong: number;
  missing: number;
  unnamed: number;
  podsRight: number;
  podsWrong: number;
  podsUnverified: number;
  leftAlone: number;
  byTrace: number;
  failed: number;
  /** Attempts left alone, by reason. */
  reasons: Record<string, number>;
}

const VOLUME = { total: 2_000, seconds: Number(values.seconds), floodConnections: 32 };

/** The last row of the table. */
const ALL = '**all**';
const sums = new Map<string, Sum>();
const failures: string[] = [];
const EMPTY: Sum = {
  runs: 0,
  lines: 0,
  answered: 0,
  right: 0,
  wrong: 0,
  missing: 0,
  unnamed: 0,
  podsRight: 0,
  podsWrong: 0,
  podsUnverified: 0,
  leftAlone: 0,
  byTrace: 0,
  failed: 0,
  reasons: {},
};

function addTo(name: string, part: Partial<Sum>): void {
  const sum = sums.get(name) ?? { ...EMPTY, reasons: {} };
  const { reasons = {}, ...counts } = part;
  for (const key of Object.keys(counts) as (keyof typeof counts)[]) sum[key] += counts[key]!;
  for (const [reason, count] of Object.entries(reasons))
    sum.reasons[reason] = (sum.reasons[reason] ?? 0) + count;
  sums.set(name, sum);
}

function total(): Sum {
  const all = new Map(sums);
  for (const sum of all.values()) addTo(ALL, sum);
  const whole = sums.get(ALL) ?? EMPTY;
  sums.delete(ALL);
  return whole;
}

const ofRow = ({ reasons: { 'not-ip': _, ...reasons }, ...row }: Row): Partial<Sum> => ({
  runs: 1,
  lines: row.lines,
  podsRight: row.right,
  podsWrong: row.wrong,
  podsUnverified: row.unverified,
  leftAlone: row.leftAlone,
  byTrace: row.evidence['source-port'] ?? 0,
  reasons,
});

function report(): string {
  const n = (value: number): string => value.toLocaleString('en');
  const reasonsOf = ({ leftAlone, reasons }: Sum): string => {
    const parts = Object.entries(reasons).map(([reason, count]) => `${reason} ${n(count)}`);
    return leftAlone === 0 ? '0' : `${n(leftAlone)} (${parts.join(', ')})`;
  };
  const cells = (name: string, sum: Sum): string =>
    `| ${[name, sum.runs, sum.lines, sum.answered, sum.right, sum.wrong, sum.missing, sum.unnamed, sum.byTrace, sum.podsRight, sum.podsWrong, sum.podsUnverified, reasonsOf(sum), sum.failed].map((cell) => (typeof cell === 'number' ? n(cell) : cell)).join(' | ')} |`;
  return [
    '| scene | runs | lines | with an answer | port as the pod saw it | another port | no record | record, but not named | attempts named by the trace | pod right | pod wrong | pod named, truth unknown | attempts left alone | runs that failed |',
    '|---|---|---|---|---|---|---|---|---|---|---|---|---|---|',
    ...[...sums].map(([name, sum]) => cells(name, sum)),
    cells(ALL, total()),
  ].join('\n');
}

function tell(what: string): void {
  const { lines, answered, wrong, missing, unnamed, podsWrong, failed } = total();
  const figures = JSON.stringify({ lines, answered, wrong, missing, unnamed, podsWrong, failed });
  console.error(`${new Date().toISOString()} ${what}: ${figures}`);
  if (values.state) writeFileSync(values.state, JSON.stringify([[...sums], failures.slice(-50)]));
}

async function round(seed: number, isOver: () => boolean): Promise<void> {
  const scene = await createTraceScene(values.connections ? 18 : 14);
  try {
    const { child } = await startHelper(scene, ['--auth', 'none', '--sources', 'conntrack,tap,trace']);
    // As a request for CPU gives it its share of a full node.
    for (const pid of [child.pid!, ...childPids(child.pid!)]) setPriority(pid, -10);
    const rows: Row[] = [];
    const { scenario } = judge(scene, rows);
    for (const [name, make] of Object.entries(TRACE_CASES)) {
      if (!new RegExp(values.scene).test(name)) continue;
      for (const keepalive of [true, false]) {
        if (isOver()) return;
        const found = make(scene, keepalive);
        if (lacks(found) !== undefined) continue;
        try {
          if (values.connections) {
            const { findings, ...counts } = await runConnections(scene, found, keepalive, {
              ...VOLUME,
              seed,
            });
            addTo(name, { ...counts, runs: 1, lines: counts.answered });
            failures.push(...findings.slice(0, 3));
            continue;
          }
          const ran = await runTraceCase(scene, scenario, name, found, keepalive, { ...VOLUME, seed });
          const { findings, ...counts } = ran.found;
          console.error(JSON.stringify({ ...counts, reasons: ran.row.reasons }));
          if (counts.unnamed > 0) console.error(findings.join('\n'));
          addTo(name, { ...ofRow(ran.row), ...counts });
          failures.push(...findings.slice(0, 3));
        } catch (error) {
          // The row is there where only what must hold did not.
          const row = rows.pop();
          addTo(name, { ...(row ? ofRow(row) : {}), failed: 1 });
          failures.push(`${name}, ${keepalive}: ${String((error as Error).message).slice(0, 400)}`);
        } finally {
          rows.length = 0;
          tell(`${name}, ${keepalive}`);
        }
      }
    }
  } finally {
    await scene.dispose();
  }
}

if (!labCanRun(['clang:clang', '/usr/include/bpf/bpf_helpers.h:libbpf-dev', 'openssl:openssl']))
  process.exit(0);
if (spawnSync('sh', [BUILD], { stdio: 'inherit' }).status !== 0) process.exit(1);
if (values.state && existsSync(values.state)) {
  const [earlier, told] = JSON.parse(readFileSync(values.state, 'utf8')) as [[string, Sum][], string[]];
  for (const [name, sum] of earlier) addTo(name, sum);
  failures.push(...told);
}
const end = Date.now() + Number(values.minutes) * 60_000;
const isOver = (): boolean => total().lines >= Number(values.lines) || Date.now() > end;
const first = Number(values.seed);
for (let seed = first; !isOver() && seed < first + Number(values.rounds); seed++) await round(seed, isOver);
console.log(report());
for (const failure of failures.slice(0, 20)) console.log(`\n${failure}`);
writeSection(traceResults, values.connections ? 'soak, connections' : 'soak', report(), [
  `Seeds from ${values.seed} on; \`npm run soak:trace\`.`,
]);
const { wrong, podsWrong } = total();
process.exitCode = wrong + podsWrong > 0 ? 1 : 0;
