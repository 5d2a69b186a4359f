import type { Client, ClientEvidence, ClientReason } from '../../model/client.ts';
import type { AddressSpan, ParsedLine } from '../../model/line.ts';
import { canonicalIp } from '../../parse/address.ts';
import type { LogFormat } from '../../parse/log-format.ts';
import type { FlowIndex } from '../index/flow-index.ts';
import type { BlockLine } from '../pending.ts';
import { ranAcrossClockRollback } from '../window.ts';
import type { ClientTable } from './client-table.ts';
import { Found, type LineTime } from './connection-group.ts';

/**
 * How long after both sides' FINs nginx may write a line (ms). Its own FIN follows the line, but for a lingering close, whose
 * line follows the client's FIN in the next turn of the event loop.
 */
const FIN_MS = 1_000;
/** How long after the end of a connection by reset nginx may begin with a request that it had received before (ms). */
const GONE_MS = 5_000;
/** Without a duration in the line: how long before it its request may have begun, and its connection been gone (ms). */
const UNTIMED_MS = 60_000;
const UNTIMED_GONE_MS = 300_000;
/** A logged duration may differ by this from the real one (ms), as in window.ts. */
const TIMES_DIFFER_MS = 11;

/** Ends of `$request` and `$server_protocol` over TCP; HTTP/3 has no connection in the record. */
const OVER_TCP: ReadonlySet<string> = new Set(['HTTP/1.0', 'HTTP/1.1', 'HTTP/2.0', 'TCP']);
const PROTOCOL_LENGTH = 8;

const BOTH_FAMILIES = ['0.0.0.0', '::'];

export interface ClientFinderParts {
  format: LogFormat;
  table: ClientTable;
  index: FlowIndex;
  /** nginx's configuration was read, and nothing in it changes `$remote_addr` or `$remote_port`. */
  unchanged: boolean;
}

/** What the format must have for the client to be found; undefined where nothing is missing. */
export function missingForClients({ variables, timed }: LogFormat): string | undefined {
  if (!variables.includes('remote_addr')) return '$remote_addr';
  if (!timed) return '$msec';
  return protocolIn(variables) < 0 ? '$request' : undefined;
}

function protocolIn(variables: readonly string[]): number {
  for (const name of ['server_protocol', 'request', 'protocol']) {
    const index = variables.indexOf(name);
    if (index >= 0) return index;
  }
  return -1;
}

/**
 * Who a line's `$remote_addr` is where the node put its own address in the place of the client's (SNAT): every connection to nginx
 * that may have carried the line is a candidate, and if all are of one client, that is the client.
 *
 * `$remote_addr` is the connection's peer only if nginx's realip module has not changed it: `$realip_remote_addr` in the line, or
 * nginx's configuration, shows that. Then only connections from this address, and from the line's port where it has one, are
 * candidates. Else it may be an address that another connection's client wrote into a header: connections from anywhere
 * are candidates, and the port is no evidence.
 */
export class ClientFinder {
  readonly counters: { evidence: Record<ClientEvidence, number>; reasons: Record<ClientReason, number> } = {
    evidence: { port: 0, address: 0 },
    reasons: { ambiguous: 0, gap: 0, 'no-flow': 0, realip: 0, 'other-node': 0 },
  };
  readonly #parts: ClientFinderParts;
  /** Indices into the format's variables; -1: not logged. */
  readonly #places: readonly number[];
  readonly #first: boolean;
  readonly #realAddress: number;
  readonly #port: number;
  readonly #protocol: number;

  /** The format has all that `missingForClients` names. */
  constructor(parts: ClientFinderParts) {
    const { variables } = parts.format;
    this.#parts = parts;
    this.#places = variables.flatMap((name, i) => (name === 'remote_addr' ? [i] : []));
    this.#first = variables[0] === 'remote_addr';
    this.#realAddress = variables.indexOf('realip_remote_addr');
    const realPort = variables.indexOf('realip_remote_port');
    this.#port = realPort < 0 && parts.unchanged ? variables.indexOf('remote_port') : realPort;
    this.#protocol = protocolIn(variables);
  }

