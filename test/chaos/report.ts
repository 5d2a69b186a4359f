/** Totals of a run of rounds, for people and for docs/results/chaos.md. */
import { writeFileSync } from 'node:fs';
import { arch, cpus, release } from 'node:os';
import { addVerdict, emptyVerdict, type Verdict } from './judge.ts';
import type { RoundPlan } from './plan.ts';

const group = (n: number): string => n.toLocaleString('en');
const list = (counts: Record<string, number>): string =>
  Object.entries(counts)
    .toSorted(([, a], [, b]) => b - a)
    .map(([name, n]) => `${name} ${group(n)}`)
    .join(', ') || '–';

/** One line about a round. */
export function shares(verdict: Verdict): string {
  const named = verdict.right + verdict.wrong + verdict.unverified;
  const { wrong, lost, repeated, altered, reordered } = verdict;
  const faults = Object.entries({ wrong, lost, repeated, altered, reordered })
    .filter(([, n]) => n > 0)
    .map(([what, n]) => `${n} ${what.toUpperCase()}`)
    .join(' ');
  return `${((100 * named) / Math.max(1, verdict.attempts)).toFixed(1)} % named${faults ? `, ${faults}` : ''}`;
}

export class Report {
  readonly #seed: number;
  readonly #byKind = new Map<string, Verdict>();
  readonly #faults: Record<string, number> = {};
  #rounds = 0;
  #seconds = 0;

  constructor(seed: number) {
    this.#seed = seed;
  }

  add(plan: RoundPlan, verdict: Verdict, seconds: number): void {
    this.#rounds++;
    this.#seconds += seconds;
    for (const { name } of plan.faults) this.#faults[name] = (this.#faults[name] ?? 0) + 1;
    for (const kind of ['all', `nginx ${plan.nginx}`, `format ${plan.format}`]) {
      const total = this.#byKind.get(kind) ?? emptyVerdict();
      this.#byKind.set(kind, total);
      addVerdict(total, verdict);
    }
  }

  table(): string {
    const rows = [...this.#byKind]
      .toSorted(([a], [b]) => a.localeCompare(b))
      .map(([kind, v]) =>
        [
          kind,
          ...[v.lines, v.attempts, v.wrong, v.lost, v.repeated, v.altered + v.reordered, v.unverified].map(
            group,
          ),
          list(v.evidence),
          list(v.reasons),
        ].join(' | '),
      );
    return [
      `Seed ${this.#seed}, ${this.#rounds} rounds, ${Math.round(this.#seconds)} s. Faults: ${list(this.#faults)}.`,
      '',
      '| | lines | attempts | wrong | lost | repeated | altered or reordered | named, truth not certain | named by | left alone by |',
      '|---|---|---|---|---|---|---|---|---|---|',
      ...rows.map((row) => `| ${row} |`),
    ].join('\n');
  }

  write(): void {
    const machine = `Linux ${release().split('-')[0]} ${arch()}, ${cpus().length} CPUs; Node ${process.version}`;
    writeFileSync(
      new URL('../../docs/results/chaos.md', import.meta.url),
      `# A random world\n\nWritten by \`npm run chaos -- --write\`; not by hand. Each line's truth comes from the backend that answered it.\n\n${machine}\n\n${this.table()}\n`,
    );
  }
}
