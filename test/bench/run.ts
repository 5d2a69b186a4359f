/**
 * `npm run bench [-- PART…]`: all parts, or some of offline, stages, only-answer, parsers, steady, scale, live (root), into
 * docs/results/bench.md. `--quick`: fewer and shorter runs, printed only. `live --against COMMIT`: two builds in turns.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { arch, cpus, loadavg, release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { labCanRun } from '../lab/kit/requirements.ts';
import { liveAgainst } from './against.ts';
import { LIVE_BOUNDS, OFFLINE_BOUNDS, STEADY_BOUNDS } from './bounds.ts';
import { crowd } from './crowd.ts';
import { median, type Runs, shown, table } from './figure.ts';
import { LiveBench, type Steady } from './live.ts';
import { offline } from './offline.ts';
import { onlyAnswerCost } from './only-answer.ts';
import { parsers } from './parsers.ts';
import { profileShares, type Share } from './profile.ts';
import { scale } from './scale.ts';
import { loadBuild, stages } from './stages.ts';
import { steadyPath } from './steady.ts';

const RESULTS = fileURLToPath(new URL('../../docs/results/bench.md', import.meta.url));
const DIST = fileURLToPath(new URL('../../dist', import.meta.url));
const HEADER = `# What the benchmarks measured

Written by \`npm run bench\`; not by hand. A figure is the median of its runs, with the least and the most. CPU is user and
system time of all threads and children. Ratios are between figures of the same run.
`;

const quick = process.argv.includes('--quick');
const given = process.argv.slice(2);
const against = given.includes('--against') ? given[given.indexOf('--against') + 1] : undefined;
const wanted = given.filter((word) => !word.startsWith('--') && word !== against);
const number = (n: number): string => Math.round(n).toLocaleString('en');
const percent = (share: number, digits = 1): string => `${(share * 100).toFixed(digits)} %`;
const ratioTo = (base: Runs, runs: Runs): string => `${(median(runs) / median(base)).toFixed(2)} ×`;

function profile(shares: readonly Share[]): string[] {
  return [
    'Where the main thread’s time goes, of another run with `--cpu-prof` from start to end (`…/` is a folder of `dist`):',
    '',
    table(
      ['', 'share'],
      shares.filter(({ share }) => share >= 0.005).map(({ where, share }) => [where, percent(share)]),
    ),
  ];
}

async function offlinePart(dir: string): Promise<string> {
  const found = await offline(dir, quick ? 200_000 : 1_000_000, quick ? 1 : 3);
  const { workload, seconds, peakMb, resolved, shares } = found;
  const sed = seconds['`sed s///`, blind']!;
  return [
    `${number(workload.lines)} lines of ${number(workload.logBytes / workload.lines)} bytes; for realpod also a feed of ${number(workload.records)} records (${number(workload.feedBytes / 1e6)} MB), one for each request. ${number(resolved)} of ${number(workload.attempts)} attempts resolved; at most ${number(peakMb)} MB resident.`,
    '',
    table(
      ['', 'CPU s per million lines', 'beside sed'],
      Object.entries(seconds).map(([name, runs]) => [name, shown(runs), ratioTo(sed, runs)]),
    ),
    '',
    ...profile(shares),
    '',
    OFFLINE_BOUNDS,
  ].join('\n');
}

async function stagesPart(dir: string): Promise<string> {
  const found = stages(await loadBuild(DIST), dir, quick ? 50_000 : 200_000, quick ? 2 : 5);
  const row = (name: string, runs: Runs) => [name, shown(runs)];
  return [
    `A running sidecar's stages, one line with one record of the feed; ${number(found.resolved)} of ${number(found.attempts)} attempts resolved.`,
    '',
    table(
      ['stage', 'CPU µs'],
      [
        row('decode a record', found.decode),
        row('index a record', found.index),
        row('parse a line', found.parse),
        row('match a line', found.match),
        row('rewrite a line', found.rewrite),
        row('**all, per line**', found.all),
      ],
    ),
  ].join('\n');
}

async function onlyAnswerPart(): Promise<string> {
  const rows: string[][] = [];
  for (const contents of [1, 40, 1_000]) {
    const { index, line, named } = await onlyAnswerCost(
      DIST,
      contents,
      quick ? 20_000 : 100_000,
      quick ? 2 : 5,
    );
    rows.push([number(contents), percent(named), shown(index), shown(line)]);
  }
  return [
    'Lines that say nothing but a time, 1,000 a second over 100 kept connections to four pods after one quiet moment. Index: a request or an answer. Line: matched, and its answer counted as used.',
    '',
    table(['different requests', 'named', 'index a record, CPU µs', 'a line, CPU µs'], rows),
  ].join('\n');
}

async function parsersPart(): Promise<string> {
  const rows = Object.entries(parsers(quick ? 2 : 7)).map(([name, runs]) => [
    name,
    shown(runs),
    number(1e6 / median(runs)),
  ]);
  return table(['', 'CPU µs', 'each CPU second'], rows);
}

async function steadyPart(dir: string): Promise<string> {
  const seconds = quick ? 5 : 15;
  const { linesPerSecond, cpu, idleCpu, idleMb, peakMb, delays, resolved, lines } = await steadyPath(
    dir,
    seconds,
    quick ? 5 : 20,
  );
  const profiles = mkdtempSync(join(dir, 'profile-'));
  await steadyPath(dir, seconds, 0, ['--cpu-prof', `--cpu-prof-dir=${profiles}`]);
  const shares = profileShares(profiles);
  return [
    `A sidecar beside a played helper, ${number(linesPerSecond)} lines/s, ${number(resolved)} addresses resolved in ${number(lines)} lines.`,
    '',
    table(
      ['', ''],
      [
        ['CPU, of one core', percent(cpu)],
        [
          'delay from the line’s time to its enriched line, ms',
          `p50 ${delays.median}, p99 ${delays.p99}, max ${delays.max}`,
        ],
        ['idle CPU, of one core', percent(idleCpu, 2)],
        ['resident, idle and at most', `${idleMb.toFixed(0)} MB, ${peakMb.toFixed(0)} MB`],
      ],
    ),
    '',
    ...profile(shares),
    '',
    STEADY_BOUNDS,
  ].join('\n');
}

async function scalePart(): Promise<string> {
  const found = await scale(quick ? 1 : 5);
  const { records, bytes, ms } = found.catchUp;
  return [
    table(
      ['', 'CPU µs for each'],
      [
        ...found.table.map(({ connections, pods, runs }) => [
          `helper: connection that comes and goes beside ${number(connections)} of ${pods} pods`,
          shown(runs),
        ]),
        ...found.feed.map(({ readers, runs }) => [
          `helper: request to one of ${readers} readers`,
          shown(runs),
        ]),
        ...found.index.map(({ connections, runs }) => [
          `sidecar: request with ${number(connections)} connections open`,
          shown(runs),
        ]),
      ],
    ),
    '',
    `* A connection takes ${number(found.bytesPerConnection)} bytes of the helper's heap.`,
    `* A reader of one pod in 50 that comes back to a full ring gets ${number(records)} records (${(bytes / 1e6).toFixed(1)} MB) for ${ms.toFixed(1)} ms of the helper's CPU.`,
  ].join('\n');
}

function steadyRows(found: readonly Steady[]): string {
  return table(
    [
      'requests/s',
      'nginx',
      'sidecar',
      'helper',
      'sidecar / nginx',
      'helper / nginx',
      'delay p50, p99, max (ms)',
      'resolved',
      'MB sidecar, helper',
    ],
    found.map((s) => [
      number(s.achieved),
      s.nginxMs.toFixed(1),
      s.sidecarMs.toFixed(1),
      s.helperMs.toFixed(1),
      percent(s.sidecarMs / s.nginxMs),
      percent(s.helperMs / s.nginxMs),
      `${s.delays.median}, ${s.delays.p99}, ${s.delays.max}`,
      `${number(s.resolved)} of ${number(s.requests)}`,
      `${s.sidecarMb.toFixed(0)}, ${s.helperMb.toFixed(0)}`,
    ]),
  );
}

/** Tried in turn beside 5,000, for the highest that is kept up with. */
const HIGHER_RATES = [6_000, 7_000, 8_000, 9_000, 10_000, 12_000, 14_000];

