import type { ClientObservation } from '../capture/capture.ts';
import {
  type FeedRecord,
  NO_CURSOR,
  type Observation,
  SOURCES,
  type Source,
  type UnreadableProtocol,
} from '../model/feed.ts';
import { RecordScanner } from './scanner.ts';

/** Longest line of the feed in bytes: an id, a method, a path of up to a snap length, escaped, and addresses. */
const MAX_LINE = 1024 * 1024;

/** One record as a line of NDJSON with its newline. Times are rounded to microseconds. */
export function encodeRecord(record: Observation, seq: number): string {
  const head = `{"kind":"${record.kind}","seq":${seq},"t":${Math.round(record.t * 1000) / 1000}`;
  switch (record.kind) {
    case 'tick':
      return `${head}}\n`;
    case 'line':
      return `${head}${lineOf(record)}}\n`;
    case 'untraced':
      return `${head},"src":"${record.src}","why":${JSON.stringify(record.why)},"via":"${record.via}"}\n`;
    case 'gap': {
      const from = record.from === undefined ? '' : `,"from":${Math.round(record.from * 1000) / 1000}`;
      const lost = record.lost === undefined ? '' : `,"lost":${record.lost}`;
      return `${head},"source":"${record.source}"${from}${lost}}\n`;
    }
    case 'name':
      return `${head},"ip":"${record.ip}","pod":${JSON.stringify(record.pod)},"namespace":${JSON.stringify(record.namespace)},"node":${JSON.stringify(record.node)},"service":${JSON.stringify(record.service)}}\n`;
    case 'endpoint':
      return `${head},"ip":"${record.ip}"${record.place === undefined ? '' : `,"place":"${record.place}"`}${record.helper === undefined ? '' : `,"helper":${record.helper}`}${record.of === undefined ? '' : `,"of":${JSON.stringify(record.of)}`}}\n`;
    case 'client': {
      const { dst, dport, peer, peerPort, client, clientPort, via, preexisting, kernelTime, end } = record;
      const opened = `${preexisting ? ',"preexisting":true' : ''}${kernelTime ? ',"kernelTime":true' : ''}`;
      return `${head},"dst":"${dst}","dport":${dport},"peer":"${peer}","peerPort":${peerPort},"client":"${client}","clientPort":${clientPort},"via":"${via}"${opened}${end === undefined ? '' : `,"end":"${end}"`}}\n`;
    }
    case 'clients': {
      const complete = record.complete === undefined ? '' : `,"complete":${record.complete}`;
      return `${head},"dst":"${record.dst}"${complete},"nodes":${JSON.stringify(record.nodes)}}\n`;
    }
    default: {
      const vip = record.vip === undefined ? '' : `,"vip":"${record.vip}","vport":${record.vport}`;
      const flow = `${head},"src":"${record.src}","sport":${record.sport}${vip},"ip":"${record.ip}","port":${record.port}`;
      if (record.kind === 'open')
        return `${flow},"via":"${record.via}"${record.preexisting ? ',"preexisting":true' : ''}${record.kernelTime ? ',"kernelTime":true' : ''}${sinceOf(record)}}\n`;
      if (record.kind === 'response')
        return `${flow},"via":"${record.via}"${record.kernelTime ? ',"kernelTime":true' : ''}}\n`;
      if (record.kind === 'unreadable')
        return `${flow},"protocol":"${record.protocol}"${record.idsRead ? ',"idsRead":true' : ''},"via":"${record.via}"}\n`;
      if (record.kind === 'close') return `${flow},"via":"${record.via}"${endOf(record)}}\n`;
      const own = record.idBeforeHost ? ',"idBeforeHost":true' : '';
      const after = record.afterChunks ? ',"afterChunks":true' : '';
      const id = record.id === undefined ? '' : `,"id":${JSON.stringify(record.id)}${own}${after}`;
      const method = record.method === undefined ? '' : `,"method":${JSON.stringify(record.method)}`;
      const path = record.path === undefined ? '' : `,"path":${JSON.stringify(record.path)}`;
      const cut = record.cut ? ',"cut":true' : '';
      const content = record.content === undefined ? '' : `,"content":[${record.content.join()}]`;
      const bytes = record.bytes === undefined ? '' : `,"bytes":${record.bytes}`;
      const singleSegment = record.singleSegment ? ',"singleSegment":true' : '';
      const within = record.midStream ? ',"midStream":true' : '';
      const counts = record.received === undefined ? '' : countsOf(record);
      return `${flow}${id}${method}${path}${cut}${content}${bytes}${singleSegment}${within}${counts},"via":"${record.via}"}\n`;
    }
  }
}

