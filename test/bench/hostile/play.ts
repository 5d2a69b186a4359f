/** Plays a load through a real feed into a sidecar of its own process, and watches what becomes of it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Feed, type FeedCapture } from '../../../src/feed/feed.ts';
import { createApp } from '../../../src/http/app.ts';
import { addFeedRoutes } from '../../../src/http/helper/feed-routes.ts';
import { HttpServer } from '../../../src/http/server.ts';
import type { Observation } from '../../../src/model/feed.ts';
import { canonicalIp } from '../../../src/parse/address.ts';
import { watchHealth } from './health.ts';
import { type HostileScene, NGINX, podIp, type Said, vipOf } from './scenes.ts';

const CLI = fileURLToPath(new URL('../../../dist/cli.js', import.meta.url));
const RATE = 10_000;
const SECONDS = 5;
/** A step of the load (ms), as the helper hands its batches over. */
const STEP_MS = 5;
/** Waited for after the load (ms). */
const PATIENCE_MS = 30_000;

export interface Outcome {
  lines: number;
  /** Lines a second as played: the load's own process may be late. */
  rate: number;
  named: number;
  wrong: number;
  /** Lines that are missing, repeated or changed in anything but the address. */
  damaged: number;
  /** From the last line written to the last line read (ms); undefined: not within the patience. */
  caughtUpMs: number | undefined;
  /** The longest that /healthz took (ms). */
  healthMs: number;
  cpuSeconds: number;
  peakMb: number;
  reasons: string;
}

const formatOf = ({ id, times, port, bytes }: HostileScene['logs']): string =>
  [
    '$remote_addr [$time_local] "$request" $status $upstream_addr $body_bytes_sent',
    ...(id ? ['"$request_id"'] : []),
    ...(times
      ? [
          '$msec $request_time "$upstream_connect_time" "$upstream_header_time" "$upstream_response_time" "$upstream_status"',
        ]
      : []),
    ...(bytes ? ['"$upstream_bytes_sent" "$upstream_bytes_received"'] : []),
    ...(port ? ['"$upstream_local_port"'] : []),
  ].join(' ');

const seconds = (ms: number): string => (ms / 1000).toFixed(3);

/** Before and behind the addresses. */
function lineOf(
  logs: HostileScene['logs'],
  said: Said,
  end: number,
): [head: string, vip: string, tail: string] {
  const { took = 1, connect = '0.000', status = '200', attempts = 1 } = said;
  const header = said.header ?? seconds(took);
  const all = (one: string): string => Array.from({ length: attempts }, () => one).join(', ');
  const each = attempts === 1 ? took : 1;
  const parts = [
    '512',
    ...(logs.id ? [`"${said.id}"`] : []),
    ...(logs.times
      ? [
          `${seconds(end)} ${seconds(took)} "${all(connect)}" "${all(attempts === 1 ? header : seconds(each))}" "${all(seconds(each))}" "${all(status)}"`,
        ]
      : []),
    ...(logs.bytes ? [`"180" "${said.bytes}"`] : []),
    ...(logs.port ? [`"${said.port}"`] : []),
  ];
  return [
    `192.0.2.7 [27/Nov/2026:07:00:00 +0000] "GET /item HTTP/1.1" ${status} `,
    all(`${said.vip ?? vipOf(0)}:80`),
    ` ${parts.join(' ')}`,
  ];
}

interface Due {
  observations: Observation[];
  lines: { pod: number; parts: [string, string, string] }[];
}

