import { type ChildProcess, spawn } from 'node:child_process';
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { readRecording } from '../../src/demo/recording.ts';
import { compileLogFormat } from '../../src/parse/log-format.ts';
import type { Observation } from '../../src/record/feed.ts';
import { THINNING, Traffic } from './traffic.ts';

const CLI = fileURLToPath(new URL('../../dist/cli.js', import.meta.url));
const DEMO = new URL('../../demo/', import.meta.url);
const HISTORY_MS = 14 * 60_000;
const STEP_MS = 50;

export interface Product {
  url: string;
  accessLog: string;
  /** A source port and a request id that were seen. */
  seen(): { sport: number; id: string };
  stop(): Promise<void>;
}

/**
 * The built sidecar with a quarter of an hour of traffic behind it, and more coming until it is stopped. Since five
 * minutes ago two pods are ill.
 */
export async function startProduct(port = 0): Promise<Product> {
  const folder = mkdtempSync(join(tmpdir(), 'realpod-page-'));
  const accessLog = join(folder, 'access.log');
  const formatText = readFileSync(new URL('log_format', DEMO), 'utf8').trim();
  const format = compileLogFormat(formatText);
  const recording = await readRecording(DEMO, (bytes, start, end) => {
    const line = format.parse(bytes, start, end);
    return typeof line === 'string' ? undefined : line.endMs;
  });
  const traffic = new Traffic({
    records: recording.records,
    lines: recording.lines.map(({ at, bytes }) => ({ at, text: bytes.toString().trimEnd() })),
  });
  const begun = Date.now();
  const helper = await traffic.listen(begun - HISTORY_MS - 10_000);
  const child = spawn(
    process.execPath,
    [
      ...[CLI, 'sidecar', '--access-log', accessLog, '--output', join(folder, 'enriched.log')],
      ...['--log-format', formatText, '--helper', helper, '--listen', `127.0.0.1:${port}`],
      ...['--source-address', '10.244.0.70'],
    ],
    { stdio: ['ignore', 'inherit', 'pipe'] },
  );
  const stop = async (): Promise<void> => {
    running = false;
    await playing;
    child.kill('SIGTERM');
    if (child.exitCode === null) await new Promise((resolve) => child.once('exit', resolve));
    traffic.close();
    rmSync(folder, { recursive: true, force: true });
  };
  let running = true;
  let playing: Promise<void> = Promise.resolve();
  let seen = { sport: 0, id: '' };
  try {
    const url = `http://127.0.0.1:${await listening(child)}`;
    while (traffic.readers === 0) await delay(20);
    const duration = recording.lines.at(-1)!.at - recording.lines[0]!.at;
    const stride = duration / (2 * THINNING);
    const queue: ReturnType<Traffic['copy']> = [];
    let next = begun - HISTORY_MS;
    let number = 0;
    const advance = (now: number): void => {
      for (; next <= now; next += stride) {
        queue.push(...traffic.copy(number++, next, next > begun - 5 * 60_000));
      }
      queue.sort((a, b) => a.at - b.at);
      let due = 0;
      const records: Observation[] = [];
      let text = '';
      for (; due < queue.length && queue[due]!.at <= now; due++) {
        const { record, line } = queue[due]!;
        if (record) records.push(record);
        if (record?.kind === 'request' && record.id) seen = { sport: record.sport, id: record.id };
        if (line) text += `${line}\n`;
      }
      queue.splice(0, due);
      traffic.give(records, now);
      if (text !== '') appendFileSync(accessLog, text);
    };
    for (let at = next; at < begun; at += 10_000) {
      advance(at);
      await delay(STEP_MS);
    }
    playing = (async () => {
      while (running) {
        advance(Date.now());
        await delay(STEP_MS);
      }
    })();
    return { url, accessLog, seen: () => seen, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Waits until the sidecar says which port it has. */
function listening(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    let said = '';
    child.stderr!.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      const port = /answering on port (\d+)/.exec(said)?.[1];
      if (port) resolve(Number(port));
    });
    child.once('exit', (code) => reject(new Error(`the sidecar ended with ${code}: ${said}`)));
  });
}
