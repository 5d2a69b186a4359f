/** The tap's packets as requests. */

import type { Observation, UnreadableProtocol } from '../../model/feed.ts';
import type { CaptureStats } from '../capture.ts';
import type { AddressSet, AddressTexts } from '../ip-bytes.ts';
import type { Copied } from './http2/frames.ts';
import type { HeaderReading } from './http2/header-block.ts';
import { type NflogPacket, parseNflog } from './nflog.ts';
import { ANSWER_PREFIX, UNANSWERABLE_PREFIX } from './nft-answers.ts';
import { HTTP2_PREFIX } from './nft-expression.ts';
import { parseTcpPacket, type TcpSegment } from './packet.ts';
import { contentOf, parseRequestHead } from './request-head.ts';

type RequestObservation = Extract<Observation, { kind: 'request' }>;
type ResponseObservation = Extract<Observation, { kind: 'response' }>;

const ANSWER = ANSWER_PREFIX.charCodeAt(0);
const UNANSWERABLE = UNANSWERABLE_PREFIX.charCodeAt(0);
const HTTP2 = HTTP2_PREFIX.charCodeAt(0);
/** A packet's time is used if it is not after the reading and at most this long before it (ms). */
const READ_WITHIN_MS = 10_000;

/** The beginning of an answer that has no connection yet. */
export interface PendingAnswer {
  response: ResponseObservation;
  placed: boolean;
}

/** A request that has no connection yet. */
export interface PendingRequest {
  request: RequestObservation;
  /** No later event can change its connection. */
  placed: boolean;
  /** It marks the connection as one whose requests cannot be read. */
  unreadable?: boolean;
  /** It is the first of an HTTP/2 connection whose requests are read for their ids. */
  followed?: boolean;
  /** The request is complete: its connection is known, and its place in it. */
  settled?: boolean;
  /** It has the address that was dialed, and two connections dialed that one from its port in turn. */
  ambiguous?: boolean;
  /** The request has the address that was dialed, and gets the pod's with its connection. Without one it counts as lost. */
  dialed?: boolean;
}

/** A record of the tap's own. */
export interface PendingRecord {
  record: Observation;
}

/** A segment that may be a request, a retransmission of one, or payload that only looks like one. */
export interface PendingSegment extends PendingRequest {
  /** TCP sequence and acknowledgement number of its segment. */
  seq: number;
  ack: number;
  /** Sequence number after the segment's last byte; undefined where its length is not known. */
  segmentEnd: number | undefined;
  /** Sequence number after the last byte of the request, body included; undefined if its head does not define it. */
  requestEnd: number | undefined;
  /** Another protocol may follow it on its connection. */
  upgrade: boolean;
  /** Its protocol, if it is the first payload of its connection and no request. */
  protocol: UnreadableProtocol;
  /** Its body is chunked: the copied packets do not show where it ends. */
  chunked: boolean;
  /** Its payload, on connections that the kernel takes for HTTP/2. */
  copied: Copied | undefined;
}

export type Pending = PendingRequest | PendingSegment | PendingAnswer | PendingRecord;

/** A tap's packets as requests. */
export interface TapReading {
  /** Parses one NFLOG message, read at `readAt` (ms since the epoch). */
  add(bytes: Buffer, start: number, end: number, readAt: number): void;
  /** Requests, and the number of packets that were lost, since the last call. */
  take(): Pending[];
  takeLost(): number;
  /** The kernel reported a loss of packets at `now` (ms since the epoch). */
  overrun(now: number): void;
  /** Called after each reading that left nothing. */
  settle?(now: number): void;
}

/** Sequence numbers further apart than this (bytes) cannot be put in order. */
const MAX_ORDERED = 2 ** 31 - 1;

/** Counts what is missing in the numbers of a group's packets. */
export class PacketSequence {
  #next = 0;

  /** How many packets were lost before this one. */
  lostBefore(sequence: number): number {
    const lost = (sequence - this.#next) >>> 0;
    this.#next = (sequence + 1) >>> 0;
    return lost;
  }
}

export interface SegmentOptions {
  addresses: AddressSet;
  texts: AddressTexts;
  /** From `headerName`. */
  idHeader: Buffer;
  /** Whether requests carry their targets. */
  paths: boolean;
  /** The addresses whose requests carry hashes of their content (canonical text). */
  contents: ReadonlySet<string>;
}

export interface TapPacketsOptions extends SegmentOptions {
  stats: CaptureStats;
}

export class TapPackets implements TapReading {
  readonly #options: TapPacketsOptions;
  readonly #sequence = new PacketSequence();
  readonly #reading: HeaderReading;
  #requests: Pending[] = [];
  #lost = 0;

  constructor(options: TapPacketsOptions) {
    const { idHeader, paths } = options;
    this.#options = options;
    this.#reading = { idHeader, idName: idHeader.toString('latin1'), paths };
  }

  take(): Pending[] {
    const requests = this.#requests;
    this.#requests = [];
    return requests;
  }

