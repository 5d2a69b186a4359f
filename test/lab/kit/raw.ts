/**
 * A client that writes whatever bytes it is told to: `raw.ts HOST PORT < sessions.json`, run in the client's namespace.
 * Prints one line of JSON: what came back for each session, as counts of statuses and closed connections.
 */
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

/** One connection's script. Text is latin1, so every byte can be written. */
export interface Session {
  steps: readonly Step[];
  /** How often, one after the other. Default 1. */
  times?: number;
}

/**
 * - `send`: text; `{n}` is the number of the round, `{name}` what a session before has kept under `name`. With `pieceBytes`
 *   it goes out in pieces of that size, `gapMs` apart.
 * - `await`: a regular expression that what has come back has to match; its first group is kept under `keep`.
 */
export type Step =
  | { send: string; pieceBytes?: number; gapMs?: number }
  | { await: string; keep?: string }
  | { pauseMs: number };

export interface RawResult {
  sessions: number;
  /** Connections that the other side closed or reset. */
  closed: number;
  statuses: Record<string, number>;
}

const PATIENCE_MS = 1_500;

async function play(
  host: string,
  port: number,
  session: Session,
  n: number,
  kept: Map<string, string>,
  result: RawResult,
): Promise<void> {
  const socket: Socket = connect({ host, port, noDelay: true });
  let back = '';
  let over = false;
  let wake = (): void => {};
  socket.on('data', (bytes: Buffer) => {
    back += bytes.toString('latin1');
    wake();
  });
  const end = (): void => {
    over = true;
    wake();
  };
  socket.on('error', end).on('close', end);
  const change = (ms: number): Promise<void> =>
    Promise.race([new Promise<void>((resolve) => (wake = resolve)), delay(ms)]);
  const fill = (text: string): string =>
    text.replaceAll('{n}', String(n)).replaceAll(/\{([a-z]+)\}/g, (whole, name) => kept.get(name) ?? whole);
  for (const step of session.steps) {
    if (over) break;
    if ('pauseMs' in step) await delay(step.pauseMs);
    else if ('await' in step) {
      const until = Date.now() + PATIENCE_MS;
      const wanted = new RegExp(step.await);
      while (!over && !wanted.test(back) && Date.now() < until) await change(until - Date.now());
      const value = wanted.exec(back)?.[1];
      if (step.keep !== undefined && value !== undefined) kept.set(step.keep, value);
    } else {
      const bytes = Buffer.from(fill(step.send), 'latin1');
      const size = step.pieceBytes ?? bytes.length;
      for (let at = 0; at < bytes.length && !over; at += size) {
        if (at > 0 && step.gapMs !== undefined) await delay(step.gapMs);
        if (!socket.write(bytes.subarray(at, at + size))) await change(PATIENCE_MS);
      }
    }
  }
  result.sessions++;
  if (over) result.closed++;
  for (const [, status] of back.matchAll(/HTTP\/1\.[01] (\d{3}) /g))
    result.statuses[status!] = (result.statuses[status!] ?? 0) + 1;
  socket.destroy();
}

const [host, port] = process.argv.slice(2);
if (process.argv[1]?.endsWith('raw.ts') && host !== undefined) {
  const sessions = JSON.parse(readFileSync(0, 'utf8')) as Session[];
  const result: RawResult = { sessions: 0, closed: 0, statuses: {} };
  const kept = new Map<string, string>();
  await Promise.all(
    sessions.map(async (session) => {
      for (let n = 0; n < (session.times ?? 1); n++)
        await play(host, Number(port), session, n, kept, result).catch(() => result.sessions++);
    }),
  );
  console.log(JSON.stringify(result));
}