export async function play(scene: HostileScene): Promise<Outcome> {
  const dir = mkdtempSync(join(tmpdir(), 'realpod-hostile-'));
  const feed = new Feed(Date.now);
  const old: Observation[] = [];
  scene.before?.((_at, observation) => old.push(observation), Date.now());
  const begun = Date.now() - 60_000;
  const sources = scene.sources ?? ['conntrack', 'tap'];
  let watermark = Date.now();
  const capture: FeedCapture = {
    subscribe: async () => ({
      flows: [],
      completeSince: Object.fromEntries(sources.map((source) => [source, begun])),
    }),
    unsubscribe() {},
    readPromptly() {},
    gather() {},
    flush: async () => feed.batch([], watermark),
  };
  feed.connect(capture);
  const onError = (message: string): void => console.error(message);
  const app = createApp(onError);
  addFeedRoutes(app, {
    feed,
    capture: { lookup: async () => [] },
    authorizer: { authorize: async () => ({ ok: true }) },
    names: undefined,
    canonical: canonicalIp,
    stats: { cutOff: 0, refused: 0 },
  });
  const limits = { connections: 20, connectionsPerSource: 20, requestsPerSecond: 1e6, headersMs: 5_000 };
  const server = new HttpServer({ limits, application: app, onError });
  const helper = await server.listen('127.0.0.1', 0);
  const [before, after] = [join(dir, 'access.log'), join(dir, 'enriched.log')];
  const log = openSync(before, 'a');
  const sidecar = spawn(
    process.execPath,
    [
      CLI,
      'sidecar',
      ...['--access-log', before, '--output', after, '--log-format', formatOf(scene.logs)],
      ...['--helper', `http://127.0.0.1:${helper}`, '--listen', '127.0.0.1:0'],
      ...['--source-address', NGINX, ...(scene.args ?? [])],
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  try {
    const port = await portOf(sidecar);
    while (feed.stats.readers === 0) await delay(5);
    const health = watchHealth(port);
    const rate = scene.rate ?? RATE;
    const count = rate * (scene.seconds ?? SECONDS);
    const truth: Due['lines'] = [];
    const due = new Map<number, Due>();
    const dueAt = (at: number): Due => {
      const ms = Math.ceil(at);
      const found = due.get(ms) ?? { observations: [], lines: [] };
      due.set(ms, found);
      return found;
    };
    watermark = Date.now();
    feed.batch(old, watermark);
    await delay(200);
    const start = Date.now() + 20;
    let played = start - 1;
    let next = 0;
    let wall = 0;
    for (let more = true; more; ) {
      const now = Date.now();
      const observations: Observation[] = [];
      const texts: string[] = [];
      for (let ms = played + 1; ms <= now; ms++) {
        for (; next < count && start + (next * 1000) / rate <= ms; next++) {
          const at = start + (next * 1000) / rate;
          const { pod, line } = scene.request((t, o) => dueAt(t).observations.push(o), next, at);
          const end = Math.ceil(at + (line.took ?? 1));
          dueAt(end).lines.push({ pod, parts: lineOf(scene.logs, line, end) });
        }
        const here = due.get(ms);
        if (!here) continue;
        due.delete(ms);
        observations.push(...here.observations);
        for (const line of here.lines) {
          truth.push(line);
          texts.push(`${line.parts.join('')}\n`);
        }
      }
      played = now;
      watermark = now;
      feed.batch(observations, watermark);
      if (texts.length > 0) writeSync(log, texts.join(''));
      more = next < count || due.size > 0;
      wall = now - start;
      await delay(STEP_MS);
    }
    const ended = performance.now();
    const caughtUpMs = await caughtUp(port, truth.length, ended, () => {
      watermark = Date.now();
      feed.batch([], watermark);
    });
    const healthMs = await health.stop();
    const { cpuSeconds, peakMb } = costOf(sidecar);
    const reasons = await reasonsOf(port);
    const ending = new Promise((resolve) => sidecar.once('exit', resolve));
    sidecar.kill('SIGTERM');
    await ending;
    return {
      ...compare(truth, readFileSync(after, 'latin1')),
      lines: truth.length,
      rate: Math.round((truth.length / wall) * 1000),
      caughtUpMs,
      healthMs,
      cpuSeconds,
      peakMb,
      reasons,
    };
  } finally {
    sidecar.kill('SIGKILL');
    closeSync(log);
    feed.close();
    await server.close();
    rmSync(dir, { recursive: true, force: true });
  }
}

function portOf(sidecar: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    let text = '';
    sidecar.stderr!.on('data', (chunk: Buffer) => {
      text = (text + chunk.toString()).slice(-10_000);
      const port = /answering on port (\d+)/.exec(text)?.[1];
      if (port !== undefined) resolve(Number(port));
    });
    sidecar.once('exit', () => reject(new Error(`the sidecar has ended: ${text}`)));
  });
}

async function metrics(port: number): Promise<string> {
  return await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
}

/** Time from `ended` until all lines are counted; a look every 50 ms. */
async function caughtUp(
  port: number,
  lines: number,
  ended: number,
  tick: () => void,
): Promise<number | undefined> {
  while (performance.now() - ended < PATIENCE_MS) {
    tick();
    let read = 0;
    for (const [, value] of (await metrics(port)).matchAll(/^realpod_lines_total\{[^}]*\} (\d+)$/gm))
      read += Number(value);
    if (read >= lines) return performance.now() - ended;
    await delay(50);
  }
  return undefined;
}

async function reasonsOf(port: number): Promise<string> {
  return [
    ...(await metrics(port)).matchAll(
      /^realpod_attempts_\w+_total\{(?:evidence|reason)="([^"]*)"\} (\d+)$/gm,
    ),
  ]
    .filter(([, , value]) => value !== '0')
    .map(([, name, value]) => `${name} ${value}`)
    .join(', ');
}

function costOf({ pid }: ChildProcess): { cpuSeconds: number; peakMb: number } {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]!.split(' ');
  const peak = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1];
  return { cpuSeconds: (Number(fields[11]) + Number(fields[12])) / 100, peakMb: Number(peak) / 1024 };
}

function compare(truth: Due['lines'], text: string): Pick<Outcome, 'named' | 'wrong' | 'damaged'> {
  const found = text.split('\n').slice(0, -1);
  const result = { named: 0, wrong: 0, damaged: Math.abs(found.length - truth.length) };
  truth.forEach(({ pod, parts: [head, vip, tail] }, i) => {
    const line = found[i];
    if (line === undefined) return;
    if (!line.startsWith(head) || !line.endsWith(tail)) {
      result.damaged++;
      return;
    }
    const upstream = line.slice(head.length, line.length - tail.length);
    const last = upstream.split(', ').at(-1)!;
    if (last === vip.split(', ').at(-1)) return;
    if (last === `${podIp(pod)}:8000`) result.named++;
    else result.wrong++;
  });
  return result;
}