/** The first records of clients for a new reader, which begin at `watermark` at the earliest (ms since the epoch). */
export function encodeClients(clients: readonly ClientObservation[], watermark: number): string {
  return clients
    .map((record) => {
      const t = record.kind === 'clients' ? Math.max(record.t, watermark) : record.t;
      return encodeRecord({ ...record, t }, NO_CURSOR);
    })
    .join('');
}

function lineOf(record: Extract<Observation, { kind: 'line' }>): string {
  const { src, ino, offset, length, check, states, attempts, via } = record;
  let used = '';
  if (attempts) {
    const each = attempts.map(
      ([state, sport, vip, vport, at]) => `[${state},${sport},"${vip}",${vport},${at}]`,
    );
    used = `,"attempts":[${each.join()}]`;
  }
  return `,"src":"${src}","ino":"${ino}","offset":${offset},"length":${length},"check":${check},"states":${states}${used},"via":"${via}"`;
}

function countsOf({ sent, received, reset, update }: Extract<Observation, { kind: 'request' }>): string {
  const bytes = `${sent === undefined ? '' : `,"sent":${sent}`},"received":${received}`;
  return `${bytes}${reset ? ',"reset":true' : ''}${update ? ',"update":true' : ''}`;
}

function sinceOf({ openedAfter }: Extract<Observation, { kind: 'open' }>): string {
  return openedAfter === undefined ? '' : `,"openedAfter":${Math.floor(openedAfter * 1000) / 1000}`;
}

function endOf(close: Extract<Observation, { kind: 'close' }>): string {
  const { end, endedBefore, update, counts, protocol, idsRead } = close;
  const unread = protocol === undefined ? '' : `,"protocol":"${protocol}"${idsRead ? ',"idsRead":true' : ''}`;
  const by = endedBefore === undefined ? '' : `,"endedBefore":${Math.ceil(endedBefore * 1000) / 1000}`;
  const counted = counts === undefined ? '' : `,"counts":${JSON.stringify(counts)}`;
  return `${end === undefined ? '' : `,"end":"${end}"`}${by}${update ? ',"update":true' : ''}${unread}${counted}`;
}

/** The decoded records of all whole lines, and an error where a line is not a record. */
export interface Decoded {
  records: FeedRecord[];
  /** One line that says what is wrong. The records before it are valid; nothing after it is decoded. */
  error: string | undefined;
}

/** Decodes the bytes of a feed, in chunks of any size. */
export class RecordDecoder {
  readonly #scanner = new RecordScanner();
  #rest: Buffer[] = [];
  #restLength = 0;

  push(chunk: Buffer): Decoded {
    const records: FeedRecord[] = [];
    const lastNewline = chunk.lastIndexOf(0x0a);
    if (lastNewline < 0) {
      this.#rest.push(chunk);
      this.#restLength += chunk.length;
      const error = this.#restLength > MAX_LINE ? `a line of more than ${MAX_LINE} bytes` : undefined;
      return { records, error };
    }
    const bytes = this.#restLength > 0 ? Buffer.concat([...this.#rest, chunk]) : chunk;
    const end = bytes.length - (chunk.length - lastNewline - 1);
    this.#rest = end < bytes.length ? [Buffer.from(bytes.subarray(end))] : [];
    this.#restLength = bytes.length - end;
    for (let from = 0; from < end; ) {
      let record: FeedRecord | undefined | string = this.#scanner.scan(bytes, from, end);
      if (record) {
        from = this.#scanner.end;
      } else {
        const to = bytes.indexOf(0x0a, from);
        if (to > from) record = decodeRecord(bytes.toString('utf8', from, to));
        from = to + 1;
      }
      if (typeof record === 'string') return { records, error: record };
      if (record) records.push(record);
    }
    return { records, error: undefined };
  }
}

