/** What the source `trace` says of each line, beside the port that the pod itself saw. Shares no code with the product. */
import type { ChildProcess } from 'node:child_process';
import {
  closeSync,
  existsSync,
  fstatSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
  truncateSync,
} from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { readLine } from './check.ts';
import { until } from './nginx.ts';
import { HELPER_PORT } from './product.ts';
import type { ResultsFile } from './results.ts';
import { endChild, NODE_IP, type Pod, type Scene } from './scene.ts';

export const traceResults: ResultsFile = {
  url: new URL('../../../docs/results/trace.md', import.meta.url),
  header: `# The source \`trace\`, measured

Written by \`npm run test:trace\`, \`npm run bench:trace\` and \`npm run soak:trace\` when \`REALPOD_LAB_RESULTS=write\` is set; not by
hand. Each line's truth comes from the pod that answered it: its address, and the port that nginx called from.
`,
};

/** The list of `$upstream_addr`, and the port that nginx called from, by the pod's own word at the end of the line. */
const SAID = /" \d{3} (\S+) .*"(\d+)"$/;
/** How long the record may lag behind the log (ms). */
const LAG_MS = 120_000;
/**
 * A record is of a line that was written soon after it. Among hundreds of thousands of lines two have one checksum, and where the
 * record of one is missing the other's would be taken for it.
 */
const NEAR_BYTES = 512 * 1024;
/** Reading the feed again, when it was disconnected or the helper is away. */
const MOST_TRIES = 300;
const AGAIN_MS = 100;
/** Gaps of the record that findings list. */
const MOST_GAPS = 12;

export interface ByConnection {
  /** Lines with an answer. */
  answered: number;
  /** Of those: with the port that the pod saw, with another one, and without a record. */
  right: number;
  wrong: number;
  missing: number;
  /** Of those whose record is there: the pod that answered is not in the sidecar's output. */
  unnamed: number;
  /** The first few that are wrong or unnamed, and the record's last gaps. */
  findings: string[];
}

interface Line {
  kind: string;
  ino: string;
  offset: number;
  length: number;
  check: number;
  attempts?: [number, number, string, number, number][];
}

/** The end of the file. */
function tailOf(path: string): string {
  const file = openSync(path, 'r');
  try {
    const tail = Buffer.alloc(1 << 16);
    const { size } = fstatSync(file);
    const read = readSync(file, tail, 0, tail.length, Math.max(0, size - tail.length));
    return tail.toString('latin1', 0, read);
  } finally {
    closeSync(file);
  }
}

/** The watermark of the youngest records in the file, ms since the epoch. */
function watermarkOf(path: string): number {
  const ticks = [...tailOf(path).matchAll(/^\{"kind":"tick"[^\n]*?"t":([\d.]+)/gm)];
  return Number(ticks.at(-1)?.[1] ?? 0);
}

/** The cursor behind the last whole record. What was cut off there is no record. */
function lastSeq(path: string): number {
  const { size } = statSync(path);
  const tail = tailOf(path);
  truncateSync(path, size - (tail.length - tail.lastIndexOf('\n') - 1));
  return Math.max(0, ...[...tail.matchAll(/"seq":(\d+)[^\n]*\n/g)].map(([, seq]) => Number(seq)));
}

function* linesOf(bytes: Buffer, from = 0): Generator<[start: number, end: number]> {
  for (let start = from, end = 0; ; start = end + 1) {
    end = bytes.indexOf(10, start);
    if (end < 0) return;
    yield [start, end];
  }
}

/** Which lines of the sidecar's output show another address than nginx's line for what answered. */
function namedIn(accessLog: Buffer, from: number, output: Buffer): boolean[] {
  const named: boolean[] = [];
  const written = linesOf(output);
  for (const [start, end] of linesOf(accessLog)) {
    const { value } = written.next();
    if (start < from) continue;
    const last = (bytes: Buffer, a: number, b: number) =>
      readLine(bytes.toString('latin1', a, b)).addresses.at(-1);
    named.push(value !== undefined && last(accessLog, start, end) !== last(output, value[0], value[1]));
  }
  return named;
}

/**
 * Reads the helper's feed of a front while the traffic runs. `judge`: the lines of `accessLog` from byte `from` on; `output`: what
 * the sidecar wrote, if that is looked at.
 */
export function watchTrace(scene: Scene, front: Pod, dir: string) {
  const path = join(dir, 'trace.ndjson');
  const url = `http://${NODE_IP}:${HELPER_PORT}/v1/feed?src=${front.ip}&src=${front.ip6}`;
  let child: ChildProcess;
  let triesLeft = MOST_TRIES;
  // A reader that is too slow is disconnected, and goes on behind its last record.
  const read = (): void => {
    const after = existsSync(path) ? lastSeq(path) : undefined;
    const from = after === undefined ? url : `${url}&after=${after}`;
    child = scene.spawnIn(front, 'sh', ['-c', 'exec nice -n -15 curl -sgN "$1" >>"$0"', path, from]);
    child.once('exit', (_, signal) => {
      if (signal === null && triesLeft-- > 0) setTimeout(read, AGAIN_MS).unref();
    });
  };
  read();
  return {
    async judge(accessLog: string, from: number, output?: string): Promise<ByConnection> {
      const now = Date.now();
      await until('the record', () => watermarkOf(path) > now, LAG_MS);
      triesLeft = 0;
      await endChild(child);
      const records = new Map<string, Line[]>();
      const feed = readFileSync(path);
      const gaps: string[] = [];
      for (const [start, end] of linesOf(feed)) {
        if (feed.toString('latin1', start, start + 13) === '{"kind":"gap"')
          gaps.push(feed.toString('latin1', start, end));
        if (feed.toString('latin1', start, start + 14) !== '{"kind":"line"') continue;
        const line = JSON.parse(feed.toString('latin1', start, end)) as Line;
        const key = `${line.ino} ${line.length} ${line.check}`;
        const same = records.get(key);
        if (same) same.push(line);
        else records.set(key, [line]);
      }
      const bytes = readFileSync(accessLog);
      const ino = statSync(accessLog, { bigint: true }).ino;
      const found: ByConnection = { answered: 0, right: 0, wrong: 0, missing: 0, unnamed: 0, findings: [] };
      const named = output === undefined ? [] : namedIn(bytes, from, readFileSync(output));
      let line = 0;
      for (const [start, end] of linesOf(bytes, from)) {
        const isNamed = named[line++] ?? true;
        const text = bytes.toString('latin1', start, end);
        const [, upstream, port] = SAID.exec(text) ?? [];
        // What nginx's cache answers has the port of the request that filled it.
        if (port === undefined || upstream === '-') continue;
        found.answered++;
        const check = crc32(bytes.subarray(start, Math.min(end + 1, start + 1024)));
        const same = records.get(`${ino} ${end + 1 - start} ${check}`) ?? [];
        const used = same
          .findLast(({ offset }) => offset <= start && start - offset < NEAR_BYTES)
          ?.attempts?.at(-1);
        const note = (what: string): void => {
          if (found.findings.length < 8)
            found.findings.push(`${what}: ${text}: ${JSON.stringify(used ?? same)}`);
        };
        if (!used) {
          found.missing++;
          note('no record');
          continue;
        }
        if (!isNamed) {
          found.unnamed++;
          note('unnamed');
        }
        if (used[1] === Number(port)) found.right++;
        else {
          found.wrong++;
          note('wrong');
        }
      }
      // What is left alone, these may explain. The first ones are the feed's beginning.
      if (found.unnamed > 0) found.findings.push(...gaps.slice(-MOST_GAPS));
      return found;
    },
  };
}
