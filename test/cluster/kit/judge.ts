import type { PodLogs } from './logs.ts';

/** What the pod said itself, by the number of the request. */
export type Truth = ReadonlyMap<number, { pod: string; address: string }>;

/** A line as the sidecar wrote it, with what nginx wrote. Times in ms since the epoch. */
export interface Judged {
  nginx: string;
  at: number;
  kind: string;
  /** A pod answered with 200 and nginx logged another address than the pod's own: there is one to name. */
  answered: boolean;
  named: boolean;
  /** The line names another pod or address than the one that answered. */
  wrong: boolean;
  /** Of the last attempt, or `-:` and the reason. */
  evidence: string;
}

export interface Totals {
  lines: number;
  answered: number;
  named: number;
  wrong: number;
  /** The longest time (ms) from an answered line without a pod to the next one with, in one nginx pod. */
  unnamedMs: number;
}

const LINE =
  /^\S+ - \S+ \[[^\]]+\] "GET \/(\w+)\/(\d+)(?:\?x*)? HTTP[^"]*" \d+ (.+?) \d+ "[^"]*" "[^"]*" "[^"]*" "[0-9a-f]{32}" ([\d.]+) [\d.]+ "[^"]*" "[^"]*" "[^"]*" "([^"]*)" "[^"]*"(?: pod=(\S+) evidence=(\S+)(?: client=\S+)?)?$/;

/** The client's log as truth: `number status pod address`. */
export function truthOf(lines: readonly string[]): Truth {
  const truth = new Map<number, { pod: string; address: string }>();
  for (const line of lines) {
    const [number, status, pod, address] = line.split(' ');
    if (status === '200' && pod && address) truth.set(Number(number), { pod, address });
  }
  return truth;
}

/** Lines of the second log that the sidecar did not write, and lines that it changed elsewhere than in the address. */
export function compare({ nginx, realpod }: PodLogs): { lost: number; repeated: number; changed: number } {
  const bare = (line: string): string =>
    line.replace(/ pod=\S+ evidence=\S+(?: client=\S+)?$/, '').replace(ADDRESS, '$1 - $2');
  const wanted = new Map<string, number>();
  for (const line of nginx.filter((line) => LINE.test(line))) {
    const key = bare(line);
    wanted.set(key, (wanted.get(key) ?? 0) + 1);
  }
  let repeated = 0;
  let changed = 0;
  // The second log leaves the longest lines out.
  for (const line of realpod.filter((line) => line.includes('"GET /') && !line.includes('"GET /long/'))) {
    const key = bare(line);
    const left = wanted.get(key);
    if (left === undefined) changed++;
    else if (left <= 0) repeated++;
    wanted.set(key, (left ?? 0) - 1);
  }
  let lost = 0;
  for (const left of wanted.values()) if (left > 0) lost += left;
  return { lost, repeated, changed };
}

/** Status, upstream addresses, bytes. */
const ADDRESS = /(" \d{3}) .+? (\d+ ")/;

export function judge(nginx: string, line: string, truth: Truth): Judged | undefined {
  const match = LINE.exec(line);
  if (!match) return undefined;
  const [, kind = '', number, addresses = '', seconds, statuses, pods, evidences] = match;
  const told = truth.get(Number(number));
  // Lists of attempts: the last one answered.
  const last = (list: string | undefined, by: string): string => list?.split(by).at(-1) ?? '';
  const address = last(addresses, ', ');
  const evidence = last(evidences, ',');
  const pod = last(pods, ',');
  const resolved = evidence !== '' && !evidence.startsWith('-');
  // What nginx dialled itself (a headless Service) needs no name, and would hide a stretch without.
  const answered = last(statuses, ', ') === '200' && evidence !== '-:direct';
  const other = pod.includes('/') && told !== undefined && pod.split('/')[1] !== told.pod;
  const wrong = told !== undefined && ((resolved && address !== told.address) || other);
  return { nginx, at: Number(seconds) * 1000, kind, answered, named: resolved, wrong, evidence };
}

export function totals(lines: readonly Judged[]): Totals {
  const answered = lines.filter((line) => line.answered);
  let unnamedMs = 0;
  for (const nginx of new Set(answered.map((line) => line.nginx))) {
    let since: number | undefined;
    let last = 0;
    for (const { at, named } of answered.filter((line) => line.nginx === nginx).sort((a, b) => a.at - b.at)) {
      if (!named) since ??= at;
      last = at;
      if (since !== undefined) unnamedMs = Math.max(unnamedMs, last - since);
      if (named) since = undefined;
    }
  }
  return {
    lines: lines.length,
    answered: answered.length,
    named: answered.filter((line) => line.named).length,
    wrong: lines.filter((line) => line.wrong).length,
    unnamedMs,
  };
}
