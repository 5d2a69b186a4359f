/** The packets of a packet socket as requests, with the connections that carry them. */
import type { Observation } from '../../model/feed.ts';
import type { CaptureStats } from '../capture.ts';
import type { FlowTable } from '../conntrack/flow-table.ts';
import type { HeaderReading } from '../tap/http2/header-block.ts';
import { parseTcpPacket, TCP_FLAGS, type TcpSegment } from '../tap/packet.ts';
import { takeSegment } from '../tap/request-order.ts';
import { type Pending, readSegment, type SegmentOptions, type TapReading } from '../tap/request-tap.ts';
import { PacketConnections } from './connections.ts';
import type { Devices } from './devices.ts';
import { deviceOf, SENDER_BYTES } from './socket.ts';

/** Ports of an address on which it answers clients; of further ones its answers count as requests to nobody knows whom. */
const MOST_LISTENING = 64;
const ANSWER = Buffer.from('HTTP/');
/** How an HTTP/2 connection begins (RFC 9113, section 3.4). */
const PREFACE = Buffer.from('PRI * HTTP/2');
/** Ports to which a preface was seen. Connections to further ones are unreadable. */
const MOST_HTTP2 = 1_024;

export interface PacketTapOptions extends SegmentOptions {
  flows: FlowTable;
  /** Whether conntrack tells of the connections; else their packets do. */
  conntrack: boolean;
  maxFlows: number;
  devices: Pick<Devices, 'isStacked'>;
  isLocal(ip: string, now: number): boolean;
  stats: CaptureStats;
  /** A subscribed address is one of this network namespace: no device receives what it sends. */
  onLocalAddress(address: string): void;
  /** What `plan` says has changed: the filter has to be made anew. */
  onPlanChange(): void;
}

/**
 * A packet is taken where it comes in from its pod: there it is once, with the address that the pod dialed, before anything
 * on the node can change it. Which pod gets it, conntrack says or the answer to the SYN (`PacketConnections`). A request to
 * nobody knows whom counts as lost.
 */
export class PacketTap implements TapReading {
  readonly #options: PacketTapOptions;
  readonly #connections: PacketConnections | undefined;
  /** By address, the ports on which it answers clients: what it sends from there is no request. */
  readonly #listening = new Map<string, Set<number>>();
  /** Ports that are dialed for HTTP/2: of what goes there the payload is kept, as its frames are read when its connection is known. */
  readonly #http2 = new Set<number>();
  readonly #reading: HeaderReading;
  #answers = false;
  #pending: Pending[] = [];
  #lost = 0;

  constructor(options: PacketTapOptions) {
    this.#options = options;
    const { flows, maxFlows, isLocal, idHeader, paths } = options;
    this.#reading = { idHeader, idName: idHeader.toString('latin1'), paths };
    const emit = (record: Observation): void => void this.#pending.push({ record });
    this.#connections = options.conntrack
      ? undefined
      : new PacketConnections({ flows, limit: maxFlows, isLocal, emit });
  }

