/** A log and the feed that resolves it, as long as one wants: recorded lines (`demo/`) with ids, times and addresses of their own. */
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { encodeRecord } from '../../src/feed/codec.ts';
import type { Flow, Observation } from '../../src/model/feed.ts';
import { seededRandom } from '../model/traffic.ts';

const DEMO = fileURLToPath(new URL('../../demo/', import.meta.url));
export const WORKLOAD_FORMAT = readFileSync(`${DEMO}log_format`, 'utf8').trim();
export const WORKLOAD_SOURCE = '10.244.0.70';

/** Of simulated time: requests a second, and how often the helper hands over a batch (ms), as it does under load. */
const PER_MS = 10;
const BATCH_MS = 5;
const CONNECTIONS = 128;
const PODS = 8;
const CLIENTS = 250;
const START = 1_795_412_620_000;
const CHUNK = 1 << 20;

const AGENTS = [
  'Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0',
  'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36',
  'Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1',
  'curl/7.81.0',
  'kube-probe/1.31',
  'python-requests/2.32.5',
];
const REFERERS = ['-', '-', 'https://shop.example/catalog/', 'https://shop.example/orders/?page=2'];

/** What a recorded line gives to those made from it. */
interface Recorded {
  method: string;
  target: string;
  status: string;
  upstream: string;
  bodyBytes: string;
  sent: number;
}

interface Connection extends Required<Flow> {
  freeAt: number;
}

const DEMO_LINE =
  /^\S+ - - \[[^\]]+\] "(\S+) (\S+) HTTP\/1\.1" (\d+) (\S+) (\d+) "[^"]*" "[^"]*" "[^"]*" "[0-9a-f]{32}" .* "(\d+)"$/;

function recorded(): Recorded[] {
  return readFileSync(`${DEMO}access.log`, 'latin1')
    .trimEnd()
    .split('\n')
    .flatMap((line) => {
      const found = DEMO_LINE.exec(line);
      if (!found) return [];
      const [, method, target, status, upstream, bodyBytes, sent] = found;
      return [
        {
          method: method!,
          target: target!,
          status: status!,
          upstream: upstream!,
          bodyBytes: bodyBytes!,
          sent: Number(sent),
        },
      ];
    });
}

export interface Workload {
  lines: number;
  /** Attempts with an address; each has its request in the feed. */
  attempts: number;
  records: number;
  logBytes: number;
  feedBytes: number;
}

class Text {
  readonly #fd: number;
  #parts: string[] = [];
  #length = 0;
  bytes = 0;

  constructor(path: string) {
    this.#fd = openSync(path, 'w');
  }

  add(text: string): void {
    this.#parts.push(text);
    this.#length += text.length;
    if (this.#length > CHUNK) this.#flush();
  }

  close(): void {
    this.#flush();
    closeSync(this.#fd);
  }

  #flush(): void {
    this.bytes += writeSync(this.#fd, Buffer.from(this.#parts.join(''), 'latin1'));
    this.#parts = [];
    this.#length = 0;
  }
}

/**
 * Writes `count` lines of about 300 bytes and their feed: keepalive connections to two Services, one line in fifty
 * without an upstream, one in a hundred with a second attempt, connections that come and go.
 */
export function writeWorkload(paths: { log: string; feed: string }, count: number, seed = 1): Workload {
  const random = seededRandom(seed);
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)]!;
  const templates = recorded();
  const log = new Text(paths.log);
  const feed = new Text(paths.feed);
  const pools = new Map<string, Connection[]>();
  const due = new Map<number, (() => void)[]>();
  const made: Workload = { lines: 0, attempts: 0, records: 0, logBytes: 0, feedBytes: 0 };
  let seq = START * 1000;
  let nextPort = 32_768;
  let begun = 0;

