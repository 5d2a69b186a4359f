/**
 * `npm run fuzz -- --inputs N --seed S [--only NAME]`: N inputs over all targets. A finding ends it, and is kept in
 * regressions.json, which the unit tests play again. With `--keep`, a run without one is noted in RUNS.md, with its seed.
 */
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { testSeed } from '../model/seed.ts';
import { Chance, Mutator } from './mutation.ts';
import type { Target } from './target.ts';
import { TARGETS } from './targets.ts';

export interface Regression {
  target: string;
  /** What was wrong with it. */
  was: string;
  hex: string;
}

const RUNS = new URL('./RUNS.md', import.meta.url);
const REGRESSIONS = new URL('./regressions.json', import.meta.url);
/** CPU time (ms) of one input beyond which it counts as a hang. */
const SLOW_MS = 2_000;

export function regressions(): Regression[] {
  return JSON.parse(readFileSync(REGRESSIONS, 'utf8')) as Regression[];
}

export interface Finding {
  target: Target;
  input: Buffer;
  error: Error;
}

/** Inputs for one target; returns the first finding. */
export function fuzz(target: Target, inputs: number, seed: number): Finding | undefined {
  const mutator = new Mutator(new Chance(seed), target.corpus, target.words);
  for (let n = 0; n < inputs; n++) {
    const input = mutator.next();
    const begun = process.cpuUsage().user;
    try {
      target.run(input);
      const took = (process.cpuUsage().user - begun) / 1000;
      if (took > SLOW_MS) throw new Error(`took ${Math.round(took)} ms`);
    } catch (error) {
      return { target, input: Buffer.from(input), error: error as Error };
    }
  }
  return undefined;
}

/** How many of `inputs` each target gets. */
export function shares(inputs: number, targets: readonly Target[] = TARGETS): number[] {
  const whole = targets.reduce((sum, { weight }) => sum + weight, 0);
  return targets.map(({ weight }) => Math.max(1, Math.ceil((inputs * weight) / whole)));
}

if (process.argv[1]?.endsWith('fuzz.ts')) {
  const { values } = parseArgs({
    options: {
      inputs: { type: 'string', default: '1000000' },
      seed: { type: 'string', default: String(testSeed()) },
      only: { type: 'string' },
      keep: { type: 'boolean', default: false },
    },
  });
  const targets = TARGETS.filter(({ name }) => values.only === undefined || name === values.only);
  const seed = Number(values.seed);
  let total = 0;
  for (const [i, share] of shares(Number(values.inputs), targets).entries()) {
    const target = targets[i]!;
    const begun = performance.now();
    const finding = fuzz(target, share, seed + i);
    if (finding) {
      const { input, error } = finding;
      console.error(
        `${target.name}, seed ${seed}: ${error.message}\n${JSON.stringify(input.toString('latin1'))}`,
      );
      const kept = [
        ...regressions(),
        { target: target.name, was: error.message.slice(0, 200), hex: input.toString('hex') },
      ];
      writeFileSync(REGRESSIONS, `${JSON.stringify(kept, null, 2)}\n`);
      process.exit(1);
    }
    total += share;
    const seconds = ((performance.now() - begun) / 1000).toFixed(1);
    console.log(`${target.name}: ${share.toLocaleString('en')} inputs, ${seconds} s`);
  }
  console.log(`${total.toLocaleString('en')} inputs without a finding, seed ${seed}`);
  if (values.keep) {
    const what = values.only === undefined ? `all ${targets.length} targets` : values.only;
    appendFileSync(
      RUNS,
      `| ${new Date().toISOString().slice(0, 10)} | ${seed} | ${what} | ${total.toLocaleString('en')} | ${process.version} |\n`,
    );
  }
}
