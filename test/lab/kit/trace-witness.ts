/** What the source `trace` says of each line, beside the port that the pod itself saw. Shares no code with the product. */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { HELPER_PORT } from './product.ts';
import { endChild, NODE_IP, type Pod, type Scene } from './scene.ts';

/** The port that nginx called from, by the pod's own word at the end of the line. */
const SAID_PORT = /"(\d+)"$/;

export interface ByConnection {
  /** Lines with an answer. */
  answered: number;
  /** Of those: with the port that the pod saw, with another one, and without a record. */
  right: number;
  wrong: number;
  missing: number;
}

interface Line {
  kind: string;
  ino: string;
  offset: number;
  length: number;
  check: number;
  attempts?: [number, number, string, number, number][];
}

/** Reads the helper's feed of a front while the traffic runs. `judge`: the lines of `accessLog` from byte `from` on. */
export function watchTrace(scene: Scene, front: Pod, dir: string) {
  const path = join(dir, 'trace.ndjson');
  const url = `http://${NODE_IP}:${HELPER_PORT}/v1/feed?src=${front.ip}&src=${front.ip6}`;
  const child = scene.spawnIn(front, 'curl', ['-sgN', '-o', path, url]);
  return {
    async judge(accessLog: string, from: number): Promise<ByConnection> {
      await endChild(child);
      const records = new Map<string, Line[]>();
      for (const text of readFileSync(path, 'utf8').split('\n')) {
        if (!text.startsWith('{"kind":"line"') || !text.endsWith('}')) continue;
        const line = JSON.parse(text) as Line;
        const key = `${line.ino} ${line.length} ${line.check}`;
        records.set(key, [...(records.get(key) ?? []), line]);
      }
      const bytes = readFileSync(accessLog);
      const ino = statSync(accessLog, { bigint: true }).ino;
      const found: ByConnection = { answered: 0, right: 0, wrong: 0, missing: 0 };
      for (let start = from, end = 0; ; start = end + 1) {
        end = bytes.indexOf(10, start);
        if (end < 0) return found;
        const port = Number(SAID_PORT.exec(bytes.toString('latin1', start, end))?.[1]);
        if (!port) continue;
        found.answered++;
        const check = crc32(bytes.subarray(start, Math.min(end + 1, start + 1024)));
        const same = records.get(`${ino} ${end + 1 - start} ${check}`) ?? [];
        const before = same.filter(({ offset }) => offset <= start);
        const used = before.at(-1)?.attempts?.at(-1);
        if (!used) found.missing++;
        else if (used[1] === port) found.right++;
        else found.wrong++;
      }
    },
  };
}