async function crowdLine(): Promise<string> {
  const { connections, beforeMb, withMb, peakMb } = await crowd(100_000);
  return `* The helper with ${number(connections)} connections in the kernel's table (entered by \`conntrack -R\`): ${withMb.toFixed(0)} MB resident, at most ${peakMb.toFixed(0)}, and ${beforeMb.toFixed(0)} without.`;
}

async function livePart(): Promise<string> {
  if (!labCanRun()) return 'Not run: the lab needs root and its tools (test/lab/install.sh).';
  const bench = await LiveBench.open();
  try {
    await bench.on();
    const idle = await bench.idle(quick ? 5 : 15);
    // V8 compiles what is hot.
    await bench.steady(5_000, quick ? 3 : 10);
    const steady: Steady[] = [];
    for (const rate of quick ? [1_000, 5_000] : [1, 100, 1_000, 5_000]) {
      steady.push(await bench.steady(rate, rate === 1 ? 8 : quick ? 4 : 10));
    }
    let highest: Steady | undefined;
    for (const rate of quick ? [] : HIGHER_RATES) {
      const higher = await bench.steady(rate, 5);
      if (higher.achieved < 0.98 * rate) break;
      highest = higher;
    }
    if (highest) steady.push(highest);
    const pairs: { on: number; off: number }[] = [];
    const atRate: number[] = [];
    for (let pair = 0; pair < (quick ? 1 : 3); pair++) {
      const onAtRate = await bench.atRate(5_000, 4);
      const on = await bench.saturated(4);
      await bench.off();
      const off = await bench.saturated(4);
      atRate.push((onAtRate / (await bench.atRate(5_000, 4))) * 100);
      pairs.push({ on: on.perSecond, off: off.perSecond });
      await bench.on();
    }
    const share = pairs.map(({ on, off }) => (on / off) * 100);
    return [
      'CPU in ms per 1,000 requests.',
      '',
      steadyRows(steady),
      '',
      `* Idle: sidecar ${percent(idle.sidecar, 2)} of a core and ${idle.sidecarMb.toFixed(0)} MB, helper ${percent(idle.helper, 2)} and ${idle.helperMb.toFixed(0)} MB.`,
      `* Saturated by wrk on the same two cores, requests/s with everything on and off, in pairs: ${pairs.map(({ on, off }) => `${number(on)} and ${number(off)}`).join('; ')}: on is ${shown(share, 0)} % of off.`,
      `* At 5,000 requests/s offered, what was answered with everything on is ${shown(atRate, 1)} % of off.`,
      ...(quick ? [] : [await crowdLine()]),
      '',
      LIVE_BOUNDS,
    ].join('\n');
  } finally {
    await bench.close();
  }
}

