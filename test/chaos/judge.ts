/**
 * Holds every line of a round against the truth. Shares no code with the product: a line's truth is found by the key at its
 * end, and the addresses by what nginx wrote into a second log.
 */

/** Lines of one file of nginx's log, oldest file first. */
export interface RoundFiles {
  inputs: readonly Buffer[];
  output: Buffer;
  truth: Buffer;
  served: readonly Buffer[];
}

export interface Verdict {
  lines: number;
  attempts: number;
  /** Attempts that were named, by evidence, and left alone, by reason (`unknown` where the style does not say). */
  evidence: Record<string, number>;
  reasons: Record<string, number>;
  right: number;
  wrong: number;
  /** Named where the truth is not known for certain. */
  unverified: number;
  lost: number;
  repeated: number;
  altered: number;
  reordered: number;
  findings: string[];
}

export const emptyVerdict = (): Verdict => ({
  lines: 0,
  attempts: 0,
  evidence: {},
  reasons: {},
  right: 0,
  wrong: 0,
  unverified: 0,
  lost: 0,
  repeated: 0,
  altered: 0,
  reordered: 0,
  findings: [],
});

interface Known {
  addresses: string;
  /** The pod that the last answer named; undefined without one, or where a cache may have kept it. */
  said?: string;
}

interface Input {
  line: string;
  file: number;
  /** Place in its file. */
  at: number;
  used: boolean;
}

const KEY = /"([0-9a-f]{32})"\}?$/;
const KEY_LENGTH = 36;
const ADDRESS = /^\d+\.\d+\.\d+\.\d+:\d+$/;
/** Answers whose headers may come from an earlier request. */
const OLD_ANSWER = new Set(['STALE', 'UPDATING', 'HIT', 'REVALIDATED']);
/** Sightings so close (s) may have another order than their attempts: each clock has steps of its own. */
const APART_S = 0.01;

function keyOf(line: string): string | undefined {
  return KEY.exec(line.slice(-KEY_LENGTH))?.[1];
}

function linesOf(bytes: Buffer): string[] {
  const lines = bytes.toString('latin1').split('\n');
  lines.pop();
  return lines;
}

function readTruth(bytes: Buffer): Map<string, Known> {
  const known = new Map<string, Known>();
  for (const line of linesOf(bytes)) {
    const [key = '', addresses = '', said = '', cache = ''] = line.split('\t');
    const usable = !said.startsWith('-') && !OLD_ANSWER.has(cache);
    known.set(key, usable ? { addresses, said } : { addresses });
  }
  return known;
}

interface Sighting {
  pod: string;
  at: number;
}

function readServed(logs: readonly Buffer[]): Map<string, Sighting[]> {
  const byKey = new Map<string, Sighting[]>();
  for (const log of logs)
    for (const line of linesOf(log)) {
      const [key, pod, , , , seconds, took = '0'] = line.split(' ');
      if (!key || key === '-' || !pod) continue;
      const sighting = { pod, at: Number(seconds) - Number(took) };
      const known = byKey.get(key);
      if (known) known.push(sighting);
      else byKey.set(key, [sighting]);
    }
  return byKey;
}

/** The pods that attempt `k` can have gone to, and whether no other can. */
function truthOf(k: number, count: number, known: Known, served: readonly Sighting[]): [string[], boolean] {
  if (k === count - 1 && known.said !== undefined) return [[known.said], true];
  const seen = served.toSorted((a, b) => a.at - b.at);
  const ordered = seen.every((one, i) => i === 0 || one.at - seen[i - 1]!.at > APART_S);
  if (seen.length === count && ordered) return [[seen[k]!.pod], true];
  return [seen.map(({ pod }) => pod), seen.length >= count];
}

