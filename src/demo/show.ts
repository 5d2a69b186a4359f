import type { PodAnswer } from '../http/sidecar/answers.ts';
import { type Look, paint, printable, table } from '../terminal/table.ts';
import type { Recording } from './recording.ts';

/** How the enriched lines compare with what the recording says. */
export interface Result {
  read: number;
  written: number;
  /** Lines whose pods the recording tells. */
  nameable: number;
  /** Of these, lines that came out with the right pods, with others, and as they were or not at all. */
  right: number;
  wrong: number;
  missing: number;
}

/** `expected`: each line as it has to come out; undefined where the recording cannot tell. */
export function resultOf(
  { lines }: Recording,
  expected: readonly (string | undefined)[],
  enriched: readonly string[],
): Result {
  const result = {
    read: lines.length,
    written: enriched.length,
    nameable: 0,
    right: 0,
    wrong: 0,
    missing: 0,
  };
  lines.forEach(({ bytes }, i) => {
    const before = bytes.toString('latin1').trimEnd();
    const after = enriched[i];
    if (expected[i] === undefined) {
      // A pod for a line of which nothing was seen is a pod out of thin air.
      if (after !== undefined && after !== before) result.wrong++;
      return;
    }
    result.nameable++;
    if (after === expected[i]) result.right++;
    else if (after === undefined || after === before) result.missing++;
    else result.wrong++;
  });
  return result;
}

export function resultText({ read, written, nameable, right, wrong, missing }: Result): string {
  const bad = [
    ...(missing > 0 ? [`${missing} do not`] : []),
    ...(wrong > 0 ? [`${wrong} name another pod: please report this`] : []),
  ];
  return `${read} lines in, ${written} out. The recording tells the pod of ${nameable}; ${right} now name it${bad.length > 0 ? `, ${bad.join(', ')}` : ''}.`;
}

/** A line before and after, with the addresses that changed marked. */
export function linePair(before: string, after: string, look: Look): string {
  const [from, until] = changed(before, after);
  const mark = (text: string, end: number, color: 'yellow' | 'cyan'): string =>
    end <= from
      ? paint(printable(text), 'dim', look)
      : paint(printable(text.slice(0, from)), 'dim', look) +
        paint(printable(text.slice(from, end)), color, look) +
        paint(printable(text.slice(end)), 'dim', look);
  return `${paint('nginx  ', 'bold', look)}  ${mark(before, before.length - until, 'yellow')}\n${paint('realpod', 'bold', look)}  ${mark(after, after.length - until, 'cyan')}\n`;
}

/** Where the two differ: the first character, and how many are the same at the end; whole addresses. */
function changed(before: string, after: string): [from: number, until: number] {
  if (before === after) return [0, before.length];
  const shorter = Math.min(before.length, after.length);
  let from = 0;
  while (from < shorter && before[from] === after[from]) from++;
  while (from > 0 && /[\d.:a-f\]]/.test(before[from - 1]!)) from--;
  let until = 0;
  while (until < shorter - from && before.at(-1 - until) === after.at(-1 - until)) until++;
  while (until > 0 && /[\d.:a-f[]/.test(before.at(-until)!)) until--;
  return [from, until];
}

const HEAD = ['SERVICE', 'POD', 'REQUESTS', 'ERRORS', 'P50', 'P95', ''];

/** The pods, with the slow and the failing ones marked. */
export function podTable(pods: readonly PodAnswer[], look: Look): string {
  const [head, ...rows] = table(HEAD, pods.map(podRow), { ...look, pretty: true }).split('\n');
  const shown = rows.map((row, i) => (pods[i]?.outlier.length ? paint(row, 'red', look) : row));
  return [head, ...shown].join('\n');
}

function podRow({ service, upstream, pod, ip, recent, outlier }: PodAnswer): string[] {
  return [
    service || upstream,
    pod || ip,
    String(recent.requests),
    `${(recent.errorRate * 100).toFixed(recent.errorRate > 0 ? 1 : 0)} %`,
    recent.p50Ms === null ? '-' : `${recent.p50Ms} ms`,
    recent.p95Ms === null ? '-' : `${recent.p95Ms} ms`,
    outlier.map(({ text }) => text).join('; '),
  ];
}
