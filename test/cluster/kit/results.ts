import { readFileSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { fileURLToPath } from 'node:url';

const RESULTS = fileURLToPath(new URL('../../../docs/results/cluster.md', import.meta.url));

/** With REALPOD_CLUSTER_RESULTS=write the text goes into docs/results/cluster.md, between the comments of this name. */
export function writeResults(name: string, text: string): void {
  if (process.env.REALPOD_CLUSTER_RESULTS !== 'write') return;
  const begin = `<!-- generated: ${name} -->\n`;
  const end = '<!-- end -->';
  const page = readFileSync(RESULTS, 'utf8');
  const from = page.indexOf(begin);
  if (from < 0) throw new Error(`${RESULTS} has no place for ${name}`);
  const to = page.indexOf(end, from);
  writeFileSync(RESULTS, `${page.slice(0, from)}${begin}${text.trim()}\n${page.slice(to)}`);
}

/** The load of this machine over the last minute. */
export function machineLoad(): string {
  return loadavg()[0]!.toFixed(0);
}