  takeLost(): number {
    const lost = this.#lost;
    this.#lost = 0;
    return lost;
  }

  overrun(): void {}

  add(bytes: Buffer, start: number, end: number, readAt: number): void {
    const { stats } = this.#options;
    const packet = parseNflog(bytes, start, end);
    if (packet === 'not-a-packet') return;
    if (packet === 'malformed') {
      stats.tapMalformed++;
      return;
    }
    stats.tapPackets++;
    if (packet.sequence !== undefined) this.#lost += this.#sequence.lostBefore(packet.sequence);
    const segment = parseTcpPacket(bytes, packet.start, packet.end);
    if (typeof segment === 'string') {
      stats.tapMalformed++;
      return;
    }
    if (packet.prefix === ANSWER) {
      this.#answer(bytes, packet, segment, readAt);
      return;
    }
    if (packet.prefix === UNANSWERABLE) {
      this.#lost++;
      return;
    }
    const pending = readSegment(bytes, segment, readAt, this.#options);
    if (!pending) return;
    if (packet.prefix === HTTP2) {
      // The buffer is used again before the connection is known.
      const payload = Buffer.from(bytes.subarray(segment.payloadStart, segment.payloadEnd));
      pending.copied = { bytes: payload, reading: this.#reading };
    }
    this.#requests.push(pending);
  }

  #answer(bytes: Buffer, { arrivedMs }: NflogPacket, segment: TcpSegment, readAt: number): void {
    const { addresses, texts, stats } = this.#options;
    const src = addresses.match(bytes, segment.dstAt, segment.addressLength);
    if (src === undefined) return;
    stats.tapAnswers++;
    const exact = arrivedMs !== undefined && arrivedMs <= readAt && arrivedMs > readAt - READ_WITHIN_MS;
    const response: ResponseObservation = {
      kind: 'response',
      t: exact ? arrivedMs : readAt,
      src,
      sport: segment.dport,
      ip: texts.text(bytes, segment.srcAt, segment.addressLength),
      port: segment.sport,
      via: 'tap',
    };
    if (exact) response.kernelTime = true;
    this.#requests.push({ response, placed: false });
  }
}

/** A segment with payload, read at `readAt` (ms since the epoch); undefined where its source is no subscribed address. */
export function readSegment(
  bytes: Buffer,
  segment: TcpSegment,
  readAt: number,
  { addresses, texts, idHeader, paths, contents }: SegmentOptions,
): PendingSegment | undefined {
  const src = addresses.match(bytes, segment.srcAt, segment.addressLength);
  if (src === undefined) return undefined;
  const request: RequestObservation = {
    kind: 'request',
    t: readAt,
    src,
    sport: segment.sport,
    ip: texts.text(bytes, segment.dstAt, segment.addressLength),
    port: segment.dport,
    via: 'tap',
  };
  const { seq, ack, payloadLength } = segment;
  const segmentEnd = payloadLength === undefined ? undefined : (seq + payloadLength) >>> 0;
  const pending: PendingSegment = {
    request,
    seq,
    ack,
    segmentEnd,
    requestEnd: undefined,
    upgrade: false,
    chunked: false,
    protocol: 'other',
    copied: undefined,
    placed: false,
  };
  const head = parseRequestHead(bytes, segment.payloadStart, segment.payloadEnd, idHeader);
  if (head === 'not-http') {
    request.midStream = true;
    pending.protocol = protocolOf(bytes, segment.payloadStart, segment.payloadEnd);
    return pending;
  }
  const { requestBytes, upgrade, chunked } = head;
  if (requestBytes !== undefined && requestBytes <= MAX_ORDERED)
    pending.requestEnd = (seq + requestBytes) >>> 0;
  pending.upgrade = upgrade;
  pending.chunked = chunked;
  if (head.id !== undefined) {
    request.id = head.id;
    if (head.idBeforeHost) request.idBeforeHost = true;
  }
  if (head.method !== undefined) request.method = head.method;
  if (paths && head.path !== undefined) request.path = head.path;
  if (head.cut) request.cut = true;
  if (contents.size > 0 && contents.has(src)) {
    const content = contentOf(bytes, segment.payloadStart, segment.payloadEnd, head);
    if (content) request.content = content;
  }
  if (payloadLength !== undefined) {
    request.bytes = payloadLength;
    if (requestBytes === payloadLength) request.singleSegment = true;
  }
  return pending;
}

const HTTP_2_PREFACE = Buffer.from('PRI * HTTP/2');
/** A TLS record of the handshake (RFC 8446, section 5.1): type 22, version 3.x. */
const TLS_HANDSHAKE = Buffer.of(22, 3);

function protocolOf(bytes: Buffer, start: number, end: number): UnreadableProtocol {
  const beginsWith = (what: Buffer): boolean =>
    end - start >= what.length && bytes.compare(what, 0, what.length, start, start + what.length) === 0;
  if (beginsWith(HTTP_2_PREFACE)) return 'http2';
  return beginsWith(TLS_HANDSHAKE) ? 'tls' : 'other';
}
