/** The packets of `--tap headers` as requests with byte counts. */

import type { CaptureStats } from '../capture.ts';
import type { AddressSet, AddressTexts } from '../ip-bytes.ts';
import { type Ends, Exchanges } from './exchanges.ts';
import { parseNflog } from './nflog.ts';
import { ANSWER_PREFIX } from './nft-answers.ts';
import { parseTcpPacket } from './packet.ts';
import { PacketSequence, type PendingRequest, type TapReading } from './request-tap.ts';

const ANSWER = ANSWER_PREFIX.charCodeAt(0);

export interface HeaderPacketsOptions {
  addresses: AddressSet;
  texts: AddressTexts;
  stats: CaptureStats;
  /** Limit of connections whose counts are kept. */
  maxFlows: number;
}

export class HeaderPackets implements TapReading {
  readonly #options: HeaderPacketsOptions;
  readonly #sequence = new PacketSequence();
  readonly #exchanges: Exchanges;
  #lost = 0;

  constructor(options: HeaderPacketsOptions) {
    this.#options = options;
    this.#exchanges = new Exchanges(options.maxFlows);
  }

  add(bytes: Buffer, start: number, end: number, readAt: number): void {
    const { addresses, texts, stats } = this.#options;
    const packet = parseNflog(bytes, start, end);
    if (packet === 'not-a-packet') return;
    if (packet === 'malformed') {
      this.#miss(1);
      stats.tapMalformed++;
      return;
    }
    stats.tapPackets++;
    if (packet.sequence !== undefined) {
      const lost = this.#sequence.lostBefore(packet.sequence);
      if (lost > 0) this.#miss(lost);
    }
    const segment = parseTcpPacket(bytes, packet.start, packet.end);
    if (typeof segment === 'string') {
      // With IP options the copy ends before the TCP header ends: the packet counts as lost.
      stats.tapMalformed++;
      this.#miss(1);
      return;
    }
    const { srcAt, dstAt, sport, dport, addressLength, seq, ack, flags, payloadLength } = segment;
    const answer = packet.prefix === ANSWER;
    const nginxAt = answer ? dstAt : srcAt;
    const src = addresses.match(bytes, nginxAt, addressLength);
    if (src === undefined) return;
    const ends: Ends = {
      src,
      sport: answer ? dport : sport,
      ip: texts.text(bytes, answer ? srcAt : dstAt, addressLength),
      port: answer ? sport : dport,
    };
    const seen = { seq, ack, flags, length: payloadLength };
    if (answer) this.#exchanges.answered(ends, seen, readAt);
    else this.#exchanges.sent(ends, seen, readAt);
  }

  take(): PendingRequest[] {
    const pending: PendingRequest[] = [];
    for (const exchange of this.#exchanges.take()) {
      const { src, sport, ip, port, begun, t, sent, received, singleSegment, reset, reported } = exchange;
      const request: PendingRequest['request'] = {
        kind: 'request',
        t: reported ? t : begun,
        src,
        sport,
        ip,
        port,
        via: 'tap',
        received,
      };
      if (sent !== undefined) request.sent = sent;
      if (singleSegment) request.singleSegment = true;
      if (reset) request.reset = true;
      if (reported) request.update = true;
      exchange.reported = true;
      pending.push({ request, placed: false });
    }
    return pending;
  }

  takeLost(): number {
    const lost = this.#lost;
    this.#lost = 0;
    return lost;
  }

  overrun(): void {
    this.#exchanges.forget();
  }

  #miss(count: number): void {
    this.#lost += count;
    this.#exchanges.forget();
  }
}
