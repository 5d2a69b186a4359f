/** Where a V8 CPU profile (`--cpu-prof`) says that the time went. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Of a `.cpuprofile`: times are µs, `timeDeltas` those before each sample (Chrome DevTools Protocol, Profiler.Profile). */
interface CpuProfile {
  nodes: { id: number; callFrame: { functionName: string; url: string } }[];
  samples: number[];
  timeDeltas: number[];
}

export interface Share {
  where: string;
  /** Of the time that the thread was not idle. */
  share: number;
}

/** The main thread's time by the place of the code, the largest first, of the one profile in this directory. */
export function profileShares(dir: string): Share[] {
  const file = readdirSync(dir).find((name) => name.endsWith('.cpuprofile'));
  if (!file) throw new Error(`bench: no profile in ${dir}`);
  const { nodes, samples, timeDeltas } = JSON.parse(readFileSync(join(dir, file), 'utf8')) as CpuProfile;
  const places = new Map(nodes.map(({ id, callFrame }) => [id, placeOf(callFrame)]));
  const spent = new Map<string, number>();
  let busy = 0;
  samples.forEach((id, i) => {
    const place = places.get(id)!;
    if (place === '(idle)' || place === '(root)') return;
    // A sample tells what ran from then on until the next one.
    const us = timeDeltas[i + 1] ?? 0;
    spent.set(place, (spent.get(place) ?? 0) + us);
    busy += us;
  });
  return [...spent].map(([where, us]) => ({ where, share: us / busy })).sort((a, b) => b.share - a.share);
}

/** realpod's own code by its folder, all of Node's and of the packages' together. */
function placeOf({ functionName, url }: CpuProfile['nodes'][number]['callFrame']): string {
  const own = /\/dist\/([a-z-]+)(\.js|\/)/.exec(url);
  if (own) return `\`${own[1]}${own[2]}\``;
  if (url.startsWith('node:')) return 'Node’s own JavaScript';
  if (url !== '') return 'packages';
  if (functionName === '(garbage collector)') return 'garbage collection';
  if (functionName === '(program)') return 'Node and V8 in C++, the kernel';
  return functionName.startsWith('(') ? functionName : 'built-in functions';
}
