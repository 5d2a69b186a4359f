/**
 * `npm run mutate -- [--files src/join/coverage.ts,src/feed] [--sample N] [--seed S] [--seconds N] [--write]`: changes the
 * sources one place at a time and runs the unit tests that reach it. A mutant survives when all of them pass. A survivor
 * with its reason stands in reasons.json; one without makes the run fail. `--write`: results go to docs/results/mutants.md.
 */
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { seededRandom } from '../model/traffic.ts';
import { apply, type Mutant, mutantsOf } from './mutants.ts';
import { RelatedTests } from './related.ts';

const ROOT = new URL('../..', import.meta.url).pathname.replace(/\/$/, '');
const REASONS = `${ROOT}/test/mutate/reasons.json`;
/** A mutant that runs longer than this has changed what ends (ms). */
const LIMIT_MS = 60_000;

/** Tests in the order of what they cost. Those that start processes or wait for real time say nothing about one line. */
const QUICK =
  /\/(assumptions|candidates|clocks|coverage|flow-index|resolve|ring|services|window|join-repeats|join-names|join-slow-reader|waiting|hostile-clients|feed|record-scanner|write-sink)\.test/;
const SLOW = /\/(join-truth|join-hour|byte-counts|clock-set-back|pipeline|enrich)\.test/;

const { values } = parseArgs({
  options: {
    files: { type: 'string', default: 'src/join,src/feed,src/write' },
    sample: { type: 'string' },
    seed: { type: 'string', default: '1' },
    /** Begins no further mutant after so many seconds. */
    seconds: { type: 'string', default: '100000' },
    write: { type: 'boolean', default: false },
  },
});

function sources(path: string): string[] {
  if (!statSync(`${ROOT}/${path}`).isDirectory()) return [path];
  return readdirSync(`${ROOT}/${path}`).flatMap((name) => sources(`${path}/${name}`));
}

/** A mutant is known by its file and the text of its line, which move less than line numbers. */
function keyOf({ file, at, before, after }: Mutant, text: string): string {
  const start = text.lastIndexOf('\n', at - 1) + 1;
  const whole = text.slice(start, text.indexOf('\n', at + before.length)).trim();
  return `${file}: ${whole} | ${before.trim()} → ${after.trim() || 'nothing'}`;
}

const texts = new Map<string, string>();
let mutants: Mutant[] = [];
for (const file of values.files.split(',').flatMap(sources)) {
  const text = readFileSync(`${ROOT}/${file}`, 'utf8');
  texts.set(file, text);
  mutants.push(...mutantsOf(file, text));
}
const all = mutants.length;
if (values.sample !== undefined) {
  const random = seededRandom(Number(values.seed));
  const drawn = mutants.map((mutant) => ({ mutant, order: random() })).sort((a, b) => a.order - b.order);
  mutants = drawn.slice(0, Number(values.sample)).map(({ mutant }) => mutant);
}
const reasons = JSON.parse(readFileSync(REASONS, 'utf8')) as Record<string, string>;
const related = new RelatedTests(ROOT);
const copy = mkdtempSync(join(tmpdir(), 'realpod-mutate-'));
for (const part of ['src', 'test', 'package.json', 'tsconfig.json', 'demo'])
  cpSync(`${ROOT}/${part}`, `${copy}/${part}`, { recursive: true });
symlinkSync(`${ROOT}/node_modules`, `${copy}/node_modules`);

function passes(tests: readonly string[]): boolean {
  if (tests.length === 0) return true;
  const script = tests.map((test) => `await import('./${test}');`).join('\n');
  const { status } = spawnSync(
    process.execPath,
    ['--import', 'tsx', '--input-type=module', '--eval', script],
    {
      cwd: copy,
      timeout: LIMIT_MS,
      stdio: 'ignore',
      env: { ...process.env, REALPOD_JOIN_RUNS: '20', REALPOD_SEED: '777' },
    },
  );
  return status === 0;
}

/** Sets of tests that pass on the unchanged sources: a test that fails anyway kills nothing. */
const sound = new Map<string, boolean>();
function isSound(tests: readonly string[]): boolean {
  const key = tests.join();
  const known = sound.get(key) ?? passes(tests);
  sound.set(key, known);
  return known;
}

const survivors: string[] = [];
let tried = 0;
let killed = 0;
const until = performance.now() + Number(values.seconds) * 1_000;
try {
  for (const mutant of mutants) {
    if (performance.now() > until) break;
    const text = texts.get(mutant.file)!;
    const { direct, indirect } = related.of(mutant.file);
    const stages = [QUICK, SLOW].map((names) => [...direct, ...indirect].filter((test) => names.test(test)));
    if (!stages.every((tests) => isSound(tests)))
      throw new Error(`tests of ${mutant.file} fail without a change`);
    writeFileSync(`${copy}/${mutant.file}`, apply(text, mutant));
    const survived = stages.every((tests) => passes(tests));
    writeFileSync(`${copy}/${mutant.file}`, text);
    tried++;
    if (!survived) killed++;
    else {
      survivors.push(keyOf(mutant, text));
      console.log(`survived: ${mutant.file}:${mutant.line} ${survivors.at(-1)}`);
    }
  }
} finally {
  rmSync(copy, { recursive: true });
}
const share = ((100 * killed) / Math.max(1, tried)).toFixed(1);
const summary = `${tried} of ${all} mutants tried, ${killed} killed (${share} %), ${survivors.length} survived`;
console.log(summary);
const unexplained = survivors.filter((key) => reasons[key] === undefined);
if (values.write) {
  const rows = survivors.map(
    (key) => `| \`${key.replaceAll('|', '\\|')}\` | ${reasons[key] ?? 'none yet'} |`,
  );
  writeFileSync(
    `${ROOT}/docs/results/mutants.md`,
    `# Mutants\n\n\`npm run mutate\` changes one place of src/ at a time and runs the unit tests that reach it.\n\n${summary}: files ${values.files}, sample ${values.sample ?? 'all'}, seed ${values.seed}.\n\n| survivor | reason |\n| --- | --- |\n${rows.join('\n')}\n`,
  );
}
process.exitCode = unexplained.length > 0 ? 1 : 0;
