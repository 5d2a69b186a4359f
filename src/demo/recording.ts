import { readFile } from 'node:fs/promises';
import type { Capture, CaptureSink, Subscription } from '../capture/capture.ts';
import { decodeRecord } from '../feed/codec.ts';
import type { FeedRecord, Observation } from '../record/feed.ts';

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

/**
 * Plays recorded records into a feed in place of the kernel: what came before the first watermark is what a new
 * reader is given, the rest comes at the recorded pace, with the recorded times.
 */
export class ReplayedCapture implements Pick<Capture, 'subscribe' | 'unsubscribe' | 'flush' | 'lookup'> {
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
    return this.#rest[0]?.t ?? 0;
  }

  get endsAt(): number {
    return this.#rest.at(-1)?.t ?? 0;
  }

  /** Delivers everything up to the recorded time `t`. */
  advance(t: number): void {
    for (let record = this.#rest[this.#next]; record && record.t <= t; record = this.#rest[++this.#next]) {
      if (record.kind === 'tick') this.#sink.batch(this.#batch.splice(0), record.t);
      else this.#batch.push(record);
      if (record.kind === 'request') this.lastPort = record.sport;
    }
  }

  async subscribe(): Promise<Subscription> {
    const completeSince: Subscription['completeSince'] = {};
    for (const record of this.#beginning) if (record.kind === 'gap') completeSince[record.source] = record.t;
    const flows: Subscription['flows'] = [];
    for (const record of this.#beginning) if (record.kind === 'open') flows.push(record);
    return { flows, completeSince };
  }

  unsubscribe(): void {}

  async flush(): Promise<void> {}

  /** The connections that the recording shows on this port. */
  async lookup(src: string, sport: number): ReturnType<Capture['lookup']> {
    const all = [...this.#beginning, ...this.#rest.slice(0, this.#next)];
    return all
      .filter((record) => record.kind === 'open')
      .filter((record) => record.src === src && record.sport === sport)
      .map(({ t, held, ...flow }) => ({ ...flow, from: t, held: held === true, ended: false }));
  }
}