  /** Undefined where `$remote_addr` is the client itself, as far as this node knows. `readAt`: ms since the epoch. */
  find(block: Buffer, line: BlockLine, readAt: number): Client | undefined {
    const { table, format } = this.#parts;
    const { parsed } = line;
    if (typeof parsed === 'string' || !table.isOfUse || this.#isPlain(block, line)) return undefined;
    const spans = format.split(block, line.start, line.end);
    const text = spans && textAt(block, spans, this.#places[0]!);
    const peer = text === undefined ? undefined : canonicalIp(text);
    if (!spans || peer === undefined) return undefined;
    if (!table.mayHide(peer)) return undefined;
    const real = textAt(block, spans, this.#realAddress);
    if (real !== undefined && real !== text) return undefined;
    const found = table.isTranslating(peer)
      ? this.#search(block, spans, parsed, readAt, peer, this.#parts.unchanged || real !== undefined)
      : 'other-node';
    if (found === undefined) return undefined;
    const places = { peer, spans: this.#spansOf(spans) };
    if (typeof found === 'string') {
      this.counters.reasons[found]++;
      return { ...places, reason: found };
    }
    this.counters.evidence[found.evidence]++;
    return { ...places, ...found };
  }

  /** The clock was set back to `t` (ms since the epoch). */
  onClockRollback(t: number): void {
    this.#parts.table.onClockRollback(t);
  }

  /** Entries of the table, and what its limits dropped. */
  get table(): Pick<ClientTable, 'size' | 'counters'> {
    return this.#parts.table;
  }

  #search(
    block: Buffer,
    spans: Int32Array,
    line: ParsedLine,
    readAt: number,
    peer: string,
    certain: boolean,
  ): { evidence: ClientEvidence; address: string; port: number | undefined } | ClientReason | undefined {
    const { table, index } = this.#parts;
    const protocol = textAt(block, spans, this.#protocol);
    if (protocol === undefined || !OVER_TCP.has(protocol.slice(-PROTOCOL_LENGTH))) return 'no-flow';
    const times = this.#times(line, readAt);
    if (!times || !table.isComplete(times.from, times.time)) return 'gap';
    if (!index.coverage.isComplete('conntrack', times.from, readAt)) return 'gap';
    const families = certain ? [peer] : BOTH_FAMILIES;
    if (!families.every((address) => index.blindSpots.isServed(address, times.from, readAt))) return 'gap';
    const found = new Found(peer);
    const port = certain ? numberAt(block, spans, this.#port) : undefined;
    if (port !== undefined) table.findOn(peer, port, times.time, found);
    else if (certain) table.findFrom(peer, times.time, found);
    else table.findAll(times.time, found);
    if (!certain && (found.several || found.foreign)) return 'realip';
    if (found.several) return 'ambiguous';
    if (found.client === undefined) return certain ? 'no-flow' : 'realip';
    if (found.client === peer) return undefined;
    return {
      evidence: port === undefined ? 'address' : 'port',
      address: found.client,
      port: found.connection?.clientPort,
    };
  }

  #times(line: ParsedLine, readAt: number): { from: number; time: LineTime } | undefined {
    const { lineClock, feedClock, coverage } = this.#parts.index;
    const { endMs, requestMs } = line;
    if (endMs === undefined || lineClock.runsAhead(readAt)) return undefined;
    if (ranAcrossClockRollback(line, coverage.repeatedUntil)) return undefined;
    const written = endMs - feedClock.behindMs;
    const finAfter = written - FIN_MS;
    if (requestMs === undefined) {
      const goneAfter = written - UNTIMED_GONE_MS;
      return { from: written - UNTIMED_MS, time: { begunBy: readAt, finAfter, goneAfter } };
    }
    const goneAfter = written - requestMs - GONE_MS;
    const coarse = Math.max(TIMES_DIFFER_MS, lineClock.coarsenessMs);
    const begunBy = readAt - Math.max(0, requestMs - coarse);
    return { from: goneAfter, time: { begunBy, finAfter, goneAfter } };
  }

  /** Whether the line begins with an IPv4 address that is none of a node's: most lines, without splitting them again. */
  #isPlain(block: Buffer, { start }: BlockLine): boolean {
    if (!this.#first) return false;
    let at = start;
    while (isDotted(block[at])) at++;
    // Before another character it may be a part of `$remote_addr`, or of more than that.
    return (
      at > start && block[at] === SPACE && !this.#parts.table.mayHide(block.toString('latin1', start, at))
    );
  }

  #spansOf(spans: Int32Array): AddressSpan[] {
    const found: AddressSpan[] = [];
    for (const place of this.#places) {
      const start = spans[2 * place]!;
      if (start >= 0) found.push({ start, end: spans[2 * place + 1]! });
    }
    return found;
  }
}

const SPACE = 0x20;

/** A digit or a point. */
function isDotted(byte: number | undefined): boolean {
  return byte !== undefined && (byte === 0x2e || (byte >= 0x30 && byte <= 0x39));
}

/** The text of a variable; undefined where it is not logged, not certain, empty or `-`. */
function textAt(block: Buffer, spans: Int32Array, variable: number): string | undefined {
  if (variable < 0) return undefined;
  const start = spans[2 * variable]!;
  const end = spans[2 * variable + 1]!;
  if (start < 0 || end <= start) return undefined;
  const text = block.toString('latin1', start, end);
  return text === '-' ? undefined : text;
}

function numberAt(block: Buffer, spans: Int32Array, variable: number): number | undefined {
  const text = textAt(block, spans, variable);
  return text !== undefined && /^[1-9]\d{0,4}$/.test(text) ? Number(text) : undefined;
}
