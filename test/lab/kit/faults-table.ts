import type { Comparison } from './check.ts';
import { type ResultsFile, writeSection } from './results.ts';

/** What one fault or attack did. */
export interface FaultRow {
  name: string;
  /** Lines, and what became of them. */
  seen: Comparison;
  /** Requests that got no answer from nginx; undefined where the attack is about that. */
  failedRequests?: number | undefined;
  /** From the fault's end until a probe was resolved again; undefined where nothing had to recover. */
  recoverySeconds?: number | undefined;
  /** What happened, in a few words. */
  outcome: string;
}

const FILE: ResultsFile = {
  url: new URL('../../../docs/results/faults.md', import.meta.url),
  header: `# Faults and attacks

Written by the suites in this folder when \`REALPOD_LAB_RESULTS=write\` is set; not by hand. Each line's truth comes from
the backend that answered it. "Named" are addresses that were replaced by the pod's, "left" those that stayed.
`,
};

const count = (n: number): string => n.toLocaleString('en');

export function faultsTable(rows: readonly FaultRow[]): string {
  return [
    '| fault or attack | lines in | lines out | wrong | lost | repeated | altered | named | left | requests failed | seconds until exact | what happened |',
    '|---|---|---|---|---|---|---|---|---|---|---|---|',
    ...rows.map(({ name, seen, failedRequests, recoverySeconds, outcome }) => {
      const { lines, lost, repeated, wrong, altered, reordered, right, unverified, leftAlone } = seen;
      const cells = [
        name,
        count(lines),
        count(lines - lost + repeated),
        count(wrong),
        count(lost),
        count(repeated),
        count(altered + reordered),
        count(right + unverified),
        count(leftAlone),
        failedRequests === undefined ? '–' : count(failedRequests),
        recoverySeconds === undefined ? '–' : recoverySeconds.toFixed(1),
        outcome,
      ];
      return `| ${cells.join(' | ')} |`;
    }),
  ].join('\n');
}

/** Replaces one suite's section of FAULTS.md. Does nothing unless REALPOD_LAB_RESULTS=write. */
export function writeFaults(suite: string, rows: readonly FaultRow[], notes: readonly string[] = []): void {
  writeSection(FILE, suite, faultsTable(rows), notes);
}
