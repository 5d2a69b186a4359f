/** What each stage of the sidecar costs, with the limits of a running one: microseconds of CPU a line or a record. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { BlockLine } from '../../src/join/pending.ts';
import { cpuMicros } from './figure.ts';
import { WORKLOAD_FORMAT, writeWorkload } from './workload.ts';

const BLOCK_BYTES = 64 * 1024;
const CHUNK_BYTES = 16 * 1024;
/** After its last line a block is read so much later (ms). */
const READ_AFTER_MS = 5;

export interface Stages {
  /** Per record of the feed. */
  decode: number[];
  index: number[];
  /** Per line. */
  parse: number[];
  match: number[];
  rewrite: number[];
  /** All of them, per line. */
  all: number[];
  resolved: number;
  attempts: number;
}

/** The modules under measurement, of one build. */
export interface Build {
  codec: typeof import('../../src/feed/codec.ts');
  flowIndex: typeof import('../../src/join/index/flow-index.ts');
  waiting: typeof import('../../src/join/pending.ts');
  logFormat: typeof import('../../src/parse/log-format.ts');
  style: typeof import('../../src/rewrite/create.ts');
}

/** `dist`: the folder of a build, this tree's or another commit's. */
export async function loadBuild(dist: string): Promise<Build> {
  const load = (path: string) => import(pathToFileURL(join(dist, path)).href);
  return {
    codec: await load('feed/codec.js'),
    flowIndex: await load('join/index/flow-index.js'),
    waiting: await load('join/pending.js'),
    logFormat: await load('parse/log-format.js'),
    style: await load('rewrite/create.js'),
  };
}

export function stages(build: Build, dir: string, lines: number, rounds: number): Stages {
  const paths = { log: join(dir, 'stages.log'), feed: join(dir, 'stages.ndjson') };
  const workload = writeWorkload(paths, lines);
  const log = readFileSync(paths.log);
  const feed = readFileSync(paths.feed);
  const found: Stages = {
    decode: [],
    index: [],
    parse: [],
    match: [],
    rewrite: [],
    all: [],
    resolved: 0,
    attempts: workload.attempts,
  };
  for (let round = 0; round <= rounds; round++) {
    const one = oneRound(build, log, feed);
    found.resolved = one.resolved;
    // In the first V8 compiles.
    if (round === 0) continue;
    const { decode, index, parse, match, rewrite, records } = one;
    found.decode.push(decode / records);
    found.index.push(index / records);
    found.parse.push(parse / lines);
    found.match.push(match / lines);
    found.rewrite.push(rewrite / lines);
    found.all.push((decode + index + parse + match + rewrite) / lines);
  }
  return found;
}

/** The whole work once, on a join that remembers nothing yet. CPU in microseconds. */
export function oneRound(
  { codec, flowIndex, waiting: wait, logFormat, style: { createStyle } }: Build,
  log: Buffer,
  feed: Buffer,
) {
  const format = logFormat.compileLogFormat(WORKLOAD_FORMAT);
  const index = new flowIndex.FlowIndex();
  const waiting = new wait.PendingBlocks<undefined>(index, { maxWaitMs: 60_000, maxBytes: Infinity });
  const style = createStyle('replace', format);
  const decoder = new codec.RecordDecoder();
  const spent = { decode: 0, index: 0, parse: 0, match: 0, rewrite: 0, records: 0, resolved: 0 };
  let mark = cpuMicros();
  const lap = (stage: 'decode' | 'index' | 'parse' | 'match' | 'rewrite'): void => {
    const now = cpuMicros();
    spent[stage] += now - mark;
    mark = now;
  };
  let taken = 0;
  for (let from = 0; from < log.length; ) {
    const to = log.lastIndexOf(10, Math.min(log.length, from + BLOCK_BYTES) - 1) + 1;
    const bytes = log.subarray(from, to);
    const lines: BlockLine[] = [];
    let readAt = 0;
    mark = cpuMicros();
    for (let start = 0; start < bytes.length; ) {
      const end = bytes.indexOf(10, start);
      const parsed = format.parse(bytes, start, end);
      lines.push({ start, end, parsed });
      if (typeof parsed !== 'string') readAt = Math.max(readAt, parsed.endMs! + READ_AFTER_MS);
      start = end + 1;
    }
    lap('parse');
    waiting.push(bytes, readAt, lines, undefined);
    for (;;) {
      const settled = waiting.take(-Infinity);
      lap('match');
      for (const block of settled) {
        style.render(block.bytes, block.lines, block.outcomes);
        lap('rewrite');
        for (const outcomes of block.outcomes)
          spent.resolved += outcomes.filter((outcome) => 'evidence' in outcome).length;
      }
      if (settled.length > 0 || taken >= feed.length) break;
      mark = cpuMicros();
      const { records } = decoder.push(feed.subarray(taken, taken + CHUNK_BYTES));
      lap('decode');
      for (const record of records) index.apply(record);
      lap('index');
      taken += CHUNK_BYTES;
      spent.records += records.length;
    }
    from = to;
  }
  return spent;
}
