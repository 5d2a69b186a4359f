/**
 * `npm run bench:hostile -- [TEXT…]`: the loads whose evidence or name holds one of the texts, or all. Each is played at
 * 10,000 lines a second into a sidecar of its own; the rows of docs/results/hostile.md are written anew. Exits 1 where a
 * line is wrong or damaged, /healthz took longer than a second, or the sidecar was not done 5 s after the load.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { arch, cpus, loadavg, release } from 'node:os';
import { table } from '../figure.ts';
import { type Outcome, play } from './play.ts';
import { SCENES } from './scenes.ts';

const RESULTS = new URL('../../../docs/results/hostile.md', import.meta.url);
const HEAD = [
  'evidence',
  'load',
  'lines a second',
  'lines',
  'named',
  'wrong',
  'damaged',
  'caught up after',
  '/healthz at most',
  'CPU',
  'peak',
];
const MOST_HEALTH_MS = 1_000;
const MOST_CAUGHT_UP_MS = 5_000;

const failed = ({ wrong, damaged, caughtUpMs = Infinity, healthMs }: Outcome): boolean =>
  wrong + damaged > 0 || caughtUpMs > MOST_CAUGHT_UP_MS || healthMs > MOST_HEALTH_MS;

function rowOf(evidence: string, name: string, outcome: Outcome): string[] {
  const { rate, lines, named, wrong, damaged, caughtUpMs, healthMs, cpuSeconds, peakMb } = outcome;
  return [
    evidence,
    name,
    rate.toLocaleString('en'),
    lines.toLocaleString('en'),
    named.toLocaleString('en'),
    String(wrong),
    String(damaged),
    caughtUpMs === undefined ? 'not within 30 s' : `${(caughtUpMs / 1000).toFixed(1)} s`,
    `${Math.round(healthMs)} ms`,
    `${cpuSeconds.toFixed(1)} s`,
    `${Math.round(peakMb)} MB`,
  ];
}

/** The rows that are there, by load. */
function known(): Map<string, string[]> {
  const rows = new Map<string, string[]>();
  let text = '';
  try {
    text = readFileSync(RESULTS, 'utf8');
  } catch {}
  for (const line of text.split('\n')) {
    const cells = line.split('|').slice(1, -1);
    if (cells.length === HEAD.length)
      rows.set(
        `${cells[0]}|${cells[1]}`.trim(),
        cells.map((cell) => cell.trim()),
      );
  }
  return rows;
}

const wanted = process.argv.slice(2);
const rows = known();
let bad = 0;
for (const scene of SCENES) {
  const { evidence, name } = scene;
  if (wanted.length > 0 && !wanted.some((text) => `${evidence} ${name}`.includes(text))) continue;
  const outcome = await play(scene);
  const row = rowOf(evidence, name, outcome);
  console.log(row.join(' | '), '|', outcome.reasons);
  if (failed(outcome)) bad++;
  rows.set(`${evidence} | ${name}`, row);
}
const kept = SCENES.flatMap(({ evidence, name }) => rows.get(`${evidence} | ${name}`) ?? []).length;
const listed = SCENES.map(({ evidence, name }) => rows.get(`${evidence} | ${name}`)).filter(
  (row) => row !== undefined,
);
if (kept > 0)
  writeFileSync(
    RESULTS,
    `# Loads of the worst kind

Written by \`npm run bench:hostile\`; not by hand. Each load is played through a real feed into a sidecar process of its own, and
every line is compared with the pod that the load knows. Not named is right: most of these loads hide which pod served.

${cpus().length} CPUs (${cpus()[0]?.model}), Linux ${release()} ${arch()}, Node ${process.version}, other work beside it (load ${loadavg()[0]?.toFixed(1)}). CPU is user
and system time of the sidecar until it had caught up.

${table(HEAD, listed as string[][])}
`,
  );
process.exitCode = bad > 0 ? 1 : 0;
