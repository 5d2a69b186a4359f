/** Plays one round: nginx, sidecar, clients and faults, then judges every line. */
import { existsSync, readFileSync, renameSync, rmSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { LoadPlan, RequestPlan } from '../lab/kit/load.ts';
import { type Nginx, startNginx, until } from '../lab/kit/nginx.ts';
import { DEBIAN, type NginxBuild } from '../lab/kit/nginx-build.ts';
import { countLines, type Sidecar, startSidecar } from '../lab/kit/product.ts';
import { endChild } from '../lab/kit/scene.ts';
import { kill } from '../lab/kit/stage.ts';
import { collect, load } from '../lab/kit/traffic.ts';
import { Random } from '../model/random.ts';
import type { ClientPlan } from './clients.ts';
import { bulkScript, formatOf, frontConf, H2_PORT, PLAIN_PORT, SECOND_IP, TLS_PORT } from './conf.ts';
import { judgeRound, type Verdict } from './judge.ts';
import type { FaultName, RoundPlan } from './plan.ts';
import type { World } from './world.ts';

export const FAKETIME = '/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1';
/** How long the sidecar may take after the last request (ms). */
const CATCH_UP_MS = 45_000;

/** Clients that come, ask once and go; one in twelve asks for something odd. */
function passingRequests(plan: RoundPlan): RequestPlan[] {
  const odd = oddRequests(plan);
  const plain = plan.places.map((_, n) => ({
    path: plan.conf ? `/p${n}/one/{r7}` : `/p${n}/one/{n}`,
    headers: plan.conf ? ['User-Agent: Agent/{r3}', 'Referer: http://lab/{r2}'] : [],
    weight: (odd.length * 11) / plan.places.length,
  }));
  return [...plain, ...odd, ...(plan.conf ? unlikeTheirLines(plan) : [])];
}

/** Targets and headers that the pod gets in another form than the line shows, or of which the tap copies a part. */
function unlikeTheirLines(plan: RoundPlan): RequestPlan[] {
  return plan.places.flatMap((_, n): RequestPlan[] => [
    { path: `http://lab/p${n}/one/{r7}` },
    { path: `/p${n}/one/{r7}#part` },
    { path: `/p${n}/one/{r7}`, headers: ['User-Agent: Agent/{r3}', 'User-Agent: Agent/0'] },
    { path: `/p${n}/one/{r7}`, headers: [`Cookie: ${'c'.repeat(1_500)}`, 'User-Agent: Agent/{r3}'] },
    { path: `/p${n}/one/{r7}`, headers: ['User-Agent: "\xe9\\', 'Referer:'] },
    { path: `/p${n}//one/./{r7}`, headers: ['User-Agent: Agent/{r3}'] },
  ]);
}

/** Aborts, uploads, answers that come early, late, in pieces or not at all. */
function oddRequests(plan: RoundPlan): RequestPlan[] {
  const anyOf = plan.places.flatMap((place, n): RequestPlan[] => {
    const path = `/p${n}`;
    const common: RequestPlan[] = [
      { path: `${path}/one/{n}`, method: 'HEAD' },
      { path: `${path}/form/{n}`, method: 'POST', bodyBytes: 60_000 },
      { path: `${path}/form/{n}`, method: 'PUT', bodyBytes: 9_000, chunkBytes: 2_000 },
      { path: `${path}/form/{n}`, method: 'POST', bodyBytes: 20_000, expect: true },
      { path: `${path}/rate/90000`, abortAfterMs: 120 },
      { path: `${path}/size/65536` },
    ];
    if (place.service === 'shut') return [{ path: `${path}/{n}`, weight: 0.5 }];
    if (place.service !== 'odd') return common;
    return [
      ...common,
      { path: `${path}/{n}?chance=50&do=reset` },
      { path: `${path}/{n}?do=close` },
      { path: `${path}/{n}?do=half&size=5000` },
      { path: `${path}/{n}?chance=50&status=503` },
      { path: `${path}/{n}?do=http10` },
      { path: `${path}/{n}?delay=5-200`, weight: 3 },
      { path: `${path}/{n}?delay=300`, abortAfterMs: 60 },
      { path: `${path}/{n}?drip=4,30&size=400` },
      { path: `${path}/{n}?do=early`, method: 'POST', bodyBytes: 120_000 },
    ];
  });
  return [...anyOf, { path: '/other' }];
}

export interface Played {
  verdict: Verdict;
  seconds: number;
  /** What did not go as planned but is no finding about lines. */
  trouble: string[];
}

export async function playRound(
  world: World,
  plan: RoundPlan,
  builds: ReadonlyMap<string, NginxBuild>,
): Promise<Played> {
  const { scene } = world;
  const started = performance.now();
  const pod = scene.fronts[0]!;
  const dir = join(scene.dir, `round${plan.round}`);
  const trouble: string[] = [];
  const accessLog = join(dir, 'access.log');
  const segments: string[] = [];
  const chance = new Random(plan.seed);
  const { text, escaping } = formatOf(plan.format);
  world.place([0, 1, 2, 3], false);
  scene.runIn(
    pod,
    `ip addr del ${SECOND_IP}/32 dev eth0 2>/dev/null || true
sysctl -qw net.ipv4.ip_local_port_range="${plan.sourcePorts ? `40000 ${40_000 + plan.sourcePorts}` : '32768 60999'}" net.ipv4.tcp_tw_reuse=1`,
  );
  const clock = plan.clock
    ? { env: { LD_PRELOAD: FAKETIME, FAKETIME: plan.clock, FAKETIME_NO_CACHE: '1' } }
    : {};
  const front: Nginx = await startNginx(scene, pod, dir, {
    workers: plan.workers,
    http: frontConf(scene, plan, dir),
    build: builds.get(plan.nginx) ?? DEBIAN,
    ...(plan.timerResolution ? { main: `timer_resolution ${plan.timerResolution};` } : {}),
    ...clock,
  });
  const openSidecar = (): Promise<Sidecar> =>
    startSidecar(scene, pod, {
      accessLog,
      format: escaping === 'json' ? `escape=json ${text}` : text,
      dir: join(dir, 'sidecar'),
      extra: [
        ...['--style', plan.style],
        ...(plan.conf ? ['--nginx-conf', join(dir, 'nginx.conf')] : []),
        ...(plan.format === 'chosen' ? ['--request-id-field', 'chosen_id'] : []),
      ],
    });
  let sidecar = await openSidecar();

  const faults: Record<FaultName, () => Promise<void>> = {
    'helper-killed': async () => {
      await endChild(world.helper.child, 'SIGKILL');
      await delay(chance.int(0, 800));
      await world.startHelper();
    },
    'helper-restarted': async () => {
      await endChild(world.helper.child);
      await world.startHelper();
    },
    'sidecar-killed': async () => {
      await endChild(sidecar.child, 'SIGKILL');
      sidecar = await openSidecar();
    },
    'sidecar-restarted': async () => {
      await endChild(sidecar.child);
      sidecar = await openSidecar();
    },
    'both-killed': async () => {
      await Promise.all([endChild(world.helper.child, 'SIGKILL'), endChild(sidecar.child, 'SIGKILL')]);
      await world.startHelper();
      sidecar = await openSidecar();
    },
    reload: async () => front.signal('reload'),
    rotate: async () => {
      const path = `${accessLog}.${segments.length + 1}`;
      renameSync(accessLog, path);
      segments.push(path);
      front.signal('reopen');
      await until('nginx to open its log anew', () => existsSync(accessLog));
    },
    'conntrack-flushed': async () => void scene.runIn(scene.node, 'conntrack -F 2>/dev/null'),
    'pods-replaced': async () =>
      world.place(
        [0, 1, 2, 3].filter(() => chance.chance(0.6)),
        false,
      ),
    'vip-given': async () => world.place([0, 1, 2, 3], true),
    'half-open': async () => {
      const mute = scene.pods[chance.int(0, 3)]!;
      scene.runIn(mute, 'iptables -I INPUT -p tcp -m multiport --dports 8000,10000,10001 -j DROP');
      await delay(chance.int(300, 1_500));
      scene.runIn(mute, 'iptables -F INPUT');
    },
    'helper-stopped': async () => {
      kill(world.helper.child.pid!, 'SIGSTOP');
      await delay(chance.int(100, 2_000));
      kill(world.helper.child.pid!, 'SIGCONT');
    },
    'sidecar-stopped': async () => {
      kill(sidecar.child.pid!, 'SIGSTOP');
      await delay(chance.int(100, 2_000));
      kill(sidecar.child.pid!, 'SIGCONT');
    },
  };

  try {
    if (plan.places.some(({ extra }) => extra === 'bind'))
      setTimeout(() => scene.runIn(pod, `ip addr replace ${SECOND_IP}/32 dev eth0`), 700).unref();
    const traffic = startTraffic(world, plan, dir).catch((error: Error) => trouble.push(error.message));
    const begun = performance.now();
    for (const { name, atMs } of plan.faults) {
      await delay(Math.max(0, begun + atMs - performance.now()));
      await faults[name]();
    }
    await traffic;
    // What nginx still holds of its log it writes at its end.
    await front.stop();
    await waitForLines(() => sidecar.output, [...segments, accessLog], trouble);
    await delay(300);
  } finally {
    const code = await sidecar.stop();
    if (code !== 0) trouble.push(`the sidecar ended with ${code}: ${sidecar.said().slice(-2_000)}`);
    await front.stop();
  }
  const read = (path: string): Buffer => (existsSync(path) ? readFileSync(path) : Buffer.alloc(0));
  const verdict = judgeRound({
    inputs: [...segments, accessLog].map(read),
    output: read(sidecar.output),
    truth: read(join(dir, 'truth.log')),
    served: world.servedLogs.map(read),
  });
  for (const path of world.servedLogs) if (existsSync(path)) truncateSync(path);
  rmSync(dir, { recursive: true, force: true });
  return { verdict, seconds: (performance.now() - started) / 1000, trouble };
}

async function waitForLines(
  output: () => string,
  inputs: readonly string[],
  trouble: string[],
): Promise<void> {
  const end = performance.now() + CATCH_UP_MS;
  let missing = 1;
  while (missing > 0 && performance.now() < end) {
    await delay(100);
    missing = inputs.reduce((sum, path) => sum + countLines(path), 0) - countLines(output());
  }
  if (missing > 0) trouble.push(`${missing} lines were not out after ${CATCH_UP_MS} ms`);
}

async function startTraffic(world: World, plan: RoundPlan, dir: string): Promise<void> {
  const { scene } = world;
  const front = scene.fronts[0]!;
  const { bulk, seconds } = plan;
  const script = join(dir, 'bulk.lua');
  bulkScript(plan, script);
  const url = bulk.tls ? `https://${front.ip}:${TLS_PORT}` : `http://${front.ip}:${PLAIN_PORT}`;
  const all: Promise<unknown>[] = [];
  if (plan.passers > 0) {
    const passing: Omit<LoadPlan, 'host' | 'port'> = {
      connections: 60,
      total: plan.passers * seconds,
      ratePerSecond: plan.passers,
      keepalive: false,
      seed: plan.seed,
      limitMs: seconds * 1000,
      requests: passingRequests(plan),
    };
    all.push(load(scene, passing));
  } else {
    const args = ['-t1', `-c${bulk.connections}`, `-d${seconds}s`, '-s', script, url];
    all.push(collect(scene, scene.client, 'wrk', args));
  }
  if (plan.oddPerSecond > 0) {
    const odd: Omit<LoadPlan, 'host' | 'port'> = {
      connections: 30,
      total: plan.oddPerSecond * seconds,
      ratePerSecond: plan.oddPerSecond,
      seed: plan.seed,
      limitMs: seconds * 1000,
      requests: oddRequests(plan),
    };
    all.push(load(scene, odd));
  }
  if (plan.h2Clients > 0) {
    const urls = plan.places.map((_, n) => `http://${front.ip}:${H2_PORT}/p${n}/h2`);
    const args = [`-c${plan.h2Clients}`, '-m4', `-D${seconds}`, '--rps=100', ...urls];
    all.push(collect(scene, scene.client, 'h2load', args));
  }
  const slow = Array.from({ length: plan.slowReaders }, (_, i) => `/p${i % plan.places.length}/size/1048576`);
  if (slow.length + plan.upgrades > 0) {
    const client: ClientPlan = { host: front.ip, port: PLAIN_PORT, seconds, slow, upgrades: plan.upgrades };
    const program = fileURLToPath(new URL('clients.ts', import.meta.url));
    const args = ['--import', import.meta.resolve('tsx'), program, JSON.stringify(client)];
    all.push(collect(scene, scene.client, process.execPath, args));
  }
  await Promise.all(all);
}
