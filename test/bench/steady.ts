/** A sidecar at a steady rate beside a helper that is played: what its own path costs, and how late a line is. No root. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type Delays, summarise, watchDelays } from '../lab/kit/delay.ts';
import { cpuSeconds, memory } from './process-cost.ts';
import { WORKLOAD_FORMAT, WORKLOAD_SOURCE, writeWorkload } from './workload.ts';

const CLI = fileURLToPath(new URL('../../dist/cli.js', import.meta.url));
/** As the helper reads under load. */
const STEP_MS = 5;
/** Of a second: V8 compiles meanwhile. */
const WARM_UP_SECONDS = 10;

export interface SteadyPath {
  linesPerSecond: number;
  /** Shares of one core. */
  cpu: number;
  idleCpu: number;
  idleMb: number;
  peakMb: number;
  delays: Delays;
  resolved: number;
  lines: number;
}

/** A line or record around the time that is to be moved to the present; `at`: ms on the workload's clock. */
interface Timed {
  at: number;
  before: string;
  after: string;
}

function timed(path: string, time: RegExp, toMs: number): Timed[] {
  return readFileSync(path, 'latin1')
    .trimEnd()
    .split('\n')
    .map((text) => {
      const found = time.exec(text)!;
      const from = found.index + found[0].indexOf(found[1]!);
      return {
        at: Math.round(Number(found[1]) * toMs * 1000) / 1000,
        before: text.slice(0, from),
        after: `${text.slice(from + found[1]!.length)}\n`,
      };
    });
}

/** What starting leaves behind is collected by V8 some seconds later, and is no part of being idle (ms). */
const SETTLE_MS = 12_000;

/** `nodeArgs`: for the sidecar's Node. */
export async function steadyPath(
  dir: string,
  seconds: number,
  idleSeconds: number,
  nodeArgs: readonly string[] = [],
): Promise<SteadyPath> {
  const rate = 10_000;
  const paths = { log: join(dir, 'steady.log'), feed: join(dir, 'steady.ndjson') };
  writeWorkload(paths, rate * (seconds + WARM_UP_SECONDS));
  const lines = timed(paths.log, /" (\d{10}\.\d{3}) /, 1000);
  const records = timed(paths.feed, /"t":([\d.]+)/, 1);
  const start = lines[0]!.at;
  const log = join(dir, 'followed.log');
  const output = join(dir, 'enriched.log');
  writeFileSync(log, '');
  let reader: ServerResponse | undefined;
  let watermark = 0;
  const tick = (t: number) => `{"kind":"tick","seq":${t * 1000},"t":${t}}\n`;
  const server = createServer((request, response) => {
    if (request.url!.startsWith('/v1/feed')) {
      response.writeHead(200, { 'content-type': 'application/x-ndjson' });
      reader = response;
      return;
    }
    watermark = Date.now();
    reader?.write(tick(watermark));
    response.end(`{"t":${watermark}}`);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const child = spawn(
    process.execPath,
    [
      ...nodeArgs,
      ...[process.env.REALPOD_BENCH_CLI ?? CLI, 'sidecar', '--access-log', log, '--output', output],
      ...['--log-format', WORKLOAD_FORMAT, '--source-address', WORKLOAD_SOURCE],
      ...['--helper', `http://127.0.0.1:${port}`, '--listen', '127.0.0.1:0'],
    ],
    { stdio: ['ignore', 'inherit', 'pipe'] },
  );
  child.stderr!.resume();
  try {
    await until(() => reader !== undefined);
    // As a helper: a watermark a second for a quiet reader.
    reader!.write(tick(Date.now()));
    const quiet = setInterval(() => reader!.write(tick(Date.now())), 1000);
    if (idleSeconds > 0) await delay(SETTLE_MS);
    const idle = await share([child.pid!], () => delay(idleSeconds * 1000));
    const idleMb = memory(child.pid!).now;
    clearInterval(quiet);
    const fd = openSync(log, 'a');
    const shift = Date.now() + 100 - start;
    let nextLine = 0;
    let nextRecord = 0;
    const play = async (until: number): Promise<void> => {
      while (nextLine < lines.length && Date.now() - shift < until) {
        const now = Date.now() - shift;
        let text = '';
        for (; nextRecord < records.length; nextRecord++) {
          const { at, before, after } = records[nextRecord]!;
          if (at > now) break;
          text += before + (at + shift).toFixed(3) + after;
        }
        // Lines come while the helper rests: its watermark is that of its last reading.
        if (text !== '') reader!.write(text + tick(Date.now()));
        let written = '';
        for (; nextLine < lines.length && lines[nextLine]!.at <= now; nextLine++) {
          const { at, before, after } = lines[nextLine]!;
          written += before + ((at + shift) / 1000).toFixed(3) + after;
        }
        if (written !== '') writeSync(fd, written);
        await delay(STEP_MS);
      }
    };
    await play(start + WARM_UP_SECONDS * 1000);
    const first = nextLine;
    const watch = watchDelays(output);
    const cpu = await share([child.pid!], () => play(Infinity));
    await until(() => countLines(output) >= lines.length);
    closeSync(fd);
    const delays = summarise(watch.stop());
    const peakMb = memory(child.pid!).peak;
    await end(child);
    const resolved = readFileSync(output, 'latin1').match(/ 10\.244\.1\.\d+:10000/g)?.length ?? 0;
    return {
      linesPerSecond: (lines.length - first) / seconds,
      cpu,
      idleCpu: idle,
      idleMb,
      peakMb,
      delays,
      resolved,
      lines: lines.length,
    };
  } finally {
    await end(child);
    reader?.destroy();
    server.close();
  }
}

async function share(pids: readonly number[], work: () => Promise<unknown>): Promise<number> {
  const cpu = cpuSeconds(pids);
  const begun = performance.now();
  await work();
  return ((cpuSeconds(pids) - cpu) * 1000) / (performance.now() - begun);
}

function countLines(path: string): number {
  let count = 0;
  for (const byte of readFileSync(path)) if (byte === 10) count++;
  return count;
}

async function until(done: () => boolean): Promise<void> {
  for (let i = 0; i < 200; i++) {
    if (done()) return;
    await delay(100);
  }
  throw new Error('bench: gave up waiting');
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  await ended;
}
