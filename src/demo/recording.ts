import { readFile } from 'node:fs/promises';
import { decodeRecord } from '../feed/codec.ts';
import type { FeedRecord, NameRecord, RequestRecord } from '../model/feed.ts';
import type { PodName } from '../model/outcome.ts';
import { formatHostPort } from '../parse/address.ts';

/** A helper's feed and the access log of the same time. */
export interface Recording {
  records: FeedRecord[];
  lines: RecordedLine[];
}

export interface RecordedLine {
  /** When nginx wrote it, ms since the epoch. */
  at: number;
  /** With its newline. */
  bytes: Buffer;
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
/** How much of a request id tells the passes of a recording apart, in hex digits. */
const PASS_DIGITS = 6;

/**
 * The recording as if it had been made `byMs` later, and `speed` times as fast: the times of all records, and those that
 * nginx wrote. Durations in lines stay: a line then seems to have begun earlier than it did, which only adds candidates. From
 * the second pass on the request ids differ too, as no id occurs twice in real traffic.
 */
export function movedInTime({ records, lines }: Recording, byMs: number, pass = 0, speed = 1): Recording {
  const by = Math.round(byMs);
  const start = startOf(records);
  const moved = (t: number): number => (speed === 1 ? t + by : start + by + (t - start) / speed);
  const ids = new Map<string, string>();
  for (const record of records) {
    if (record.kind === 'request' && record.id !== undefined) ids.set(record.id, idOfPass(record.id, pass));
  }
  return {
    records: records.map((record) => movedRecord(record, moved, ids)),
    lines: lines.map(({ at, bytes }) => {
      const movedAt = Math.floor(moved(at));
      const text = bytes
        .toString('latin1')
        .replace(TIME_LOCAL, `[${timeLocal(movedAt)}]`)
        .replace((at / 1000).toFixed(3), (movedAt / 1000).toFixed(3))
        .replace(/"([0-9a-f]{32})"/, (whole, id: string) => (ids.has(id) ? `"${ids.get(id)}"` : whole));
      return { at: movedAt, bytes: Buffer.from(text, 'latin1') };
    }),
  };
}

function movedRecord(
  record: FeedRecord,
  at: (t: number) => number,
  ids: ReadonlyMap<string, string>,
): FeedRecord {
  const moved = { ...record, t: at(record.t) };
  if (moved.kind === 'gap' && moved.from !== undefined) moved.from = at(moved.from);
  if (moved.kind === 'open' && moved.openedAfter !== undefined) moved.openedAfter = at(moved.openedAfter);
  if (moved.kind === 'close' && moved.endedBefore !== undefined) moved.endedBefore = at(moved.endedBefore);
  if (moved.kind === 'request' && moved.id !== undefined) moved.id = ids.get(moved.id) ?? moved.id;
  return moved;
}

function idOfPass(id: string, pass: number): string {
  if (pass === 0) return id;
  return id.slice(0, -PASS_DIGITS) + (pass % 16 ** PASS_DIGITS).toString(16).padStart(PASS_DIGITS, '0');
}

function timeLocal(ms: number): string {
  const [, day, month, year, time] = /^\w+, (\d+) (\w+) (\d+) ([\d:]+)/.exec(new Date(ms).toUTCString())!;
  return `${day}/${month}/${year}:${time} +0000`;
}

/**
 * Each line as it has to come out, by what the node's kernel saw: the pod that each request with the line's id was sent
 * to. Undefined where the recording does not hold as many requests with that id as the line has attempts.
 */
export function expectedLines({ records, lines }: Recording): (string | undefined)[] {
  const requests = new Map<string, RequestRecord[]>();
  for (const record of records) {
    if (record.kind !== 'request' || record.id === undefined || record.update) continue;
    const same = requests.get(record.id);
    if (same) same.push(record);
    else requests.set(record.id, [record]);
  }
  return lines.map(({ bytes }) => {
    const line = bytes.toString('latin1').trimEnd();
    const id = /"([0-9a-f]{32})"/.exec(line)?.[1];
    const sent = id === undefined ? undefined : requests.get(id);
    if (!sent) return undefined;
    let done = '';
    let rest = line;
    for (const { vip, vport, ip, port } of sent) {
      const dialled = vip === undefined ? undefined : formatHostPort(vip, vport ?? 0);
      const at = dialled === undefined ? -1 : rest.indexOf(dialled);
      if (dialled === undefined || at < 0) return undefined;
      done += rest.slice(0, at) + formatHostPort(ip, port);
      rest = rest.slice(at + dialled.length);
    }
    return done + rest;
  });
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