const PARTS: Record<string, { title: string; run(dir: string): Promise<string> }> = {
  offline: { title: 'Offline', run: offlinePart },
  stages: { title: 'Stages', run: stagesPart },
  'only-answer': { title: 'Only-answer', run: onlyAnswerPart },
  parsers: { title: 'Parsers', run: parsersPart },
  steady: { title: 'Steady', run: steadyPart },
  scale: { title: 'Scale', run: scalePart },
  live: { title: 'Live', run: livePart },
};

function version(command: string, ...args: string[]): string {
  try {
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
      .split('\n')[0]!
      .trim();
  } catch {
    return `no ${command}`;
  }
}

function machine(): string {
  return [
    `Linux ${release().split('-')[0]} ${arch()}, ${cpus().length} CPUs (${cpus()[0]?.model})`,
    `Node ${process.version}`,
    version('sed', '--version'),
    version('sh', '-c', 'mawk -W version 2>&1'),
    version('sh', '-c', 'nginx -v 2>&1'),
    `beside a load of ${loadavg()[0]!.toFixed(0)}`,
  ].join('; ');
}

/** Puts a part's section in the place of its last one. */
function keep(name: string, text: string): void {
  const [open, close] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const old = existsSync(RESULTS) ? readFileSync(RESULTS, 'utf8') : HEADER;
  const [from, to] = [old.indexOf(open), old.indexOf(close)];
  const section = `${open}\n${text}\n${close}`;
  writeFileSync(
    RESULTS,
    from < 0
      ? `${old.trimEnd()}\n\n${section}\n`
      : old.slice(0, from) + section + old.slice(to + close.length),
  );
}

if (given.includes('--against') && (against === undefined || wanted.join() !== 'live')) {
  console.error('--against COMMIT compares the part live: npm run bench -- live --against COMMIT');
  process.exit(2);
}
for (const name of wanted.length > 0 ? wanted : Object.keys(PARTS)) {
  const part = PARTS[name];
  if (!part) {
    console.error(`there is no part ${name}; there are ${Object.keys(PARTS).join(', ')}`);
    process.exit(2);
  }
  const dir = mkdtempSync(join(tmpdir(), 'realpod-bench-'));
  try {
    const turns = against !== undefined;
    const title = turns ? `In turns with ${against}` : part.title;
    const body = turns ? await liveAgainst(against, DIST, dir, quick) : await part.run(dir);
    const text = `## ${title}\n\n${machine()}\n\n${body}`;
    console.log(`${text}\n`);
    if (!quick) keep(turns ? 'in-turns' : name, text);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
