/** What evidence `only-answer` costs a sidecar, for lines that say nothing but a time: microseconds of CPU a line or a record. */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { FeedRecord, Observation } from '../../src/model/feed.ts';
import type { ParsedLine } from '../../src/model/line.ts';
import { seededRandom } from '../model/traffic.ts';
import { lineOf, NGINX, podIp, T0, VIP } from '../model/wire.ts';
import { cpuMicros } from './figure.ts';

const CONNECTIONS = 100;
const PODS = 4;
/** The helper hands over a batch so often (ms). */
const BATCH_MS = 5;
const COMPARED = { target: true, userAgent: true, referer: true };

/** The modules under measurement, of one build. */
interface Build {
  flowIndex: typeof import('../../src/join/index/flow-index.ts');
  match: typeof import('../../src/join/match.ts');
}

export interface OnlyAnswerCost {
  /** Per record of the feed: requests and answers in equal numbers. */
  index: number[];
  /** Per line: match and settle. */
  line: number[];
  /** The share of lines that were named. */
  named: number;
}

/** `dist`: the folder of a build. `contents`: so many different requests; 1: all alike. */
export async function onlyAnswerCost(
  dist: string,
  contents: number,
  lines: number,
  rounds: number,
): Promise<OnlyAnswerCost> {
  const load = (path: string) => import(pathToFileURL(join(dist, path)).href);
  const build: Build = {
    flowIndex: await load('join/index/flow-index.js'),
    match: await load('join/match.js'),
  };
  const batches = batchesOf(contents, lines);
  const cost: OnlyAnswerCost = { index: [], line: [], named: 0 };
  for (let round = 0; round <= rounds; round++) {
    const { index, line, records, named } = oneRound(build, batches);
    cost.named = named / lines;
    // In the first V8 compiles.
    if (round === 0) continue;
    cost.index.push(index / records);
    cost.line.push(line / lines);
  }
  return cost;
}

interface Batch {
  records: FeedRecord[];
  lines: { parsed: ParsedLine; readAt: number }[];
}

/** Kept connections to one Service, one request a millisecond, each answered within some; its line is read at its end. */
function batchesOf(contents: number, lines: number): Batch[] {
  const random = seededRandom(1);
  const batches: Batch[] = [];
  let seq = 0;
  const batchAt = (at: number): Batch => {
    const n = Math.floor(at / BATCH_MS);
    while (batches.length <= n) batches.push({ records: [], lines: [] });
    return batches[n]!;
  };
  const tell = (batch: Batch, observation: Observation): void => {
    batch.records.push({ ...observation, seq: ++seq } as FeedRecord);
  };
  const flow = (connection: number) => ({
    src: NGINX,
    sport: 30_000 + connection,
    vip: VIP,
    vport: 80,
    ip: podIp(1 + (connection % PODS)),
    port: 8000,
  });
  const first = batchAt(0);
  for (const source of ['conntrack', 'tap'] as const) tell(first, { kind: 'gap', source, t: T0 - 600_000 });
  for (let n = 0; n < CONNECTIONS; n++)
    tell(first, { kind: 'open', t: T0 - 1_000, ...flow(n), via: 'conntrack' });
  tell(first, { kind: 'tick', t: T0 - 1 });
  for (let n = 0; n < lines; n++) {
    const at = BATCH_MS + n;
    const content = Math.floor(random() * contents);
    const end = at + 1 + Math.floor(random() * 8);
    const hashes = [content, content % 7, 0] as const;
    tell(batchAt(at), {
      kind: 'request',
      t: T0 + at,
      ...flow(n % CONNECTIONS),
      content: [...hashes],
      singleSegment: true,
      via: 'tap',
    });
    tell(batchAt(end), {
      kind: 'response',
      t: T0 + end,
      ...flow(n % CONNECTIONS),
      kernelTime: true,
      via: 'tap',
    });
    const [target, userAgent, referer] = hashes;
    const parsed: ParsedLine = {
      ...lineOf(
        { end, took: end - at },
        { attempt: { connectMs: undefined, headerMs: undefined, responseMs: undefined, status: undefined } },
      ),
      requestMs: undefined,
      content: { target, userAgent, referer },
    };
    batchAt(end).lines.push({ parsed, readAt: T0 + end });
  }
  batches.forEach((batch, n) => {
    batch.records.sort((a, b) => a.t - b.t);
    tell(batch, { kind: 'tick', t: T0 + (n + 1) * BATCH_MS });
  });
  return batches;
}

/** CPU in microseconds. */
function oneRound({ flowIndex, match }: Build, batches: readonly Batch[]) {
  const index = new flowIndex.FlowIndex(undefined, () => COMPARED);
  const spent = { index: 0, line: 0, records: 0, named: 0 };
  for (const [n, batch] of batches.entries()) {
    let mark = cpuMicros();
    for (const record of batch.records) index.apply(record);
    let now = cpuMicros();
    spent.index += now - mark;
    spent.records += batch.records.length;
    if (n === 0) index.quiet.add({ before: T0, after: T0 });
    mark = cpuMicros();
    for (const { parsed, readAt } of batch.lines) {
      const found = match.matchLine(parsed, readAt, index);
      match.settleLine(found, index);
      if (found.outcomes.every((outcome) => 'evidence' in outcome)) spent.named++;
    }
    now = cpuMicros();
    spent.line += now - mark;
  }
  return spent;
}