  const tell = (observation: Observation): void => {
    const counted = observation.kind !== 'tick' && observation.kind !== 'gap';
    if (counted) made.records++;
    feed.add(encodeRecord(observation, counted ? ++seq : seq));
  };
  const connect = (upstream: string): Connection => {
    const [vip, port] = upstream.split(':') as [string, string];
    nextPort = nextPort >= 60_999 ? 32_768 : nextPort + 1;
    const ip = `10.244.1.${64 + Math.floor(random() * PODS)}`;
    return { src: WORKLOAD_SOURCE, sport: nextPort, vip, vport: Number(port), ip, port: 10_000, freeAt: 0 };
  };
  const later = (at: number, step: () => void): void => {
    const waiting = due.get(at);
    if (waiting) waiting.push(step);
    else due.set(at, [step]);
  };
  const flow = ({ freeAt: _, ...rest }: Connection): Required<Flow> => rest;
  const acquire = (upstream: string, now: number): Connection => {
    const pool = pools.get(upstream)!;
    const at = pool.findIndex((connection) => connection.freeAt <= now);
    let connection = at < 0 ? undefined : pool.splice(at, 1)[0]!;
    if (connection && random() < 0.01) {
      tell({ kind: 'close', t: now, via: 'conntrack', ...flow(connection) });
      connection = undefined;
    }
    if (!connection) {
      connection = connect(upstream);
      tell({ kind: 'open', t: now, via: 'conntrack', ...flow(connection) });
    }
    pool.push(connection);
    return connection;
  };
  const request = (template: Recorded, id: string, now: number, took: number, target: string): void => {
    const connection = acquire(template.upstream, now);
    connection.freeAt = now + took;
    made.attempts++;
    const entire = template.method !== 'POST' && template.method !== 'PUT';
    tell({
      kind: 'request',
      t: now + 0.3,
      ...flow(connection),
      id,
      method: template.method,
      path: target,
      bytes: template.sent,
      ...(entire ? { singleSegment: true } : {}),
      via: 'tap',
    });
  };
  const line = (now: number): void => {
    const template = pick(templates);
    const client = `10.245.${Math.floor(random() * CLIENTS)}.9`;
    const id = hex8(random) + hex8(random) + hex8(random) + hex8(random);
    const target = template.target.includes('?') ? template.target : `${template.target}?item=${begun}`;
    const kind = random();
    const took = Math.floor(1 + random() * 8);
    const seconds = (took / 1000).toFixed(3);
    const end = now + took + (kind > 0.99 ? took : 0);
    let upstream = template.upstream;
    let lists = `"0.000" "${seconds}" "${seconds}" "${template.status}" "${template.sent}"`;
    if (kind < 0.02) {
      upstream = '-';
      lists = '"-" "-" "-" "-" "-"';
    } else request(template, id, now, took, target);
    if (kind > 0.99) {
      later(now + took, () => request(template, id, now + took, took, target));
      upstream = `${upstream}, ${upstream}`;
      lists = `"0.000, 0.000" "${seconds}, ${seconds}" "${seconds}, ${seconds}" "503, ${template.status}" "${template.sent}, ${template.sent}"`;
    }
    const requestTime = ((end - now) / 1000).toFixed(3);
    const text = `${client} - - [${timeLocal(end)}] "${template.method} ${target} HTTP/1.1" ${template.status} ${upstream} ${template.bodyBytes} "${pick(REFERERS)}" "${pick(AGENTS)}" "-" "${id}" ${(end / 1000).toFixed(3)} ${requestTime} ${lists}\n`;
    later(end, () => {
      log.add(text);
      made.lines++;
    });
  };

  tell({ kind: 'gap', t: START - 60_000, source: 'conntrack' });
  tell({ kind: 'gap', t: START - 60_000, source: 'tap' });
  for (const { upstream } of templates) {
    if (pools.has(upstream)) continue;
    pools.set(
      upstream,
      Array.from({ length: CONNECTIONS }, () => connect(upstream)),
    );
    for (const connection of pools.get(upstream)!)
      tell({ kind: 'open', t: START - 50_000, via: 'conntrack', preexisting: true, ...flow(connection) });
  }
  tell({ kind: 'tick', t: START - 1 });
  for (let now = START; made.lines < count || due.size > 0; now++) {
    for (let k = 0; k < PER_MS && begun < count; k++, begun++) line(now);
    for (const step of due.get(now) ?? []) step();
    due.delete(now);
    if (now % BATCH_MS === 0) tell({ kind: 'tick', t: now });
  }
  tell({ kind: 'tick', t: START + count });
  log.close();
  feed.close();
  made.logBytes = log.bytes;
  made.feedBytes = feed.bytes;
  return made;
}

function hex8(random: () => number): string {
  return Math.floor(random() * 2 ** 32)
    .toString(16)
    .padStart(8, '0');
}

let localSecond = 0;
let localText = '';

/** As `$time_local` in UTC. The workload stays within one November. */
function timeLocal(ms: number): string {
  const second = Math.floor(ms / 1000);
  if (second !== localSecond) {
    const iso = new Date(ms).toISOString();
    localText = `${iso.slice(8, 10)}/Nov/2026:${iso.slice(11, 19)} +0000`;
    localSecond = second;
  }
  return localText;
}
