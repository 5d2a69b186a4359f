/**
 * Traffic for a long time, with churn, rotation and faults: `npm run soak -- --minutes N [--rate N] [--seed N]`. One of ten
 * minutes or more writes its section of FAULTS.md.
 *
 * Every line is judged, some while after it was written, so that a cut back to a checkpoint is over. Processes are killed
 * in the first part only: memory is measured on those that live from then to the end.
 */
import { readFileSync, renameSync, statSync, unlinkSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { type Comparison, compare } from './kit/check.ts';
import { type FaultRow, writeFaults } from './kit/faults-table.ts';
import { random } from './kit/load.ts';
import { until } from './kit/nginx.ts';
import { caughtUp, type Program, untilExact } from './kit/product.ts';
import { labCanRun } from './kit/requirements.ts';
import {
  createStage,
  cutFeed,
  holdings,
  kill,
  type Stage,
  services,
  timersOf,
  workerPids,
} from './kit/stage.ts';
import { load } from './kit/traffic.ts';

export interface SoakPlan {
  minutes: number;
  ratePerSecond: number;
  seed: number;
  /** Between two rotations of nginx's log. */
  rotationSeconds: number;
}

export interface SoakResult {
  seen: Comparison;
  failedRequests: number;
  /** How often each disturbance was made. */
  disturbances: Record<string, number>;
  /** What was not as at the start. */
  leftBehind: string[];
  memory: { who: string; first: number; last: number; slopeKibPerMinute: number }[];
  say: string;
}

/** A soak of so many minutes writes its section of FAULTS.md. */
const KEPT_MINUTES = 10;
/** A long soak says how it goes after so many rotations. */
const PROGRESS_ROTATIONS = 9;

/** Lines of a file that grows, taken from its beginning on. */
class Tape {
  readonly #path: string;
  #offset = 0;

  constructor(path: string) {
    this.#path = path;
  }

  /** The next `lines` lines, or as many as there are. */
  async take(lines: number): Promise<Buffer> {
    const file = await open(this.#path);
    try {
      const pieces: Buffer[] = [];
      for (let left = lines, at = this.#offset; left > 0; ) {
        const { buffer, bytesRead } = await file.read(Buffer.alloc(1 << 20), 0, 1 << 20, at);
        if (bytesRead === 0) break;
        let end = 0;
        for (; left > 0; left--) {
          const newline = buffer.indexOf(10, end);
          if (newline < 0 || newline >= bytesRead) break;
          end = newline + 1;
        }
        if (left > 0) end = bytesRead;
        pieces.push(buffer.subarray(0, end));
        at += end;
      }
      const bytes = Buffer.concat(pieces);
      const whole = bytes.subarray(0, bytes.lastIndexOf(10) + 1);
      this.#offset += whole.length;
      return whole;
    } finally {
      await file.close();
    }
  }
}

function add(total: Comparison, part: Comparison): void {
  for (const key of Object.keys(part) as (keyof Comparison)[]) {
    if (key === 'findings') total.findings.push(...part.findings.slice(0, 10 - total.findings.length));
    else total[key] += part[key];
  }
}

/** Least squares over [minutes, KiB]. */
function slope(points: readonly (readonly [number, number])[]): number {
  const n = points.length;
  const mean = (pick: 0 | 1) => points.reduce((sum, point) => sum + point[pick], 0) / n;
  const [x, y] = [mean(0), mean(1)];
  const over = points.reduce((sum, [a, b]) => sum + (a - x) * (b - y), 0);
  const under = points.reduce((sum, [a]) => sum + (a - x) ** 2, 0);
  return under === 0 ? 0 : over / under;
}

/** What must not grow from the first third to the end, by who holds it. */
type Held = Record<'helper' | 'sidecar', { descriptors: number; timers: number }>;

function heldOn(stage: Stage): Held {
  const held = (program: Program) => ({
    descriptors: holdings(program.child.pid!).descriptors,
    timers: timersOf(program),
  });
  return { helper: held(stage.helper), sidecar: held(stage.sidecar) };
}

/** The helper's table without what lapses by itself. */
const tableOf = ({ scene }: Stage): string =>
  scene
    .runIn(scene.node, 'nft list table inet realpod')
    .replaceAll(/ (expires|timeout) \S+/g, '')
    .replaceAll(/elements = \{[^}]*\}/g, '')
    .replaceAll(/counter packets \d+ bytes \d+/g, '')
    .replaceAll(/\s+/g, ' ');

export async function soak(plan: SoakPlan): Promise<SoakResult> {
  const stage = await createStage({ keepaliveRequests: 2_000 });
  try {
    return await run(stage, plan);
  } finally {
    await stage.dispose();
  }
}

async function run(stage: Stage, plan: SoakPlan): Promise<SoakResult> {
  const { scene } = stage;
  const pod = scene.fronts[0]!;
  const chance = random(plan.seed);
  const totalMs = plan.minutes * 60_000;
  const seen = compare(Buffer.alloc(0), Buffer.alloc(0));
  const disturbances: Record<string, number> = {};
  const tape = new Tape(stage.sidecar.output);
  const { accessLog } = stage.front;
  /** Logs that nginx has left, oldest first. */
  const segments: string[] = [];
  let rotations = 0;

  const judgeOldest = async (): Promise<void> => {
    const path = segments.shift()!;
    const input = readFileSync(path);
    let lines = 0;
    for (let at = input.indexOf(10); at >= 0; at = input.indexOf(10, at + 1)) lines++;
    add(seen, compare(input, await tape.take(lines)));
    unlinkSync(path);
  };
  const rotate = async (): Promise<void> => {
    const path = join(stage.front.dir, `access.log.${++rotations}`);
    renameSync(accessLog, path);
    stage.front.signal('reopen');
    await until('nginx to open its log anew', () => {
      try {
        return statSync(accessLog).isFile();
      } catch {
        return false;
      }
    });
    segments.push(path);
    // The youngest two may still be cut back to a checkpoint.
    while (segments.length > 2) await judgeOldest();
    if (rotations % PROGRESS_ROTATIONS === 0) {
      const [helper, sidecar] = [stage.helper, stage.sidecar].map(({ child }) => holdings(child.pid!).rssKib);
      console.error(
        `${(elapsed() / 60_000).toFixed(1)} minutes: ${seen.lines} lines judged, ${seen.wrong} wrong, ${seen.lost} lost, ${seen.repeated} repeated; resident: helper ${helper} KiB, sidecar ${sidecar} KiB`,
      );
    }
  };

  const paused = async (pid: number, ms: number): Promise<void> => {
    kill(pid, 'SIGSTOP');
    await delay(ms);
    kill(pid, 'SIGCONT');
  };
  const gentle: Record<string, () => Promise<void>> = {
    'Service on other pods': async () => {
      const pods = [0, 1, 2, 3].filter(() => chance() < 0.7);
      scene.setServices(services(pods.length > 0 ? pods : [0]));
    },
    'helper stopped for 2 s': () => paused(stage.helper.child.pid!, 2_000),
    'sidecar stopped for 2 s': () => paused(stage.sidecar.child.pid!, 2_000),
    'nginx reloaded': async () => stage.front.signal('reload'),
    'feed cut for 3 s': async () => {
      const heal = cutFeed(stage);
      await delay(3_000);
      heal();
    },
  };
  const harsh: Record<string, () => Promise<void>> = {
    'helper killed': async () => {
      kill(stage.helper.child.pid!, 'SIGKILL');
      await delay(500);
      await stage.restartHelper();
    },
    'sidecar killed': async () => {
      kill(stage.sidecar.child.pid!, 'SIGKILL');
      await delay(500);
      await stage.restartSidecar();
    },
    'nginx worker killed': async () => {
      const [worker] = workerPids(stage);
      if (worker) kill(worker, 'SIGKILL');
    },
  };

  await untilExact(scene, stage.sidecar, pod);
  const started = performance.now();
  const elapsed = (): number => performance.now() - started;
  const traffic = load(scene, {
    connections: 50,
    ratePerSecond: plan.ratePerSecond,
    total: Math.round((plan.ratePerSecond * totalMs) / 1000),
    limitMs: totalMs + 30_000,
    seed: plan.seed,
    requests: [
      { path: '/a/item/{n}', weight: 6 },
      { path: '/a/same', weight: 3 },
      { path: '/a/size/4096', weight: 1 },
      { path: '/a/form', method: 'POST', bodyBytes: 600, weight: 1 },
      { path: '/a/status/500', weight: 0.1 },
    ],
  });
  // Where the soak ends early, what ended it is to be said, not that this was ended.
  traffic.catch(() => {});
  const harshUntil = totalMs / 6;
  const measureFrom = totalMs / 3;
  const samples = new Map<'helper' | 'sidecar', [number, number][]>([
    ['helper', []],
    ['sidecar', []],
  ]);
  let before: { table: string; held: Held } | undefined;
  let nextRotation = plan.rotationSeconds * 1000;
  let nextFault = 3_000;
  while (elapsed() < totalMs) {
    await delay(Math.min(1_000, totalMs / 60));
    const now = elapsed();
    if (now >= nextRotation) {
      nextRotation += plan.rotationSeconds * 1000;
      await rotate();
    }
    if (now >= nextFault && now < totalMs * 0.9) {
      nextFault = now + 4_000 + chance() * Math.min(16_000, totalMs / 8);
      const kinds = now < harshUntil ? { ...gentle, ...harsh } : gentle;
      const names = Object.keys(kinds);
      const name = names[Math.floor(chance() * names.length)]!;
      disturbances[name] = (disturbances[name] ?? 0) + 1;
      await kinds[name]!();
    }
    if (now >= measureFrom) {
      before ??= { table: tableOf(stage), held: heldOn(stage) };
      for (const [who, points] of samples)
        points.push([now / 60_000, holdings(stage[who].child.pid!).rssKib]);
    }
  }
  const result = await traffic;
  await untilExact(scene, stage.sidecar, pod);
  await caughtUp(stage.sidecar).catch(() => {});
  await rotate();
  await delay(500);
  while (segments.length > 0) await judgeOldest();
  add(seen, compare(readFileSync(accessLog), await tape.take(Number.MAX_SAFE_INTEGER)));

  const leftBehind: string[] = [];
  const after = tableOf(stage);
  if (before && after !== before.table) leftBehind.push(`the table was ${before.table} and is ${after}`);
  const held = heldOn(stage);
  for (const who of ['helper', 'sidecar'] as const) {
    const { children } = holdings(stage[who].child.pid!);
    // One may be there for a moment: a connection, a checkpoint.
    for (const what of ['descriptors', 'timers'] as const)
      if (before && held[who][what] > before.held[who][what] + 3)
        leftBehind.push(`${who}: ${held[who][what]} ${what}, ${before.held[who][what]} before`);
    if (children > 0) leftBehind.push(`${who}: ${children} children`);
    const code = await stage[who].stop();
    if (code !== 0) leftBehind.push(`${who}: ended with ${code}: ${stage[who].said().slice(-300)}`);
  }
  if (scene.runIn(scene.node, 'nft list tables').includes('realpod')) leftBehind.push('the table');
  const memory = [...samples].map(([who, points]) => ({
    who,
    first: points[0]?.[1] ?? 0,
    last: points.at(-1)?.[1] ?? 0,
    slopeKibPerMinute: slope(points),
  }));
  const failedRequests = result.failed + (result.statuses[502] ?? 0) + (result.statuses[504] ?? 0);
  const say = [
    `${plan.minutes} minutes at ${plan.ratePerSecond} requests/s (seed ${plan.seed}): ${seen.lines} lines, ${seen.wrong} wrong, ${seen.lost} lost, ${seen.repeated} repeated, ${seen.altered + seen.reordered} altered or reordered, ${seen.right} named, ${seen.leftAlone} left alone, ${failedRequests} requests failed`,
    `disturbances: ${
      Object.entries(disturbances)
        .map(([name, n]) => `${name} ${n}`)
        .join(', ') || 'none'
    }; ${rotations} rotations`,
    ...memory.map(
      ({ who, first, last, slopeKibPerMinute }) =>
        `${who}: resident ${Math.round(first / 1024)} MiB at one third, ${Math.round(last / 1024)} MiB at the end, ${slopeKibPerMinute.toFixed(1)} KiB/minute`,
    ),
    ...(before
      ? (['helper', 'sidecar'] as const).map(
          (who) =>
            `${who}: ${before.held[who].descriptors} descriptors and ${before.held[who].timers} timers at one third, ${held[who].descriptors} and ${held[who].timers} at the end`,
        )
      : []),
    `named: ${((100 * seen.right) / Math.max(1, seen.attempts)).toFixed(2)} %`,
    `left behind: ${leftBehind.join('; ') || 'nothing'}`,
  ].join('\n');
  return { seen, failedRequests, disturbances, leftBehind, memory, say };
}

/** What must hold after any soak. Returns what does not. */
export function soakFindings({ seen, leftBehind }: SoakResult): string[] {
  const { wrong, lost, repeated, altered, reordered, lines, right } = seen;
  const findings = [...leftBehind];
  if (wrong + lost + repeated + altered + reordered > 0) findings.push(...seen.findings);
  if (lines === 0 || right < lines / 2) findings.push(`${right} of ${lines} lines named`);
  return findings;
}

if (process.argv[1]?.endsWith('soak.ts') && labCanRun()) {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string', default: '30' },
      rate: { type: 'string', default: '2000' },
      seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    },
  });
  const plan = {
    minutes: Number(values.minutes),
    ratePerSecond: Number(values.rate),
    seed: Number(values.seed),
  };
  const result = await soak({ ...plan, rotationSeconds: 20 });
  console.log(result.say);
  const row: FaultRow = {
    name: `soak, ${plan.minutes} minutes at ${plan.ratePerSecond} requests/s`,
    seen: result.seen,
    failedRequests: result.failedRequests,
    outcome: Object.entries(result.disturbances)
      .map(([name, n]) => `${name} ${n}`)
      .join(', '),
  };
  // A long one is worth keeping.
  if (plan.minutes >= KEPT_MINUTES) process.env.REALPOD_LAB_RESULTS ??= 'write';
  writeFaults('soak', [row], result.say.split('\n').slice(2));
  const findings = soakFindings(result);
  for (const finding of findings) console.error(finding);
  process.exit(findings.length > 0 ? 1 : 0);
}
