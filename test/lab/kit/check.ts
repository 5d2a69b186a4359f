/**
 * The lab's judge: compares nginx's log with the enriched one and every named pod with the truth. It shares no code
 * with the product and finds the addresses by its own reading of the lab's formats.
 */
import { SAID, type Served, type Truth, truthOf } from './truth.ts';

export interface Comparison {
  /** Complete lines in nginx's log. */
  lines: number;
  /** Entries of `$upstream_addr` that are an address. */
  attempts: number;
  /** Attempts that name the pod that answered. */
  right: number;
  /** Attempts that name another one. */
  wrong: number;
  /** Attempts that name a pod where the truth is not known (no answer reached nginx, no pod tells of it). */
  unverified: number;
  /** Attempts as nginx wrote them. */
  leftAlone: number;
  lost: number;
  repeated: number;
  /** Lines of the output that differ from every input line in more than the addresses. */
  altered: number;
  reordered: number;
  /** The first few findings, for people. */
  findings: string[];
}

/** With escaping, no value holds a bare quote. A user name may hold spaces and brackets. */
const HEAD = /^(?:[^"\\]|\\.)*\[[^\]"]*\] "((?:[^"\\]|\\.)*)" \d{3} /;
const ENTRY = String.raw`(?:\[[0-9a-f:.]+\]:\d+|\d+\.\d+\.\d+\.\d+:\d+|unix:[^\s,]+|[A-Za-z_][\w.-]*|-)`;
const ADDRESSES = new RegExp(`${ENTRY}(?:(?:, | : )${ENTRY})*(?= )`, 'y');
const ADDRESS = /^(?:\[.*\]|[\d.]+):\d+$/;

interface Reading {
  /** The line with the address list cut out: what has to be the same on both sides. */
  frame: string;
  addresses: string[];
}

export function readLine(line: string): Reading {
  const head = HEAD.exec(line);
  if (head) {
    ADDRESSES.lastIndex = head[0].length;
    const list = ADDRESSES.exec(line);
    if (list) {
      const start = list.index;
      const end = start + list[0].length;
      const separators = list[0].replaceAll(new RegExp(ENTRY, 'g'), '');
      return {
        frame: `${line.slice(0, start)}\0${separators}\0${line.slice(end)}`,
        addresses: list[0].split(/, | : /),
      };
    }
  }
  return { frame: line, addresses: [] };
}

/** Complete lines, without their newlines; what follows the last newline is returned apart. */
export function splitLines(bytes: Buffer): { lines: string[]; rest: string } {
  const lines = bytes.toString('latin1').split('\n');
  const rest = lines.pop() ?? '';
  return { lines, rest };
}

/** Pairs output lines with input lines: in step while they agree, by content from the first disagreement on. */
function pair(
  inputs: readonly Reading[],
  outputs: readonly Reading[],
  result: Comparison,
): [number, number][] {
  const pairs: [number, number][] = [];
  let i = 0;
  while (i < inputs.length && i < outputs.length && inputs[i]!.frame === outputs[i]!.frame) {
    pairs.push([i, i]);
    i++;
  }
  const places = new Map<string, { at: number[]; used: number }>();
  inputs.forEach(({ frame }, at) => {
    const place = places.get(frame) ?? { at: [], used: 0 };
    place.at.push(at);
    if (at < i) place.used++;
    places.set(frame, place);
  });
  let unmatched = inputs.length - i;
  let highest = i - 1;
  for (let o = i; o < outputs.length; o++) {
    const frame = outputs[o]!.frame;
    const place = places.get(frame);
    const at = place?.at[place.used];
    if (place && at !== undefined) {
      place.used++;
      unmatched--;
      pairs.push([at, o]);
      if (at < highest) note(result, 'reordered', frame);
      else highest = at;
    } else note(result, place ? 'repeated' : 'altered', frame);
  }
  // An altered line also leaves its original without a partner.
  result.lost = Math.max(0, unmatched - result.altered);
  if (result.lost > 0) {
    const gone = [...places].find(([, place]) => place.used < place.at.length);
    if (gone) result.findings.push(`lost: ${JSON.stringify(gone[0].slice(0, 600))}`);
  }
  return pairs;
}

function note(result: Comparison, what: 'wrong' | 'altered' | 'repeated' | 'reordered', text: string): void {
  result[what]++;
  if (result.findings.length < 10) result.findings.push(`${what}: ${JSON.stringify(text.slice(0, 600))}`);
}

