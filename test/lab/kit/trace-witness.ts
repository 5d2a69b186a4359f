/** What the source `trace` says of each line, beside the port that the pod itself saw. Shares no code with the product. */
import { closeSync, fstatSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
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

export interface ByConnection {
  /** Lines with an answer. */
  answered: number;
  /** Of those: with the port that the pod saw, with another one, and without a record. */
  right: number;
  wrong: number;
  missing: number;
  /** The first few that are wrong. */
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

/** The watermark of the youngest records in the file, ms since the epoch. */
function watermarkOf(path: string): number {
  const file = openSync(path, 'r');
  try {
    const tail = Buffer.alloc(1 << 16);
    const { size } = fstatSync(file);
    const read = readSync(file, tail, 0, tail.length, Math.max(0, size - tail.length));
    const ticks = [...tail.toString('latin1', 0, read).matchAll(/^\{"kind":"tick"[^\n]*?"t":([\d.]+)/gm)];
    return Number(ticks.at(-1)?.[1] ?? 0);
  } finally {
    closeSync(file);
  }
}

function* linesOf(bytes: Buffer, from = 0): Generator<[start: number, end: number]> {
  for (let start = from, end = 0; ; start = end + 1) {
    end = bytes.indexOf(10, start);
    if (end < 0) return;
    yield [start, end];
  }
}

/** Reads the helper's feed of a front while the traffic runs. `judge`: the lines of `accessLog` from byte `from` on. */
export function watchTrace(scene: Scene, front: Pod, dir: string) {
  const path = join(dir, 'trace.ndjson');
  const url = `http://${NODE_IP}:${HELPER_PORT}/v1/feed?src=${front.ip}&src=${front.ip6}`;
  const child = scene.spawnIn(front, 'curl', ['-sgN', '-o', path, url]);
  return {
    async judge(accessLog: string, from: number): Promise<ByConnection> {
      const now = Date.now();
      // curl may have been cut off, if it was too slow: what it has counts.
      await until('the record', () => child.exitCode !== null || watermarkOf(path) > now, LAG_MS);
      await endChild(child);
      const records = new Map<string, Line[]>();
      const feed = readFileSync(path);
      for (const [start, end] of linesOf(feed)) {
        if (feed.toString('latin1', start, start + 14) !== '{"kind":"line"') continue;
        const line = JSON.parse(feed.toString('latin1', start, end)) as Line;
        const key = `${line.ino} ${line.length} ${line.check}`;
        const same = records.get(key);
        if (same) same.push(line);
        else records.set(key, [line]);
      }
      const bytes = readFileSync(accessLog);
      const ino = statSync(accessLog, { bigint: true }).ino;
      const found: ByConnection = { answered: 0, right: 0, wrong: 0, missing: 0, findings: [] };
      for (const [start, end] of linesOf(bytes, from)) {
        const text = bytes.toString('latin1', start, end);
        const [, upstream, port] = SAID.exec(text) ?? [];
        // What nginx's cache answers has the port of the request that filled it.
        if (port === undefined || upstream === '-') continue;
        found.answered++;
        const check = crc32(bytes.subarray(start, Math.min(end + 1, start + 1024)));
        const same = records.get(`${ino} ${end + 1 - start} ${check}`) ?? [];
        const used = same.findLast(({ offset }) => offset <= start)?.attempts?.at(-1);
        if (!used) found.missing++;
        else if (used[1] === Number(port)) found.right++;
        else {
          found.wrong++;
          if (found.findings.length < 5) found.findings.push(`${text}: ${JSON.stringify(used)}`);
        }
      }
      return found;
    },
  };
}
