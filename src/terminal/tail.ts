import type { Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import type { TailOptions } from '../config/commands.ts';
import type { ShownLine } from '../http/sidecar/recent.ts';
import { formatHostPort } from '../parse/address.ts';
import { serverEvents } from './event-stream.ts';
import { ask, SidecarError } from './sidecar-client.ts';
import { type Color, type Look, paint, printable } from './table.ts';

const STREAM_RETRY_MS = 1_000;

/**
 * `realpod tail`: the enriched lines as they leave, until `stop` aborts or stdout closes. For people a line of columns
 * each; in a pipe the enriched line itself and nothing else.
 */
export async function runTail(
  options: TailOptions,
  stdout: Writable,
  look: Look,
  say: (text: string) => void,
  stop: AbortSignal,
): Promise<number> {
  const { sidecar, pod, status, path } = options;
  const wanted = { pod, status, path };
  let last = String(options.last);
  const ending = new AbortController();
  stop.addEventListener('abort', () => ending.abort(), { once: true });
  stdout.on('error', () => ending.abort());
  for (let first = true; !ending.signal.aborted; first = false) {
    try {
      const response = await ask(sidecar, 'lines/stream', { ...wanted, last }, ending.signal);
      last = '0';
      for await (const { name, data } of serverEvents(response.body!)) {
        if (name === 'skipped') say(`${(JSON.parse(data) as { lines: number }).lines} lines left out here`);
        else if (name === '') await print(stdout, render(JSON.parse(data) as ShownLine, look), ending.signal);
      }
      say('the sidecar ended the stream; trying again');
    } catch (error) {
      if (ending.signal.aborted) break;
      // What is wrong at the beginning is for people to mend; what was right once may come back.
      if (first && error instanceof SidecarError) throw error;
      say(error instanceof SidecarError ? error.message : 'the stream broke; trying again');
    }
    await delay(STREAM_RETRY_MS, undefined, { signal: ending.signal }).catch(() => {});
  }
  return 0;
}

/** Waits for a slow reader; the sidecar then skips lines rather than this process keeping them. */
async function print(stdout: Writable, text: string, signal: AbortSignal): Promise<void> {
  if (stdout.write(text)) return;
  await new Promise<void>((resolve) => {
    stdout.once('drain', resolve);
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** One line. Columns: time, status, ms, pod, evidence or reason, request. */
export function render(line: ShownLine, look: Look): string {
  if (!look.pretty) return `${line.enriched}\n`;
  const { time, status, method, path, attempts, requestMs } = line;
  if (path === undefined && attempts.length === 0) return `${printable(line.line)}\n`;
  const last = attempts.at(-1);
  const ms = last?.responseMs ?? requestMs;
  const pod =
    last?.pod || (last?.ip === undefined ? last?.upstream : formatHostPort(last.ip, last.port ?? 0));
  const why = last?.evidence ?? last?.reason ?? '-';
  const cells = [
    paint(time?.slice(11, 23) ?? '-'.padEnd(12), 'dim', look),
    paint(String(status ?? '-').padEnd(3), colorOf(status), look),
    `${ms ?? '-'}`.padStart(6),
    paint((pod ?? '-').padEnd(30), last?.evidence ? 'cyan' : undefined, look),
    paint(why.padEnd(12), last?.reason ? 'yellow' : 'dim', look),
    printable(`${method ?? ''} ${path ?? ''}`.trim()),
  ];
  return `${cells.join('  ')}\n`;
}

function colorOf(status: number | undefined): Color | undefined {
  if (status === undefined) return undefined;
  return status >= 500 ? 'red' : status >= 400 ? 'yellow' : 'green';
}
