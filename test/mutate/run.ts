/**
 * `npm run mutate -- [--files src/join/coverage.ts,src/feed] [--sample N] [--seed S] [--seconds N] [--jobs N] [--least N] [--unsafe]
 * [--write]`: changes the sources one place at a time and runs the unit tests that reach it. A mutant survives when all of
 * them pass. A survivor with its reason stands in reasons.json; of the others no more than `--least` allows may live.
 * `--write`: results go to docs/results/mutants.md.
 */
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { seededRandom } from '../model/traffic.ts';
import { apply, type Mutant, mutantsOf } from './mutants.ts';
import { RelatedTests } from './related.ts';
import { Workspace } from './workspace.ts';

const ROOT = new URL('../..', import.meta.url).pathname.replace(/\/$/, '');
const REASONS = `${ROOT}/test/mutate/reasons.json`;
/** A mutant that takes so many times as long as the unchanged sources, and this on top (ms), has changed what ends. */
const TIMES_AS_LONG = 6;
const LIMIT_MS = 10_000;
const BASELINE_TRIES = 3;

/** Tests by what they cost. Those that start processes or wait for real time say nothing about one line. */
const QUICK =
  /\/(answers|answers-kept|assumptions|byte-count-rule|candidates|capture-clients|capture-wakeups|clients|clients-record|clock-set-back|clocks|codec|content|coverage|direct-connections|exchanges|feed|feed-\w+|fifo-list|flow-index|follow-\w+|handover|hostile-clients|ledger|join-direct|join-endpoints|join-names|join-repeats|join-slow-reader|join-unconnected|log-record|namespace-watch|ordered-assignments|pending|quiet-moments|ready-file|reconnect|record-scanner|request-order|request-rules|request-table|resolve|resume-points|ring|services|takeover|timed-flows|waiting|window|write-\w+)\.test/;
const SLOW = /\/(join-truth|byte-counts|pipeline|timing)\.test/;

const { values } = parseArgs({
  options: {
    files: { type: 'string', default: 'src/join,src/feed,src/write' },
    sample: { type: 'string' },
    seed: { type: 'string', default: '1' },
    /** Begins no further mutant after so many seconds. */
    seconds: { type: 'string', default: '100000' },
    /** Only those of unsafe.json: each of them once lived, or could have named a wrong pod or lost a line. */
    unsafe: { type: 'boolean', default: false },
    /** Mutants tried side by side. */
    jobs: { type: 'string', default: '2' },
    /** The share of mutants that has to be killed, %; those with a reason are not counted. 100: each survivor needs one. */
    least: { type: 'string', default: '100' },
    write: { type: 'boolean', default: false },
  },
});

const unsafe = JSON.parse(readFileSync(`${ROOT}/test/mutate/unsafe.json`, 'utf8')) as Pick<
  Mutant,
  'file' | 'before' | 'after'
>[];

function sources(path: string): string[] {
  if (!statSync(`${ROOT}/${path}`).isDirectory()) return [path];
  return readdirSync(`${ROOT}/${path}`).flatMap((name) => sources(`${path}/${name}`));
}

/** A mutant is known by its file and the text of its line, with the changed place in brackets: these move less than numbers. */
function keyOf({ file, at, before, after }: Mutant, text: string): string {
  const start = text.lastIndexOf('\n', at - 1) + 1;
  const end = text.indexOf('\n', at + before.length);
  const place = before.trim();
  const from = at + before.indexOf(place);
  const line = `${text.slice(start, from)}⟦${place}⟧${text.slice(from + place.length, end)}`.trim();
  return `${file}: ${line} → ${after.trim() || 'nothing'}`;
}

const texts = new Map<string, string>();
let mutants: Mutant[] = [];
for (const { file, before, after } of values.unsafe ? unsafe : []) {
  const text = readFileSync(`${ROOT}/${file}`, 'utf8');
  const at = text.indexOf(before);
  if (at < 0 || text.includes(before, at + 1))
    throw new Error(`unsafe.json: ${file} has not one place with ${before}`);
  texts.set(file, text);
  mutants.push({ file, line: text.slice(0, at).split('\n').length, at, before, after });
}
for (const file of values.unsafe ? [] : values.files.split(',').flatMap(sources)) {
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

const changedPath = (mutant: Mutant, n: number): string => mutant.file.replace(/\.ts$/, `.mutant${n}.ts`);
const changed = new Map(mutants.map((each, n) => [changedPath(each, n), apply(texts.get(each.file)!, each)]));
for (const [file, text] of texts) changed.set(file.replace(/\.ts$/, '.unchanged.ts'), text);
const workspaces = [Workspace.compile(ROOT, changed)];
while (workspaces.length < Number(values.jobs)) workspaces.push(workspaces[0]!.another());

/**
 * How long tests take on the unchanged sources (ms). A test that fails anyway kills nothing; on a machine that is busy with
 * other work one may fail once.
 */
const baselines = new Map<string, Promise<number>>();
function baseline(workspace: Workspace, tests: readonly string[]): Promise<number> {
  const key = tests.join();
  let found = baselines.get(key);
  if (!found) {
    found = measure(workspace, tests);
    baselines.set(key, found);
  }
  return found;
}

async function measure(workspace: Workspace, tests: readonly string[]): Promise<number> {
  for (let tries = 0; tries < BASELINE_TRIES; tries++) {
    const began = performance.now();
    if (await workspace.passes(tests, 600_000)) return performance.now() - began;
  }
  throw new Error(`tests fail without a change: ${tests.join()}`);
}

const survivors: string[] = [];
let next = 0;
let tried = 0;
let killed = 0;
const until = performance.now() + Number(values.seconds) * 1_000;
async function work(workspace: Workspace): Promise<void> {
  while (next < mutants.length && performance.now() < until) {
    const n = next++;
    const mutant = mutants[n]!;
    const text = texts.get(mutant.file)!;
    const { own, direct, indirect } = related.of(mutant.file);
    const reaching = [...own, ...direct, ...indirect];
    const isQuick = (test: string): boolean => QUICK.test(test);
    const stages = [
      own.filter(isQuick),
      [...direct, ...indirect].filter(isQuick),
      reaching.filter((test) => SLOW.test(test)),
    ];
    let survived = true;
    for (const tests of stages) {
      const limit = (await baseline(workspace, tests)) * TIMES_AS_LONG + LIMIT_MS;
      workspace.replace(mutant.file, changedPath(mutant, n));
      survived = await workspace.passes(tests, limit);
      workspace.replace(mutant.file, mutant.file.replace(/\.ts$/, '.unchanged.ts'));
      if (!survived) break;
    }
    tried++;
    if (!survived) killed++;
    else {
      survivors.push(keyOf(mutant, text));
      console.log(`survived: ${mutant.file}:${mutant.line} ${survivors.at(-1)}`);
    }
  }
}
try {
  await Promise.all(workspaces.map(work));
} finally {
  for (const workspace of workspaces) workspace.remove();
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
const explained = survivors.length - unexplained.length;
process.exitCode = 100 * killed < Number(values.least) * (tried - explained) ? 1 : 0;
