/**
 * A random world: `npm run chaos -- --minutes N --seed S [--nginx debian|newest|both] [--lines N] [--round K] [--passing] [--write]`.
 * Draws nginx configurations, protocols, formats, clients, rates and faults, plays them on real nginx and holds every line
 * against the truth. `--round K` plays one round alone, `--passing` those with clients that come and go. A finding ends
 * with exit code 1 and its round's number.
 */
import { parseArgs } from 'node:util';
import { DEBIAN, type NginxBuild, newestNginx } from '../lab/kit/nginx-build.ts';
import { labCanRun } from '../lab/kit/requirements.ts';
import { addVerdict, emptyVerdict, type Verdict } from './judge.ts';
import { drawRound } from './plan.ts';
import { Report, shares } from './report.ts';
import { FAKETIME, playRound } from './round.ts';
import { createWorld } from './world.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '5' },
    lines: { type: 'string', default: '0' },
    seed: { type: 'string', default: '1' },
    nginx: { type: 'string', default: 'both' },
    round: { type: 'string' },
    from: { type: 'string', default: '0' },
    passing: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
  },
});
const NEEDS = ['h2load:nghttp2-client', 'openssl:openssl', `${FAKETIME}:faketime`];
const seed = Number(values.seed);
if (!Number.isInteger(seed) || !['debian', 'newest', 'both'].includes(values.nginx)) {
  console.error('usage: chaos.ts --minutes N --seed S [--nginx debian|newest|both] [--lines N] [--round K]');
  process.exit(2);
}

const bad = ({ wrong, lost, repeated, altered, reordered }: Verdict): number =>
  wrong + lost + repeated + altered + reordered;

async function main(): Promise<number> {
  // The backends need it too: HTTP/1 and HTTP/2 on one port.
  const newest = newestNginx();
  if (!newest) return 0;
  const builds = new Map<string, NginxBuild>([
    ['debian', DEBIAN],
    ['newest', newest],
  ]);
  const names =
    values.nginx === 'both' ? (['debian', 'newest'] as const) : ([values.nginx] as ('debian' | 'newest')[]);
  const report = new Report(seed);
  const total = emptyVerdict();
  const end = performance.now() + Number(values.minutes) * 60_000;
  const only = values.round === undefined ? undefined : Number(values.round);
  const world = await createWorld(newest);
  let failed = 0;
  try {
    for (let round = only ?? Number(values.from); ; round++) {
      const plan = drawRound(seed, round, names);
      if (values.passing && plan.passers === 0 && only === undefined) continue;
      const { verdict, seconds, trouble } = await playRound(world, plan, builds);
      report.add(plan, verdict, seconds);
      addVerdict(total, verdict);
      const faults = plan.faults.map(({ name }) => name).join(' ');
      console.log(
        `round ${round}: ${plan.nginx} ${plan.format} ${verdict.lines} lines in ${seconds.toFixed(1)} s, ${shares(verdict)}${faults ? `; ${faults}` : ''}`,
      );
      for (const text of trouble) console.log(`  trouble: ${text}`);
      if (bad(verdict) > 0) {
        failed++;
        console.log(`  FINDING: repeat with --seed ${seed} --nginx ${values.nginx} --round ${round}`);
        console.log(`  ${JSON.stringify(plan)}`);
        for (const finding of verdict.findings) console.log(`  ${finding}`);
      }
      if (only !== undefined || performance.now() > end) break;
      if (Number(values.lines) > 0 && total.lines >= Number(values.lines)) break;
    }
  } finally {
    await world.dispose();
  }
  console.log(report.table());
  if (values.write) report.write();
  return failed;
}

if (labCanRun(NEEDS)) {
  const failed = await main();
  process.exit(failed > 0 ? 1 : 0);
}