/** What stands in the place of `addresses` in the output, or undefined where more than that differs. */
function replacement(input: string, output: string, addresses: string): string | undefined {
  for (let at = input.indexOf(addresses); at >= 0; at = input.indexOf(addresses, at + 1)) {
    const rest = input.slice(at + addresses.length);
    if (output.startsWith(input.slice(0, at)) && output.endsWith(rest))
      return output.slice(at, output.length - rest.length);
  }
  return undefined;
}

const count = (counts: Record<string, number>, key: string): void => {
  counts[key] = (counts[key] ?? 0) + 1;
};

export function judgeRound(files: RoundFiles): Verdict {
  const verdict = emptyVerdict();
  const note = (what: 'wrong' | 'altered' | 'repeated' | 'lost' | 'reordered', text: string): void => {
    verdict[what]++;
    if (verdict.findings.length < 8) verdict.findings.push(`${what}: ${text.slice(0, 700)}`);
  };
  const truth = readTruth(files.truth);
  const served = readServed(files.served);
  const inputs = new Map<string, Input[]>();
  files.inputs.forEach((bytes, file) => {
    linesOf(bytes).forEach((line, at) => {
      verdict.lines++;
      const key = keyOf(line) ?? line;
      const input = { line, file, at, used: false };
      const same = inputs.get(key);
      if (same) same.push(input);
      else inputs.set(key, [input]);
    });
  });
  const last = files.inputs.map(() => -1);
  for (const written of linesOf(files.output)) {
    const cut = keyOf(written) === undefined ? written.lastIndexOf(' pod=') : -1;
    const body = cut < 0 ? written : written.slice(0, cut);
    const notes = cut < 0 ? [] : written.slice(written.indexOf(' evidence=', cut) + 10).split(',');
    const key = keyOf(body) ?? body;
    const same = inputs.get(key);
    const input = same?.find(({ used }) => !used);
    if (!input) {
      note(same ? 'repeated' : 'altered', written);
      continue;
    }
    input.used = true;
    if (input.at < last[input.file]!) note('reordered', written);
    last[input.file] = input.at;
    judgeLine(input.line, body, notes, truth.get(key), served.get(key) ?? []);
  }
  for (const same of inputs.values()) for (const { used, line } of same) if (!used) note('lost', line);
  return verdict;

  function judgeLine(
    line: string,
    body: string,
    notes: readonly string[],
    known: Known | undefined,
    sightings: readonly Sighting[],
  ): void {
    if (!known) {
      if (body !== line) note('altered', `${line} → ${body}`);
      return;
    }
    const { addresses } = known;
    const text = body === line ? addresses : replacement(line, body, addresses);
    const before = addresses.split(/, | : /);
    const after = text?.split(/, | : /);
    if (before.length !== after?.length) {
      note('altered', `${line} → ${body}`);
      return;
    }
    before.forEach((address, k) => {
      if (!ADDRESS.test(address)) {
        if (after[k] !== address) note('altered', `${line} → ${body}`);
        return;
      }
      verdict.attempts++;
      const label = notes[k] ?? 'unknown';
      if (after[k] === address) {
        count(verdict.reasons, label.replace('-:', ''));
        return;
      }
      count(verdict.evidence, label);
      const [pods, certain] = truthOf(k, before.length, known, sightings);
      if (pods.includes(after[k]!)) {
        if (new Set(pods).size === 1) verdict.right++;
        else verdict.unverified++;
      } else if (certain) note('wrong', `attempt ${k} is ${pods.join(' or ')}: ${line} → ${body} [${label}]`);
      else verdict.unverified++;
    });
  }
}

export function addVerdict(total: Verdict, part: Verdict): void {
  for (const key of ['evidence', 'reasons'] as const)
    for (const [name, n] of Object.entries(part[key])) total[key][name] = (total[key][name] ?? 0) + n;
  for (const key of Object.keys(part) as (keyof Verdict)[])
    if (key !== 'evidence' && key !== 'reasons' && key !== 'findings') total[key] += part[key];
  total.findings.push(...part.findings.slice(0, Math.max(0, 20 - total.findings.length)));
}
