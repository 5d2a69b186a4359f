/** Several runs of one measurement. */
export type Runs = readonly number[];

export function median(runs: Runs): number {
  const sorted = runs.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** `1.03 (0.98–1.11)`: the median, the least and the most. */
export function shown(runs: Runs, digits = 2): string {
  if (runs.length === 0) return '–';
  if (runs.length === 1) return runs[0]!.toFixed(digits);
  return `${median(runs).toFixed(digits)} (${Math.min(...runs).toFixed(digits)}–${Math.max(...runs).toFixed(digits)})`;
}

/** A table in Markdown. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

/** CPU of this process in microseconds, all threads. */
export function cpuMicros(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

/** Microseconds of CPU for each of `count` things that `work` does, once for each of `rounds`. The first round, in which V8 compiles, is left out. */
export function perThing(rounds: number, count: number, work: () => void): number[] {
  const runs: number[] = [];
  for (let round = 0; round <= rounds; round++) {
    const begun = cpuMicros();
    work();
    if (round > 0) runs.push((cpuMicros() - begun) / count);
  }
  return runs;
}
