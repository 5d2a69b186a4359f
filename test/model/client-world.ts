/** A record of clients' connections by hand, and lines of one format, for `ClientFinder`. */
import assert from 'node:assert/strict';
import { ClientFinder } from '../../src/join/clients/client-finder.ts';
import { CLIENT_LIMITS, type ClientLimits, ClientTable } from '../../src/join/clients/client-table.ts';
import { isKnown } from '../../src/model/client.ts';
import type { ClientRecord, FeedRecord, Observation } from '../../src/model/feed.ts';
import { compileLogFormat } from '../../src/parse/log-format.ts';
import { NGINX, T0, Wire } from './wire.ts';

/** The node's address, by which it translates. */
export const NODE = '10.244.0.1';
export const OTHER_NODE = '10.244.1.0';
export const ANN = '192.0.2.1';
export const BOB = '192.0.2.2';

const LINE = '$remote_addr [$time_local] "$request" $upstream_addr';
export const FORMATS = {
  realip: `${LINE} $msec $request_time $remote_port $realip_remote_addr $realip_remote_port`,
  port: `${LINE} $msec $request_time $remote_port`,
  times: `${LINE} $msec $request_time`,
  article: LINE,
  /** The port may be what realip made of it, though the address is not. */
  halfReal: `${LINE} $msec $request_time $remote_port $realip_remote_addr`,
};

interface Written {
  /** ms after T0. */
  end: number;
  took?: number;
  peer?: string;
  port?: number;
  real?: string;
  realPort?: number;
  protocol?: string;
}

/** A record of connections by hand, complete from ten minutes before T0 on, and the lines of one format. */
export class World {
  readonly wire = new Wire();
  readonly table: ClientTable;
  readonly finder: ClientFinder;
  readonly #format;
  readonly #name: keyof typeof FORMATS;

  constructor(name: keyof typeof FORMATS, unchanged = false, limits: ClientLimits = CLIENT_LIMITS) {
    this.#name = name;
    this.#format = compileLogFormat(FORMATS[name]);
    this.table = new ClientTable(limits);
    this.finder = new ClientFinder({
      format: this.#format,
      table: this.table,
      index: this.wire.index,
      unchanged,
    });
    this.begins(-600_000);
  }

  apply(observation: Observation): this {
    this.table.apply({ ...observation, seq: 1 } as FeedRecord, this.wire.index.coverage.watermark);
    this.wire.apply(observation);
    return this;
  }

  begins(at: number, complete: boolean | 'as before' = true, nodes: string[] = []): this {
    const record = { kind: 'clients', t: T0 + at, dst: NGINX, nodes } as const;
    return this.apply(complete === 'as before' ? record : { ...record, complete });
  }

  tick(at: number): this {
    return this.apply({ kind: 'tick', t: T0 + at });
  }

  client(
    client: string,
    at: number,
    { port = 4000, peer = NODE, more = {} as Partial<ClientRecord> } = {},
  ): this {
    const pair = { dst: NGINX, dport: 80, peer, peerPort: port, client, clientPort: 50_000 + port };
    return this.apply({ kind: 'client', t: T0 + at, via: 'conntrack', ...pair, ...more });
  }

  ends(client: string, at: number, end: 'fin' | 'gone' = 'fin', port = 4000): this {
    return this.client(client, at, { port, more: { end } });
  }

  /** The client's address, the reason, or `itself` where nothing is said. */
  says(written: Written, readAt = written.end + 2): string {
    const { end, took = 10, peer = NODE, port = 4000, real = peer, realPort = port } = written;
    const { protocol = 'HTTP/1.1' } = written;
    const second = new Date(Math.floor((T0 + end) / 1000) * 1000).toISOString();
    const months = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ');
    const local = `${second.slice(8, 10)}/${months[Number(second.slice(5, 7)) - 1]}/${second.slice(0, 4)}:${second.slice(11, 19)} +0000`;
    const seconds = ((T0 + end) / 1000).toFixed(3);
    const text = [
      `${peer} [${local}] "GET / ${protocol}" 10.96.0.1:80`,
      ...(this.#name === 'article' ? [] : [`${seconds} ${(took / 1000).toFixed(3)}`]),
      ...(this.#name === 'port' ? [port] : []),
      ...(this.#name === 'realip' ? [port, real, realPort] : []),
      ...(this.#name === 'halfReal' ? [port, real] : []),
    ].join(' ');
    const bytes = Buffer.from(text);
    const parsed = this.#format.parse(bytes, 0, bytes.length);
    assert.notEqual(typeof parsed, 'string', text);
    const found = this.finder.find(bytes, { start: 0, end: bytes.length, parsed }, T0 + readAt);
    if (found === undefined) return 'itself';
    assert.deepEqual(found.spans, [{ start: 0, end: peer.length }]);
    return isKnown(found) ? found.address : found.reason;
  }
}
