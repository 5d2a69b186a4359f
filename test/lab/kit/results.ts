import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { arch, cpus, release } from 'node:os';
import type { Comparison } from './check.ts';
import { nginxUnderTest } from './nginx-build.ts';
import { LAB_PATH } from './requirements.ts';

/** One scenario's figures. */
export interface Row extends Comparison {
  scenario: string;
  evidence: Record<string, number>;
  reasons: Record<string, number>;
}

const group = (n: number) => n.toLocaleString('en');
const list = (counts: Record<string, number>) =>
  Object.entries(counts)
    .filter(([, n]) => n > 0)
    .sort(([a], [b]) => a.localeCompare(b))
    .map(([key, n]) => `${key} ${group(n)}`)
    .join(', ') || '–';

function version(command: string, args: string[]): string {
  try {
    const text = execFileSync(command, args, { encoding: 'utf8', env: { ...process.env, PATH: LAB_PATH } });
    return text.trim().split('\n')[0] ?? '';
  } catch {
    return `${command}: unknown`;
  }
}

export function table(rows: readonly Row[]): string {
  const sum = (pick: (row: Row) => number) => group(rows.reduce((total, row) => total + pick(row), 0));
  const cells = rows.map((row) =>
    [
      row.scenario,
      group(row.lines),
      group(row.attempts),
      list(row.evidence),
      list(row.reasons),
      group(row.wrong),
      group(row.unverified),
      group(row.lost),
      group(row.repeated),
      group(row.altered + row.reordered),
    ].join(' | '),
  );
  const total = [
    '**all**',
    sum((r) => r.lines),
    sum((r) => r.attempts),
    '',
    '',
    sum((r) => r.wrong),
    sum((r) => r.unverified),
    sum((r) => r.lost),
    sum((r) => r.repeated),
    sum((r) => r.altered + r.reordered),
  ].join(' | ');
  return [
    '| scenario | lines | attempts | resolved by | left alone by | wrong | named, truth unknown | lost | repeated | altered or reordered |',
    '|---|---|---|---|---|---|---|---|---|---|',
    ...[...cells, total].map((row) => `| ${row} |`),
  ].join('\n');
}

/** A file that suites write their sections into. */
export interface ResultsFile {
  url: URL;
  header: string;
}

const HEADER = `# What the lab measured

Written by the suites in this folder when \`REALPOD_LAB_RESULTS=write\` is set; not by hand. Each line's truth comes from
the backend that answered it.
`;

const RESULTS: ResultsFile = {
  url: new URL('../../../docs/results/lab.md', import.meta.url),
  header: HEADER,
};

/** Replaces one suite's section of RESULTS.md. Does nothing unless REALPOD_LAB_RESULTS=write, nor for a suite that did not run. */
export function writeResults(suite: string, rows: readonly Row[], notes: readonly string[] = []): void {
  if (rows.length === 0) return;
  writeSection(RESULTS, suite, table(rows), notes);
}

/** The same for any file: `body` is the section's Markdown below its title. */
export function writeSection(
  file: ResultsFile,
  suite: string,
  body: string,
  notes: readonly string[] = [],
): void {
  if (process.env.REALPOD_LAB_RESULTS !== 'write') return;
  const machine = [
    `Linux ${release().split('-')[0]} ${arch()}, ${cpus().length} CPUs`,
    `Node ${process.version}`,
    version('sh', ['-c', `${nginxUnderTest().command} -v 2>&1`]).replace('nginx version: ', ''),
    version('iptables', ['-V']),
    version('nft', ['-v']),
  ].join('; ');
  const open = `<!-- ${suite} -->`;
  const close = `<!-- /${suite} -->`;
  const section = [open, `## ${suite}`, '', machine, '', body, '', ...notes.map((n) => `* ${n}`), close].join(
    '\n',
  );
  const old = existsSync(file.url) ? readFileSync(file.url, 'utf8') : file.header;
  const from = old.indexOf(open);
  const to = old.indexOf(close);
  const text =
    from >= 0 && to > from
      ? old.slice(0, from) + section + old.slice(to + close.length)
      : `${old.trimEnd()}\n\n${section}\n`;
  writeFileSync(file.url, text);
}
