import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { kubectl } from './kubectl.ts';

const MANIFESTS = fileURLToPath(new URL('../manifests', import.meta.url));

/**
 * The suite's manifests, with a client of `rate` requests a second. Of an earlier version, if its checkout is given: beside its
 * own example, and with its images, which have `tag`.
 */
export async function manifests(rate: string, from?: string, tag?: string): Promise<string> {
  const beside = from === undefined ? MANIFESTS : join(from, 'test/cluster/manifests');
  if (from !== undefined) cpSync(MANIFESTS, beside, { recursive: true });
  const all = (await kubectl('kustomize', beside)).replace('"200"', `"${rate}"`);
  if (tag === undefined) return all;
  // The client stays: its numbers are the truth.
  const ofVersion = (each: string) =>
    /^kind: Pod$/m.test(each) ? each : each.replace(/(image: ghcr\.io\/realpod\/\w+):\S+/g, `$1:${tag}`);
  return all
    .split(/^---\n/m)
    .map(ofVersion)
    .join('---\n');
}
