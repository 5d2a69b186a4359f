/** Real nginx, helper and sidecar in the lab's namespaces (root): what they cost beside each other, and how late a line is. */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Delays, summarise, watchDelays } from '../lab/kit/delay.ts';
import { RECOMMENDED } from '../lab/kit/formats.ts';
import type { RequestPlan } from '../lab/kit/load.ts';
import { type Nginx, startBackends, startFront } from '../lab/kit/nginx.ts';
import {
  caughtUp,
  type Program,
  SIDECAR_PORT,
  type Sidecar,
  startHelper,
  startSidecar,
  untilExact,
} from '../lab/kit/product.ts';
import { createScene, type Scene } from '../lab/kit/scene.ts';
import { load, saturate } from '../lab/kit/traffic.ts';
import { cpuSeconds, family, memory, wakeUps } from './process-cost.ts';

const REQUESTS: readonly RequestPlan[] = [
  { path: '/a/item/{n}', weight: 3 },
  { path: '/b/list?page={n}&of=10' },
  { path: '/a/size/4096' },
];

const planOf = (rate: number) => ({
  connections: Math.min(64, Math.max(4, rate / 50)),
  ratePerSecond: rate,
  requests: REQUESTS,
});

/** CPU in milliseconds per 1,000 requests, and as a share of nginx's own. */
export interface Steady {
  rate: number;
  requests: number;
  /** Requests a second that were answered. */
  achieved: number;
  nginxMs: number;
  sidecarMs: number;
  helperMs: number;
  sidecarMb: number;
  helperMb: number;
  /** At the end, without what is shared with files. */
  anonymousMb: { sidecar: number; helper: number };
  /** A second. */
  wakeUps: { sidecar: number; helper: number };
  delays: Delays;
  resolved: number;
}

export interface Idle {
  seconds: number;
  /** Shares of one core. */
  sidecar: number;
  helper: number;
  sidecarMb: number;
  helperMb: number;
}

/** As fast as it goes: requests a second, and CPU in ms per 1,000 requests. */
export interface Saturated {
  perSecond: number;
  nginxMs: number;
  sidecarMs: number;
  helperMs: number;
}

/** With the programs beside nginx, and without. */
export interface Pair {
  on: Saturated;
  off: Saturated;
}

/** What runs beside nginx. */
export interface Programs {
  /** Of another build; default: this one. */
  cli?: string;
  sidecarOptions?: readonly string[];
  /** Whether the sidecar names pods: `on` then waits until it does. */
  joins?: boolean;
}

export class LiveBench {
  readonly #scene: Scene;
  readonly #front: Nginx;
  #helper: Program | undefined;
  #sidecar: Sidecar | undefined;
  #runs = 0;

  private constructor(scene: Scene, front: Nginx) {
    this.#scene = scene;
    this.#front = front;
  }

  static async open(): Promise<LiveBench> {
    const service = (name: string, port: number, pods: number[]) => ({
      name,
      port,
      targetPort: 10_000,
      pods,
    });
    const scene = await createScene({
      pods: 4,
      services: [
        service('a', 10_000, [0, 1, 2, 3]),
        service('b', 80, [0, 1, 2, 3]),
        service('solo', 81, [0]),
      ],
    });
    await startBackends(scene, [10_000]);
    const front = await startFront(scene, scene.fronts[0]!, join(scene.dir, 'front'), {
      services: ['a', 'b', 'solo'],
      format: RECOMMENDED,
      keepalive: true,
    });
    return new LiveBench(scene, front);
  }

  close(): Promise<void> {
    return this.#scene.dispose();
  }

  async on({ cli, sidecarOptions = [], joins = true }: Programs = {}): Promise<void> {
    this.#helper = await startHelper(this.#scene, [], cli);
    this.#sidecar = await startSidecar(this.#scene, this.#scene.fronts[0]!, {
      accessLog: this.#front.accessLog,
      format: RECOMMENDED,
      dir: join(this.#scene.dir, `sidecar${++this.#runs}`),
      extra: sidecarOptions,
      cli,
    });
    if (joins) await untilExact(this.#scene, this.#sidecar, this.#scene.fronts[0]!);
  }

  async off(): Promise<void> {
    await this.#sidecar?.stop();
    await this.#helper?.stop();
    this.#sidecar = undefined;
    this.#helper = undefined;
    // A sidecar that begins later would first read all that is there.
    this.#scene.runIn(this.#scene.fronts[0]!, `mv ${this.#front.accessLog} ${this.#front.accessLog}.old`);
    this.#front.signal('reopen');
    await delay(300);
  }

