import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readMetrics } from './check.ts';
import { FORMATS } from './formats.ts';
import { type Nginx, startBackends, startFront } from './nginx.ts';
import { type Program, type Sidecar, startHelper, startSidecar } from './product.ts';
import { createScene, endChild, type Scene, type ServiceSpec } from './scene.ts';

/** A scene with nginx, helper and sidecar that stay up over many faults. `helper`, `sidecar` and `front` may be replaced. */
export interface Stage {
  scene: Scene;
  front: Nginx;
  helper: Program;
  sidecar: Sidecar;
  /** Directory of the sidecar's output and state. */
  outputDir: string;
  restartHelper(...options: string[]): Promise<void>;
  restartSidecar(): Promise<void>;
  /** Ends every process of nginx, then starts it again with the same files. */
  restartFront(): Promise<void>;
  dispose(): Promise<void>;
}

const PODS = [0, 1, 2, 3];

/** The port of the odd backends, where a stage has them. */
export const ODD_PORT = 10003;

/** The Services `a` and `odd` on these pods, and `solo` with one, which `untilExact` asks. */
export const services = (pods: readonly number[]): ServiceSpec[] => [
  { name: 'a', port: 10000, targetPort: 10000, pods },
  { name: 'odd', port: 80, targetPort: ODD_PORT, pods },
  { name: 'solo', port: 10000, targetPort: 10001, pods: [0] },
];

export interface StageOptions {
  /** An upstream connection is given up after so many requests. */
  keepaliveRequests?: number;
  /** Where nginx writes its log, and the sidecar its own, below the scene's directory. */
  logDir?: string;
  outputDir?: string;
  /** More options for the helper, each time it is started. */
  helperArgs?: readonly string[];
}

export async function createStage(
  options: StageOptions = {},
  prepare: (scene: Scene) => StageOptions | Promise<StageOptions> = () => ({}),
): Promise<Stage> {
  const scene = await createScene({ pods: PODS.length, services: services(PODS) });
  try {
    const { helperArgs = [] } = { ...options, ...(await prepare(scene)) };
    await startBackends(scene, [10000, 10001]);
    const pod = scene.fronts[0]!;
    const logDir = join(scene.dir, options.logDir ?? 'front');
    const outputDir = join(scene.dir, options.outputDir ?? 'sidecar');
    const openFront = () =>
      startFront(scene, pod, logDir, {
        format: FORMATS.full,
        keepalive: true,
        keepaliveRequests: options.keepaliveRequests ?? 500,
        services: ['a', 'odd', 'solo'],
      });
    const openSidecar = () =>
      startSidecar(scene, pod, {
        accessLog: join(logDir, 'access.log'),
        format: FORMATS.full,
        dir: outputDir,
      });
    const stage: Stage = {
      scene,
      outputDir,
      front: await openFront(),
      helper: await startHelper(scene, helperArgs),
      sidecar: await openSidecar(),
      async restartHelper(...extra) {
        await endChild(stage.helper.child);
        stage.helper = await startHelper(scene, [...helperArgs, ...extra]);
      },
      async restartSidecar() {
        await endChild(stage.sidecar.child);
        stage.sidecar = await openSidecar();
      },
      async restartFront() {
        for (const pid of nginxPids(stage)) kill(pid, 'SIGKILL');
        await endChild(stage.front.child, 'SIGKILL');
        stage.front = await openFront();
      },
      dispose: () => scene.dispose(),
    };
    return stage;
  } catch (error) {
    await scene.dispose();
    throw error;
  }
}

/** Pids of nginx's workers. */
export function workerPids({ front }: Stage): number[] {
  const master = front.child.pid!;
  return childPids(master);
}

function nginxPids(stage: Stage): number[] {
  return [stage.front.child.pid!, ...workerPids(stage)];
}

/** Pids of the living children of a process. */
export function childPids(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
      readFileSync(`/proc/${pid}/task/${task}/children`, 'latin1').split(' ').filter(Boolean).map(Number),
    );
  } catch {
    return [];
  }
}

/** Signals a process of the stage; one that has ended meanwhile is none. */
export function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Lets no packet pass between sidecar and helper, either way, or drops that share of them, until the returned function is called. */
export function cutFeed({ scene }: Stage, percent = 100): () => void {
  const front = scene.fronts[0]!;
  const some = percent === 100 ? '' : `numgen random mod 100 < ${percent}`;
  scene.runIn(
    front,
    `nft -f - <<'END'
table inet lab_cut {
  chain out { type filter hook output priority 0; tcp dport 9797 ${some} drop; }
  chain in { type filter hook input priority 0; tcp sport 9797 ${some} drop; }
}
END`,
  );
  return () => void scene.runIn(front, 'nft delete table inet lab_cut');
}

/** What a program of ours holds besides, as it says itself: timers that keep it awake. */
export function timersOf(program: Program): number {
  const held = readMetrics(program.get('/metrics').text).find(
    ({ name, labels }) => name.endsWith('_active_resources') && labels.kind === 'Timeout',
  );
  if (!held) throw new Error('lab: no metric of timers');
  return held.value;
}

/** What a process holds: resident memory in KiB, open descriptors, children. */
export function holdings(pid: number): { rssKib: number; descriptors: number; children: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  return {
    rssKib: Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0),
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    children: childPids(pid).length,
  };
}