/** What is known of a line's attempts, in step with them. */
export type TruthOf = (line: string, attempts: number) => readonly (Truth | undefined)[];

/** Compares what nginx wrote with what the sidecar wrote, line by line. */
export function compare(input: Buffer, output: Buffer, known?: Served | TruthOf): Comparison {
  const truthFor: TruthOf =
    typeof known === 'function' ? known : (line, attempts) => truthOf(line, attempts, known);
  const result: Comparison = {
    lines: 0,
    attempts: 0,
    right: 0,
    wrong: 0,
    unverified: 0,
    leftAlone: 0,
    lost: 0,
    repeated: 0,
    altered: 0,
    reordered: 0,
    findings: [],
  };
  const before = splitLines(input);
  const after = splitLines(output);
  const inputs = before.lines.map(readLine);
  const outputs = after.lines.map(readLine);
  result.lines = inputs.length;
  if (after.rest !== '') note(result, 'altered', after.rest);

  for (const [i, o] of pair(inputs, outputs, result)) {
    const { addresses } = inputs[i]!;
    const named = outputs[o]!.addresses;
    const truth = truthFor(before.lines[i]!, addresses.length);
    addresses.forEach((address, k) => {
      const name = named[k];
      if (!ADDRESS.test(address)) {
        if (name !== address) note(result, 'altered', after.lines[o]!);
        return;
      }
      result.attempts++;
      const pods = truth[k]?.pods;
      if (name === address) {
        // The address may have been the pod's own to begin with.
        if (pods?.length === 1 && pods[0] === address) result.right++;
        else result.leftAlone++;
      } else if (!pods) result.unverified++;
      else if (name !== undefined && pods.includes(name)) {
        if (new Set(pods).size === 1) result.right++;
        else result.unverified++;
      } else {
        const truth = pods.join(' or ') || 'none';
        note(result, 'wrong', `${address} → ${name}, truth ${truth}: ${after.lines[o]}`);
      }
    });
  }
  return result;
}

/**
 * For logs without escaping, in which clients can write anything: no line may differ in more than one list of addresses,
 * and one that differs has to name what the last fields say, which no client writes. Lines are not paired by content.
 */
export function compareUnescaped(input: Buffer, output: Buffer): Comparison {
  const result = compare(Buffer.alloc(0), Buffer.alloc(0));
  const before = splitLines(input).lines;
  const after = splitLines(output).lines;
  result.lines = before.length;
  result.lost = Math.max(0, before.length - after.length);
  result.repeated = Math.max(0, after.length - before.length);
  before.forEach((line, i) => {
    const written = after[i] ?? '';
    const attempts = line.match(/\d+\.\d+\.\d+\.\d+:\d+/g) ?? [];
    if (written === line) {
      result.attempts += attempts.length;
      result.leftAlone += attempts.length;
      return;
    }
    result.attempts++;
    const [, ip, port] = SAID.exec(line) ?? [];
    const pod = `${ip}:${port}`;
    const at = [...line].findIndex((char, k) => written[k] !== char);
    const start = Math.max(written.lastIndexOf(' ', at), written.lastIndexOf('"', at)) + 1;
    const rest = written.slice(start + pod.length);
    if (written.startsWith(pod, start) && line.endsWith(rest)) result.right++;
    else note(result, 'wrong', `${line} → ${written}`);
  });
  return result;
}

/** One sample of a Prometheus text page. */
export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

export function readMetrics(text: string): Sample[] {
  const samples: Sample[] = [];
  for (const line of text.split('\n')) {
    const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!match) continue;
    const labels: Record<string, string> = {};
    for (const [, key, value] of (match[2] ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g))
      labels[key!] = value!;
    samples.push({ name: match[1]!, labels, value: Number(match[3]) });
  }
  return samples;
}

/** Attempts by the value of one label (`evidence` or `reason`), over all samples that have it. */
export function countBy(samples: readonly Sample[], label: 'evidence' | 'reason'): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { labels, value } of samples) {
    const key = labels[label];
    if (key) counts[key] = (counts[key] ?? 0) + value;
  }
  return counts;
}

/** `later - earlier`, without zeros. */
export function difference(
  later: Record<string, number>,
  earlier: Record<string, number>,
): Record<string, number> {
  const rest: Record<string, number> = {};
  for (const [key, value] of Object.entries(later)) {
    const grown = value - (earlier[key] ?? 0);
    if (grown !== 0) rest[key] = grown;
  }
  return rest;
}