  async idle(seconds: number): Promise<Idle> {
    // What starting leaves behind is collected by V8 some seconds later.
    await delay(12_000);
    const [sidecar, helper] = this.#pids();
    const before = [cpuSeconds([sidecar]), cpuSeconds(family(helper))];
    await delay(seconds * 1000);
    return {
      seconds,
      sidecar: (cpuSeconds([sidecar]) - before[0]!) / seconds,
      helper: (cpuSeconds(family(helper)) - before[1]!) / seconds,
      sidecarMb: memory(sidecar).now,
      helperMb: memory(helper).now,
    };
  }

  async steady(rate: number, seconds: number): Promise<Steady> {
    const [sidecar, helper] = this.#pids();
    const nginx = family(this.#front.child.pid!);
    const watch = watchDelays(this.#sidecar!.output);
    const earlier = this.#resolved();
    const cpu = () => [nginx, [sidecar], family(helper)].map(cpuSeconds);
    const before = cpu();
    const awake = { sidecar: wakeUps(sidecar), helper: wakeUps(helper) };
    const begun = performance.now();
    const total = rate * seconds;
    const sent = await load(this.#scene, { ...planOf(rate), total });
    await caughtUp(this.#sidecar!);
    const [nginxMs, sidecarMs, helperMs] = cpu().map((s, i) => ((s - before[i]!) * 1e6) / total);
    const perSecond = 1000 / (performance.now() - begun);
    return {
      rate,
      requests: total,
      achieved: (sent.completed / sent.elapsedMs) * 1000,
      nginxMs: nginxMs!,
      sidecarMs: sidecarMs!,
      helperMs: helperMs!,
      sidecarMb: memory(sidecar).peak,
      helperMb: memory(helper).peak,
      anonymousMb: { sidecar: memory(sidecar).anonymous, helper: memory(helper).anonymous },
      wakeUps: {
        sidecar: (wakeUps(sidecar) - awake.sidecar) * perSecond,
        helper: (wakeUps(helper) - awake.helper) * perSecond,
      },
      delays: summarise(watch.stop()),
      resolved: this.#resolved() - earlier,
    };
  }

  /** Requests a second that were answered of so many sent, on or off. */
  async atRate(rate: number, seconds: number): Promise<number> {
    const sent = await load(this.#scene, { ...planOf(rate), total: rate * seconds });
    return (sent.completed / sent.elapsedMs) * 1000;
  }

  /** As fast as it goes. The figure is nginx's: lines it wrote. */
  async saturated(seconds: number): Promise<Saturated> {
    const groups = [
      family(this.#front.child.pid!),
      ...(this.#sidecar ? this.#pids().map((pid) => family(pid)) : []),
    ];
    const before = groups.map(cpuSeconds);
    const file = openSync(this.#front.accessLog, 'r');
    const report = await saturate(this.#scene, { connections: 64, seconds, path: '/a/same' });
    const [nginxMs = 0, sidecarMs = 0, helperMs = 0] = groups.map((pids, i) => cpuSeconds(pids) - before[i]!);
    const bytes = fstatSync(file).size;
    closeSync(file);
    if (bytes === 0) throw new Error('bench: nginx wrote nothing');
    const perSecond = Number(/Requests\/sec:\s+([\d.]+)/.exec(report)?.[1]);
    const thousands = (perSecond * seconds) / 1000;
    const each = (s: number) => (s * 1000) / thousands;
    return { perSecond, nginxMs: each(nginxMs), sidecarMs: each(sidecarMs), helperMs: each(helperMs) };
  }

  /** How long each of so many look-ups took (ms), without the first one, which loads what answers them. */
  lookups(count: number): number[] {
    const url = `http://127.0.0.1:${SIDECAR_PORT}/lookup?port=1`;
    const took = this.#scene.runIn(
      this.#scene.fronts[0]!,
      `for n in $(seq ${count + 1}); do curl -s -o /dev/null -w '%{time_total}\\n' '${url}'; sleep 0.07; done`,
    );
    return took
      .trim()
      .split('\n')
      .slice(1)
      .map((seconds) => Number(seconds) * 1000);
  }

  #pids(): [number, number] {
    return [this.#sidecar!.child.pid!, this.#helper!.child.pid!];
  }

  #resolved(): number {
    return Object.values(this.#sidecar!.counts().evidence).reduce((a, b) => a + b, 0);
  }
}
