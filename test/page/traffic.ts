import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { encodeRecord } from '../../src/feed/codec.ts';
import type { FeedRecord, Observation } from '../../src/record/feed.ts';

/** What one pod of the scene is like, as a change to what was recorded. */
interface PodPlan {
  pod: string;
  node: string;
  ip: string;
  /** Share of its answers that become a 503. */
  failing: number;
  /** Factor on its times. */
  slow: number;
}

interface ServicePlan {
  service: string;
  vip: string;
  pods: PodPlan[];
}

const pod = (name: string, node: string, ip: string, failing = 0, slow = 1): PodPlan => ({
  pod: name,
  node,
  ip,
  failing,
  slow,
});

/** Two Services; one pod of each is ill. Names are made up, as the recording has none. */
export const SCENE: readonly ServicePlan[] = [
  {
    service: 'orders',
    vip: '10.105.148.194',
    pods: [
      pod('orders-5d8f7c9b4-2xkqm', 'worker-1', '10.244.1.71'),
      pod('orders-5d8f7c9b4-9wjzt', 'worker-2', '10.244.2.31'),
      pod('orders-5d8f7c9b4-kp4vd', 'worker-3', '10.244.3.18', 0, 9),
    ],
  },
  {
    service: 'catalog',
    vip: '10.105.148.195',
    pods: [
      pod('catalog-7b6cf5d8d9-4hq8s', 'worker-1', '10.244.1.72'),
      pod('catalog-7b6cf5d8d9-g2m5x', 'worker-2', '10.244.2.32', 0.2),
      pod('catalog-7b6cf5d8d9-pl7rn', 'worker-2', '10.244.2.33'),
      pod('catalog-7b6cf5d8d9-zt6wc', 'worker-3', '10.244.3.19'),
    ],
  },
];

/** A copy keeps one in so many requests, so that as many copies can run at a time and each pod is busy all the time. */
export const THINNING = 4;
const NAMESPACE = 'shop';
const LINE = /^(.*?) \[[^\]]*\] ("[^"]*") (\d{3}) (.*) "([0-9a-f]{32})" ([\d.]+) ([\d.]+) (.*)$/;

interface Recorded {
  records: readonly FeedRecord[];
  /** Lines in the format of the recording, without newlines. */
  lines: readonly { at: number; text: string }[];
}

/** A helper that gives out copies of a recorded run, one after another, each by other pods, and the lines to them. */
export class Traffic {
  readonly #recorded: Recorded;
  readonly #readers = new Set<ServerResponse>();
  /** The recorded source ports, numbered. */
  readonly #ports = new Map<number, number>();
  #seq = 1;
  #text = '';
  readonly #server = createServer((request, response) => {
    if (!request.url?.startsWith('/v1/feed')) {
      response.end('{"t":0}');
      return;
    }
    response.writeHead(200, { 'content-type': 'application/x-ndjson' });
    response.write(this.#text);
    this.#readers.add(response);
    response.once('close', () => this.#readers.delete(response));
  });

  constructor(recorded: Recorded) {
    this.#recorded = recorded;
    for (const record of recorded.records) {
      if ('sport' in record && !this.#ports.has(record.sport))
        this.#ports.set(record.sport, this.#ports.size);
    }
  }

  /** Starts the helper's side; resolves with its URL. Its record is whole since `since`. */
  async listen(since: number): Promise<string> {
    for (const source of ['tap', 'conntrack'] as const) this.#send({ kind: 'gap', t: since, source });
    for (const { service, vip, pods } of SCENE) {
      this.#send({ kind: 'name', t: since, ip: vip, pod: '', namespace: NAMESPACE, node: '', service });
      for (const { ip, pod: name, node } of pods) {
        this.#send({ kind: 'name', t: since, ip, pod: name, namespace: NAMESPACE, node, service });
      }
    }
    this.#send({ kind: 'tick', t: since });
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get readers(): number {
    return this.#readers.size;
  }

  /** One copy as if it had begun at `begin`: its records and its lines by the time at which each is due. */
  copy(number: number, begin: number, sick: boolean): { at: number; record?: Observation; line?: string }[] {
    const { records, lines } = this.#recorded;
    const start = lines[0]!.at;
    const shift = begin - start;
    const due: { at: number; record?: Observation; line?: string }[] = [];
    const plans = new Map<string, PodPlan>();
    let requests = 0;
    for (const { seq: _, ...record } of records) {
      if (record.t < start - 500 || record.kind === 'gap' || record.kind === 'name') continue;
      const at = record.t + shift;
      if (record.kind === 'tick') {
        due.push({ at, record: { ...record, t: at } });
        continue;
      }
      const plan = planOf(record.vip ?? '', record.sport, number);
      if (!plan) continue;
      if (record.kind === 'request' && record.id) {
        if (requests++ % THINNING !== number % THINNING) continue;
        plans.set(record.id, plan);
      }
      const flow = { ...record, t: at, ip: plan.ip, sport: this.#otherPort(record.sport, number) };
      due.push({
        at,
        record: flow.kind === 'request' && flow.id ? { ...flow, id: otherId(flow.id, number) } : flow,
      });
    }
    lines.forEach(({ at, text }, i) => {
      const line = otherLine(text, at + shift, number, plans, sick ? i : undefined);
      if (line) due.push({ at: at + shift + 1, line });
    });
    return due.sort((a, b) => a.at - b.at);
  }

  /** Gives records to whoever reads, and a watermark of `now`. */
  give(records: readonly Observation[], now: number): void {
    for (const record of records) this.#send(record);
    this.#send({ kind: 'tick', t: now });
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  /** No two connections of copies that run at a time may share a port. */
  #otherPort(port: number, number: number): number {
    return 1024 + ((number * this.#ports.size + this.#ports.get(port)!) % 64_000);
  }

  #send(record: Observation): void {
    const text = encodeRecord(record, this.#seq++);
    if (this.#readers.size === 0) this.#text += text;
    for (const reader of this.#readers) reader.write(text);
  }
}

/** A connection stays with its pod. */
function planOf(vip: string, sport: number, number: number): PodPlan | undefined {
  const pods = SCENE.find((service) => service.vip === vip)?.pods;
  return pods?.[((sport >> 1) + number) % pods.length];
}

const otherId = (id: string, number: number): string =>
  id.slice(0, 24) + number.toString(16).padStart(8, '0');

/** `ill`: a number that differs from line to line, where the ill pods are to be ill. */
function otherLine(
  text: string,
  at: number,
  number: number,
  plans: ReadonlyMap<string, PodPlan>,
  ill: number | undefined,
): string | undefined {
  const match = LINE.exec(text);
  if (!match) return undefined;
  const [, client, request, status, middle, id, , requestTime, rest] = match;
  const plan = plans.get(id!);
  if (!plan) return undefined;
  const fails = ill !== undefined && (ill * 0.618) % 1 < plan.failing;
  const factor = ill === undefined ? 1 : plan.slow;
  const slower = (times: string): string =>
    times.replace(/\d+\.\d{3}/g, (t) => (Number(t) * factor).toFixed(3));
  const date = new Date(at)
    .toUTCString()
    .replace(/^\w+, (\d+) (\w+) (\d+) ([\d:]+) GMT$/, '$1/$2/$3:$4 +0000');
  const tail = fails ? rest!.replace(/"\d{3}" ("\d+")$/, '"503" $1') : rest!;
  return `${client} [${date}] ${request} ${fails ? '503' : status} ${middle} "${otherId(id!, number)}" ${(at / 1000).toFixed(3)} ${slower(requestTime!)} ${slower(tail)}`;
}
