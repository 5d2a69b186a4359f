/** A fixed amount of work on one build, for the guard: `guard-work.ts DIST DIR`. Prints CPU and allocated bytes a line as JSON. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadBuild, oneRound } from './stages.ts';

const ROUNDS = 4;

/** What the guard compares, per line. */
export interface Work {
  cpuMicros: number;
  allocatedBytes: number;
}

const [, script, dist, dir] = process.argv;
if (script?.endsWith('guard-work.ts') && dist !== undefined && dir !== undefined) {
  const build = await loadBuild(dist);
  const log = readFileSync(join(dir, 'guard.log'));
  const feed = readFileSync(join(dir, 'guard.ndjson'));
  let lines = 0;
  for (const byte of log) if (byte === 10) lines++;
  const work: Work = { cpuMicros: Infinity, allocatedBytes: Infinity };
  for (let round = 0; round < ROUNDS; round++) {
    globalThis.gc?.();
    // The young generation is so large that nothing is collected within a round.
    const before = process.memoryUsage().heapUsed;
    const { decode, index, parse, match, rewrite } = oneRound(build, log, feed);
    const allocated = (process.memoryUsage().heapUsed - before) / lines;
    const cpu = (decode + index + parse + match + rewrite) / lines;
    if (round === 0) continue;
    work.cpuMicros = Math.min(work.cpuMicros, cpu);
    work.allocatedBytes = Math.min(work.allocatedBytes, allocated);
  }
  console.log(JSON.stringify(work));
}