/** The record, `undefined` for a kind that this version does not know, or one line that says what is wrong with it. */
export function decodeRecord(line: string): FeedRecord | undefined | string {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return `not JSON: ${line.slice(0, 80)}`;
  }
  if (typeof value !== 'object' || value === null) return `not an object: ${line.slice(0, 80)}`;
  const record = value as Record<string, unknown>;
  if (!isNumber(record.seq) || !isNumber(record.t)) return `without seq or t: ${line.slice(0, 80)}`;
  switch (record.kind) {
    case 'open':
    case 'close':
    case 'request':
    case 'response':
      return isFlow(record) ? (value as FeedRecord) : `incomplete ${record.kind}: ${line.slice(0, 120)}`;
    case 'unreadable':
      return isFlow(record) && isProtocol(record.protocol)
        ? (value as FeedRecord)
        : `incomplete unreadable: ${line.slice(0, 120)}`;
    case 'client':
      return isClient(record) ? (value as FeedRecord) : `incomplete client: ${line.slice(0, 120)}`;
    case 'clients':
      return isAddress(record.dst) &&
        (record.complete === undefined || typeof record.complete === 'boolean') &&
        Array.isArray(record.nodes) &&
        record.nodes.every(isAddress)
        ? (value as FeedRecord)
        : `incomplete clients: ${line.slice(0, 120)}`;
    case 'tick':
      return value as FeedRecord;
    case 'line':
      return isLine(record) ? (value as FeedRecord) : `incomplete line: ${line.slice(0, 120)}`;
    case 'untraced':
      return isAddress(record.src) && isText(record.why)
        ? (value as FeedRecord)
        : `incomplete untraced: ${line.slice(0, 120)}`;
    case 'gap':
      return isSource(record.source) &&
        (record.from === undefined || isNumber(record.from)) &&
        (record.lost === undefined || isNumber(record.lost))
        ? (value as FeedRecord)
        : `incomplete gap: ${line.slice(0, 120)}`;
    case 'name':
      return isAddress(record.ip) && [record.pod, record.namespace, record.node, record.service].every(isName)
        ? (value as FeedRecord)
        : `incomplete name: ${line.slice(0, 120)}`;
    case 'endpoint':
      return isAddress(record.ip) &&
        (record.place === undefined || record.place === 'here' || record.place === 'elsewhere') &&
        (record.helper === undefined || isPort(record.helper)) &&
        (record.of === undefined || (Array.isArray(record.of) && record.of.every(isEndpointPort)))
        ? (value as FeedRecord)
        : `incomplete endpoint: ${line.slice(0, 120)}`;
    default:
      return undefined;
  }
}

function isFlow(record: Record<string, unknown>): boolean {
  return (
    isAddress(record.src) &&
    isPort(record.sport) &&
    isAddress(record.ip) &&
    isPort(record.port) &&
    (record.vip === undefined || (isAddress(record.vip) && isPort(record.vport))) &&
    (record.id === undefined || isString(record.id)) &&
    (record.method === undefined || isString(record.method)) &&
    (record.path === undefined || isString(record.path)) &&
    (record.openedAfter === undefined || isNumber(record.openedAfter)) &&
    (record.endedBefore === undefined || isNumber(record.endedBefore)) &&
    (record.bytes === undefined || isNumber(record.bytes)) &&
    (record.sent === undefined || isNumber(record.sent)) &&
    (record.received === undefined || isNumber(record.received)) &&
    (record.counts === undefined || isCounts(record.counts)) &&
    isSource(record.via)
  );
}

function isClient({
  dst,
  dport,
  peer,
  peerPort,
  client,
  clientPort,
  via,
  end,
}: Record<string, unknown>): boolean {
  return (
    [dst, peer, client].every(isAddress) &&
    [dport, peerPort, clientPort].every(isPort) &&
    (end === undefined || end === 'fin' || end === 'gone') &&
    isSource(via)
  );
}

function isLine({ src, ino, offset, length, check, states, attempts }: Record<string, unknown>): boolean {
  return (
    isAddress(src) &&
    typeof ino === 'string' &&
    /^\d{1,20}$/.test(ino) &&
    [offset, length, check, states].every(isNumber) &&
    (attempts === undefined || (Array.isArray(attempts) && attempts.every(isTracedAttempt)))
  );
}

function isTracedAttempt(value: unknown): boolean {
  if (!Array.isArray(value) || value.length !== 5) return false;
  const [state, sport, vip, vport, writtenAt] = value as unknown[];
  return isNumber(state) && isPort(sport) && isAddress(vip) && isPort(vport) && isNumber(writtenAt);
}

function isEndpointPort(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const { port, vip, vport } = value as Record<string, unknown>;
  return isPort(port) && (vip === undefined ? vport === undefined : isAddress(vip) && isPort(vport));
}

function isCounts(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const { sentPackets, sentBytes, receivedPackets, receivedBytes } = value as Record<string, unknown>;
  return [sentPackets, sentBytes, receivedPackets, receivedBytes].every(isNumber);
}

function isProtocol(value: unknown): value is UnreadableProtocol {
  return value === 'http2' || value === 'tls' || value === 'other' || value === 'offloaded';
}

function isSource(value: unknown): value is Source {
  return SOURCES.includes(value as Source);
}

/** An address is written into lines: anything else, a newline above all, would break them. IPv6 has at most 45 characters. */
function isAddress(value: unknown): boolean {
  return typeof value === 'string' && /^[0-9a-f:.]{2,45}$/.test(value);
}

/** A name is written into lines too: no blank, no control character. */
function isName(value: unknown): boolean {
  return typeof value === 'string' && !/[\s\p{Cc}]/u.test(value);
}

/** For people, in a log: one short line. */
function isText(value: unknown): boolean {
  return typeof value === 'string' && value.length <= 200 && !/\p{Cc}/u.test(value);
}

function isString(value: unknown): value is string {
  return typeof value === 'string';
}

function isNumber(value: unknown): value is number {
  return Number.isFinite(value);
}

function isPort(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 65_535;
}
