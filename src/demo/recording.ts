import { readFile } from 'node:fs/promises';
import type { Capture, CaptureSink, Subscription } from '../capture/capture.ts';
import { decodeRecord } from '../feed/codec.ts';
import type { FeedCapture } from '../feed/feed.ts';
import type { FeedRecord, NameRecord, Observation } from '../model/feed.ts';
import type { PodName } from '../model/outcome.ts';

/** What a recording has to offer: a helper's feed and the access log of the same time. */
export interface Recording {
  records: FeedRecord[];
  /** Each line with its newline, and when nginx wrote it (ms since the epoch). */
  lines: { at: number; bytes: Buffer }[];
}

/** Reads `access.log` and `feed.ndjson` of a folder; `lineTime` says when a line was written. */
export async function readRecording(
  folder: URL,
  lineTime: (bytes: Buffer, start: number, end: number) => number | undefined,
): Promise<Recording> {
  const log = await readFile(new URL('access.log', folder));
  const feed = await readFile(new URL('feed.ndjson', folder), 'utf8');
  const records: FeedRecord[] = [];
  for (const line of feed.split('\n')) {
    if (line === '') continue;
    const record = decodeRecord(line);
    if (typeof record === 'string') throw new Error(`the recording is damaged: ${record}`);
    if (record) records.push(record);
  }
  const lines: Recording['lines'] = [];
  for (let start = 0; start < log.length; ) {
    const newline = log.indexOf(0x0a, start);
    const end = newline < 0 ? log.length : newline;
    lines.push({
      at: lineTime(log, start, end) ?? lines.at(-1)?.at ?? 0,
      bytes: log.subarray(start, end + 1),
    });
    start = end + 1;
  }
  return { records, lines };
}

/** Time of the first watermark, ms since the epoch: what came before it is what a new reader is given. */
export function startOf(records: readonly FeedRecord[]): number {
  return records.find((record) => record.kind === 'tick')?.t ?? 0;
}

/** `[23/Nov/2026:05:43:47 +0000]`, `$time_local` of the recording, whose zone is UTC. */
const TIME_LOCAL = /\[\d\d\/\w{3}\/\d{4}:\d\d:\d\d:\d\d \+0000\]/;

/** The recording as if it had been made `byMs` later: the times of all records, and those that nginx wrote. */
export function movedInTime({ records, lines }: Recording, byMs: number): Recording {
  const by = Math.round(byMs);
  return {
    records: records.map((record) => ({
      ...record,
      t: record.t + by,
      ...(record.kind === 'gap' && record.from !== undefined ? { openedAfter: record.from + by } : {}),
    })),
    lines: lines.map(({ at, bytes }) => {
      const moved = bytes
        .toString('latin1')
        .replace(TIME_LOCAL, `[${timeLocal(at + by)}]`)
        .replace((at / 1000).toFixed(3), ((at + by) / 1000).toFixed(3));
      return { at: at + by, bytes: Buffer.from(moved, 'latin1') };
    }),
  };
}

function timeLocal(ms: number): string {
  const [, day, month, year, time] = /^\w+, (\d+) (\w+) (\d+) ([\d:]+)/.exec(new Date(ms).toUTCString())!;
  return `${day}/${month}/${year}:${time} +0000`;
}

/** The names that a recording gives to addresses. */
export class RecordedNames {
  readonly #byIp = new Map<string, NameRecord>();

  constructor(records: readonly FeedRecord[]) {
    for (const record of records) if (record.kind === 'name') this.#byIp.set(record.ip, record);
  }

  lookup(ip: string): PodName | undefined {
    const record = this.#byIp.get(ip);
    if (!record) return undefined;
    const { pod, namespace, node, service } = record;
    return { pod, namespace, node, service };
  }

  /** One name for an address, since ever: a recording has no pod that takes another's address. */
  history(ip: string): Omit<NameRecord, 'seq'>[] {
    const name = this.lookup(ip);
    return name ? [{ kind: 'name', t: 0, ip, ...name }] : [];
  }
}

/**
 * Plays recorded records into a feed in place of the kernel: what came before the first watermark is what a new
 * reader is given, the rest comes at the recorded pace, with the recorded times.
 */
export class ReplayedCapture implements FeedCapture, Pick<Capture, 'lookup'> {
  readonly #sink: CaptureSink;
  readonly #beginning: FeedRecord[];
  readonly #rest: FeedRecord[];
  /** Source port of the last request that was played, 0 before. */
  lastPort = 0;
  #next = 0;
  #batch: Observation[] = [];

  constructor(records: readonly FeedRecord[], sink: CaptureSink) {
    const first = records.findIndex((record) => record.kind === 'tick');
    this.#beginning = records.slice(0, first);
    this.#rest = records.slice(first);
    this.#sink = sink;
  }

  /** Recorded time of the first watermark, ms since the epoch. */
  get startsAt(): number {
    return startOf(this.#rest);
  }

  get endsAt(): number {
    return this.#rest.at(-1)?.t ?? 0;
  }

  /** Delivers everything up to the recorded time `t`. */
  advance(t: number): void {
    for (let record = this.#rest[this.#next]; record && record.t <= t; record = this.#rest[++this.#next]) {
      if (record.kind === 'tick') this.#sink.batch(this.#batch.splice(0), record.t);
      else if (record.kind !== 'name') this.#batch.push(record);
      if (record.kind === 'request') this.lastPort = record.sport;
    }
  }

  /** After the recording's end: nothing more has happened up to `t`. */
  quiet(t: number): void {
    this.#sink.batch([], t);
  }

  async subscribe(): Promise<Subscription> {
    const completeSince: Subscription['completeSince'] = {};
    for (const record of this.#beginning) if (record.kind === 'gap') completeSince[record.source] = record.t;
    const flows: Subscription['flows'] = [];
    for (const record of this.#beginning) if (record.kind === 'open') flows.push(record);
    return { flows, completeSince };
  }

  unsubscribe(): void {}

  readPromptly(): void {}

  async flush(): Promise<void> {}

  /** The connections that the recording shows on this port. */
  async lookup(src: string, sport: number): ReturnType<Capture['lookup']> {
    const all = [...this.#beginning, ...this.#rest.slice(0, this.#next)];
    return all
      .filter((record) => record.kind === 'open')
      .filter((record) => record.src === src && record.sport === sport)
      .map(({ t, preexisting, ...flow }) => ({
        ...flow,
        from: t,
        preexisting: preexisting === true,
        ended: false,
      }));
  }
}