  /** The subscribed addresses with their ports, and whether answers have to pass. */
  get plan(): { addresses: ReadonlyMap<string, ReadonlySet<number>>; answers: boolean } {
    return { addresses: this.#listening, answers: this.#answers };
  }

  /** Replaces the subscribed addresses, at `now` (ms since the epoch). */
  setAddresses(addresses: readonly string[], now: number): void {
    const wanted = new Set(addresses);
    for (const known of [...this.#listening.keys()]) {
      if (wanted.has(known)) continue;
      this.#listening.delete(known);
      this.#connections?.forget(known);
    }
    for (const address of wanted) {
      if (this.#listening.has(address)) continue;
      this.#listening.set(address, new Set());
      if (this.#options.isLocal(address, now)) this.#options.onLocalAddress(address);
      this.#connections?.begin(now);
    }
    this.#answers = this.#connections?.isLearning(now) ?? false;
    this.#options.onPlanChange();
  }

  take(): Pending[] {
    const pending = this.#pending;
    this.#pending = [];
    return pending;
  }

  takeLost(): number {
    const lost = this.#lost;
    this.#lost = 0;
    return lost;
  }

  overrun(now: number): void {
    this.#connections?.lost(now);
  }

  /** What is over by `now` (ms since the epoch) ends. Call it after each reading. */
  settle(now: number): void {
    const connections = this.#connections;
    if (!connections) return;
    connections.sweep(now);
    const answers = connections.isLearning(now);
    if (answers === this.#answers) return;
    this.#answers = answers;
    this.#options.onPlanChange();
  }

  add(bytes: Buffer, start: number, end: number, readAt: number): void {
    const { addresses, texts, stats, devices } = this.#options;
    stats.tapPackets++;
    const segment = parseTcpPacket(bytes, start + SENDER_BYTES, end);
    if (typeof segment === 'string') {
      // Behind extension headers there may be another protocol.
      if (segment === 'not-tcp') return;
      stats.tapMalformed++;
      this.#lost++;
      return;
    }
    const { srcAt, dstAt, addressLength } = segment;
    const from = addresses.match(bytes, srcAt, addressLength);
    if (from !== undefined && !devices.isStacked(deviceOf(bytes, start), readAt))
      this.#sent(bytes, segment, from, texts.text(bytes, dstAt, addressLength), readAt);
    const to = addresses.match(bytes, dstAt, addressLength);
    if (to !== undefined && this.#connections && !this.#isListening(to, segment.dport))
      this.#received(this.#connections, segment, to, texts.text(bytes, srcAt, addressLength), readAt);
  }

  #isListening(address: string, port: number): boolean {
    return this.#listening.get(address)?.has(port) === true;
  }

  #sent(bytes: Buffer, segment: TcpSegment, src: string, ip: string, t: number): void {
    const { sport, dport, flags, seq, ack, payloadLength } = segment;
    const connections = this.#connections;
    const to = { ip, port: dport };
    if ((flags & TCP_FLAGS.syn) !== 0) {
      if ((flags & TCP_FLAGS.ack) !== 0) {
        this.#listens(src, sport, t);
        return;
      }
      if (this.#listening.get(src)?.delete(sport)) this.#options.onPlanChange();
      if (connections?.opening(src, sport, to, seq, t) === false) this.#lost++;
      // A request in it (TCP Fast Open) is not read.
      if (payloadLength !== 0) this.#lost++;
      return;
    }
    if (this.#isListening(src, sport)) return;
    if (payloadLength !== 0) this.#request(bytes, segment, src, to, ack, t);
    if (!connections) return;
    if ((flags & TCP_FLAGS.fin) !== 0) connections.finSent(src, sport, to, t);
    if ((flags & TCP_FLAGS.rst) !== 0) connections.resetSent(src, sport, to, t);
  }

  #request(
    bytes: Buffer,
    segment: TcpSegment,
    src: string,
    to: { ip: string; port: number },
    ack: number,
    t: number,
  ): void {
    const { flows, stats } = this.#options;
    const { sport, payloadStart, payloadEnd } = segment;
    const known = flows.dialed(src, sport, to.ip, to.port);
    if (!known && beginsWith(ANSWER, bytes, payloadStart, payloadEnd)) {
      // Of a client's connection, most likely, whose opening was not seen.
      this.#lost++;
      return;
    }
    const pending = readSegment(bytes, segment, t, this.#options);
    if (!pending) return;
    if (this.#isHttp2(bytes, segment)) {
      const payload = Buffer.from(bytes.subarray(payloadStart, payloadEnd));
      pending.copied = { bytes: payload, reading: this.#reading };
    }
    if (!this.#connections) {
      pending.dialed = true;
      this.#pending.push(pending);
      return;
    }
    const entry = this.#connections.sent(src, sport, to, ack, t);
    if (!entry) {
      this.#lost++;
      return;
    }
    const what = entry === 'over' ? 'repeated' : takeSegment(entry, pending);
    if (entry === 'over' || what === 'repeated') {
      stats.tapRepeated++;
      return;
    }
    const { request } = pending;
    request.vip = entry.vip;
    request.vport = entry.vport;
    request.ip = entry.ip;
    request.port = entry.port;
    pending.unreadable = what === 'unreadable';
    pending.followed = what === 'followed';
    pending.settled = true;
    this.#pending.push(pending);
  }

  #received(
    connections: PacketConnections,
    { sport, dport, flags, seq, ack, payloadLength }: TcpSegment,
    src: string,
    ip: string,
    t: number,
  ): void {
    const from = { ip, port: sport };
    let kept = true;
    if ((flags & TCP_FLAGS.syn) !== 0) {
      if ((flags & TCP_FLAGS.ack) !== 0) kept = connections.answered(src, dport, from, ack, t);
    } else {
      if (payloadLength !== 0) kept = connections.received(src, dport, from, seq, t);
      if ((flags & TCP_FLAGS.fin) !== 0) connections.finReceived(src, dport, from, t);
      if ((flags & TCP_FLAGS.rst) !== 0) kept &&= connections.resetReceived(src, dport, from, ack, t);
    }
    if (!kept) this.#lost++;
  }

  /** Whether the packet may be of an HTTP/2 connection. */
  #isHttp2(bytes: Buffer, { dport, payloadStart, payloadEnd }: TcpSegment): boolean {
    if (this.#http2.has(dport)) return true;
    if (this.#http2.size >= MOST_HTTP2 || !beginsWith(PREFACE, bytes, payloadStart, payloadEnd)) return false;
    this.#http2.add(dport);
    return true;
  }

  /** The address answers a SYN from this port, so no connection of its own begins there while it listens. */
  #listens(address: string, port: number, t: number): void {
    const ports = this.#listening.get(address);
    if (!ports || ports.has(port) || ports.size >= MOST_LISTENING) return;
    ports.add(port);
    this.#connections?.serves(address, port, t);
    this.#options.onPlanChange();
  }
}

function beginsWith(what: Buffer, bytes: Buffer, start: number, end: number): boolean {
  return end - start >= what.length && bytes.compare(what, 0, what.length, start, start + what.length) === 0;
}
