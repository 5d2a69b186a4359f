/** A million lines through parse, join and rewrite into a file, beside tools that only substitute or copy. No root. */
import { spawnSync } from 'node:child_process';
import { closeSync, createReadStream, existsSync, mkdtempSync, openSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { profileShares, type Share } from './profile.ts';
import { WORKLOAD_FORMAT, type Workload, writeWorkload } from './workload.ts';

const CLI = fileURLToPath(new URL('../../dist/cli.js', import.meta.url));
const FLOOR = fileURLToPath(new URL('floor.mjs', import.meta.url));
const SED = 's/10\\.105\\.148\\.19[45]:[0-9]*/10.244.1.65:10000/';
/** Field 10 by double quotes is the request id. */
const MAWK =
  'NR==FNR { pod[$1] = $2; next } { split($0, part, "\\""); if (part[10] in pod) sub(/10\\.105\\.148\\.19[45]:[0-9]+/, pod[part[10]]); print }';

export interface OfflineResults {
  workload: Workload;
  /** CPU seconds per million lines, one for each round, by tool. */
  seconds: Record<string, number[]>;
  /** Of realpod, MB at most. */
  peakMb: number;
  /** Attempts of the last run that were resolved. */
  resolved: number;
  /** Where the time of realpod's main thread went, in a run of its own. */
  shares: Share[];
}

interface Ran {
  cpuSeconds: number;
  peakMb: number;
}

/** Runs a command with its output in a file. CPU is that of all it starts, as bash's `time` says. */
function run(output: string, command: string, args: readonly string[]): Ran {
  const fd = openSync(output, 'w');
  try {
    const { status, stderr } = spawnSync(
      'bash',
      ['-c', 'TIMEFORMAT="cpu %3U %3S"; time "$@"', 'time', command, ...args],
      { stdio: ['ignore', fd, 'pipe'], env: { ...process.env, LC_ALL: 'C' } },
    );
    const said = stderr.toString();
    const times = /cpu ([\d.]+) ([\d.]+)\s*$/.exec(said);
    if (status !== 0 || !times) throw new Error(`bench: ${command} ended with ${status}: ${said}`);
    return {
      cpuSeconds: Number(times[1]) + Number(times[2]),
      peakMb: Number(/peak-kb (\d+)/.exec(said)?.[1] ?? 0) / 1024,
    };
  } finally {
    closeSync(fd);
  }
}

/** The id of every tenth request with its pod, as a look-up table for mawk; those of 100,000 lines in a million. */
async function writeTable(feed: string, path: string): Promise<void> {
  const rows: string[] = [];
  let n = 0;
  for await (const line of createInterface({ input: createReadStream(feed) })) {
    const found = /"ip":"([^"]+)","port":(\d+),"id":"([^"]+)"/.exec(line);
    if (found && n++ % 10 === 0) rows.push(`${found[3]} ${found[1]}:${found[2]}`);
  }
  writeFileSync(path, `${rows.join('\n')}\n`);
}

async function countResolved(output: string): Promise<number> {
  let resolved = 0;
  for await (const line of createInterface({ input: createReadStream(output) })) {
    resolved += line.match(/10\.244\.1\.\d+:10000/g)?.length ?? 0;
  }
  return resolved;
}

export async function offline(dir: string, lines: number, rounds: number): Promise<OfflineResults> {
  const log = join(dir, 'access.log');
  const feed = join(dir, 'feed.ndjson');
  const pods = join(dir, 'pods');
  const output = join(dir, 'output');
  const workload = writeWorkload({ log, feed }, lines);
  await writeTable(feed, pods);
  const cli = process.env.REALPOD_BENCH_CLI ?? CLI;
  if (!existsSync(cli)) throw new Error(`bench: ${cli} is missing; run npm run build first`);
  const peak = `data:text/javascript,process.on('exit',()=>console.error('peak-kb',process.resourceUsage().maxRSS))`;
  const enrich = [cli, 'enrich', '--feed', feed, '--log-format', WORKLOAD_FORMAT, log];
  const floor = (step: string): string[] => [FLOOR, step, log, feed, dirname(cli), WORKLOAD_FORMAT];
  const tools: Record<string, () => Ran> = {
    'copy (`cat`)': () => run(output, 'cat', [log]),
    '`sed s///`, blind': () => run(output, 'sed', [SED, log]),
    '`mawk` with a table of 100,000 ids': () => run(output, 'mawk', [MAWK, pods, log]),
    'Node: both files read, the log written': () => run(output, process.execPath, floor('copy')),
    'and each byte looked at': () => run(output, process.execPath, floor('look')),
    'and made lines and records': () => run(output, process.execPath, floor('parse')),
    'realpod enrich': () => run(output, process.execPath, ['--import', peak, ...enrich]),
  };
  const seconds: OfflineResults['seconds'] = {};
  let peakMb = 0;
  // One after the other within each round, so that what else the machine does meets all of them.
  for (let round = 0; round < rounds; round++) {
    for (const [name, start] of Object.entries(tools)) {
      const ran = start();
      seconds[name] ??= [];
      seconds[name].push((ran.cpuSeconds * 1e6) / lines);
      peakMb = Math.max(peakMb, ran.peakMb);
    }
  }
  const resolved = await countResolved(output);
  const profiles = mkdtempSync(join(dir, 'profile-'));
  run(output, process.execPath, ['--cpu-prof', `--cpu-prof-dir=${profiles}`, ...enrich]);
  return { workload, seconds, peakMb, resolved, shares: profileShares(profiles) };
}
