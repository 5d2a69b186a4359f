/**
 * ctnetlink messages: one tracked connection each
 * (linux/netfilter/nfnetlink_conntrack.h, nf_conntrack_tcp.h).
 */
import type { FlowCounts } from '../../model/feed.ts';
import type { AddressSet, AddressTexts } from '../ip-bytes.ts';
import {
  ATTRIBUTE_HEADER,
  align4,
  attributeEnd,
  attributeType,
  be16,
  be32,
  IPPROTO_TCP,
  NETFILTER_HEADER,
  NLM_F_CREATE,
  NLM_F_EXCL,
  u16,
} from '../netlink/wire.ts';

/** nlmsg_type: subsystem NFNL_SUBSYS_CTNETLINK (1), then IPCTNL_MSG_CT_NEW or _DELETE. */
export const CT_NEW = 0x100;
export const CT_GET = 0x101;
export const CT_DELETE = 0x102;

/** enum ctattr_type */
export const CTA_TUPLE_ORIG = 1;
export const CTA_TUPLE_REPLY = 2;
export const CTA_STATUS = 3;
export const CTA_PROTOINFO = 4;
export const CTA_ID = 12;
export const CTA_ZONE = 18;
export const CTA_FILTER = 25;
export const CTA_TIMESTAMP_EVENT = 27;

/** enum ctattr_tuple, ctattr_ip, ctattr_l4proto */
export const CTA_TUPLE_IP = 1;
export const CTA_TUPLE_PROTO = 2;
const CTA_TUPLE_ZONE = 3;
export const CTA_IP_V4_SRC = 1;
export const CTA_IP_V4_DST = 2;
export const CTA_IP_V6_SRC = 3;
export const CTA_IP_V6_DST = 4;
export const CTA_PROTO_NUM = 1;
export const CTA_PROTO_SRC_PORT = 2;
export const CTA_PROTO_DST_PORT = 3;

/** enum ctattr_counters, in CTA_COUNTERS_ORIG and CTA_COUNTERS_REPLY; 64 bits each. */
const CTA_COUNTERS_ORIG = 9;
const CTA_COUNTERS_REPLY = 10;
const CTA_COUNTERS_PACKETS = 1;
const CTA_COUNTERS_BYTES = 2;

export const CTA_PROTOINFO_TCP = 1;
export const CTA_PROTOINFO_TCP_STATE = 1;

/** enum tcp_conntrack: both sides' FINs and the last acknowledgement have passed. */
export const TCP_TIME_WAIT = 7;
/** A reset has passed. */
export const TCP_CLOSE = 8;
/** enum ip_conntrack_status: the handshake was completed. */
export const IPS_ASSURED = 1 << 2;
/** The destination was translated. */
export const IPS_DST_NAT = 1 << 5;
/** IPS_OFFLOAD and IPS_HW_OFFLOAD: a flow table has it, or the hardware. */
const IPS_OFFLOADED = (1 << 14) | (1 << 15);

export interface ConntrackEvent {
  /** `update` also for the entries of a dump: how the connection is at the moment. */
  type: 'new' | 'update' | 'destroy';
  /** CTA_ID: distinguishes connections that had the same tuple. It is a hash and may repeat. */
  id: number;
  /** Conntrack zone of the original direction, 0 by default. */
  zone: number;
  /** Original tuple. */
  src: string;
  sport: number;
  vip: string;
  vport: number;
  /** Source of the reply tuple: the backend. */
  ip: string;
  port: number;
  tcpState: number | undefined;
  /** Whether the connection was ever established; undefined if the message does not say. */
  assured?: boolean | undefined;
  /** Its packets pass no hook at the moment, as a flow table has taken it. */
  offloaded?: boolean | undefined;
  /** CTA_TIMESTAMP_EVENT in ms since the epoch: the time of the event, on kernels that have it. */
  eventMs: number | undefined;
}

/** Both sides closed the connection, or it was reset before it was established: no exchange can begin or continue. */
export function isOver({ tcpState, assured }: ConntrackEvent): boolean {
  return tcpState === TCP_TIME_WAIT || (tcpState === TCP_CLOSE && assured === false);
}

/** Why a message is not an event. `other-source`: not from an address in the set. */
export type ConntrackSkip = 'other-source' | 'not-tcp' | 'not-an-event' | 'malformed';

/** Where the parts of a tuple lie. One is reused for all messages; `parseTuple` sets every field each time. */
export interface Tuple {
  length: 0 | 4 | 16;
  srcAt: number;
  dstAt: number;
  protocol: number;
  sport: number;
  dport: number;
  zone: number;
}

export const tuple: Tuple = { length: 0, srcAt: 0, dstAt: 0, protocol: -1, sport: -1, dport: -1, zone: 0 };

/**
 * Parses the message at `start`..`end` (nlmsghdr included). Without `sources`, every source is accepted. A message without
 * a complete original and reply tuple is `malformed`.
 */
export function parseConntrack(
  bytes: Buffer,
  start: number,
  end: number,
  sources: AddressSet | undefined,
  texts: AddressTexts,
): ConntrackEvent | ConntrackSkip {
  if (end - start < NETFILTER_HEADER) return 'malformed';
  const messageType = u16(bytes, start + 4);
  if (messageType !== CT_NEW && messageType !== CT_DELETE) return 'not-an-event';
  const isNew = (u16(bytes, start + 6) & (NLM_F_CREATE | NLM_F_EXCL)) !== 0;

  let src: string | undefined;
  let sport = 0;
  let vip = '';
  let vport = 0;
  let ip: string | undefined;
  let port = 0;
  let id = 0;
  let zone = 0;
  let tcpState: number | undefined;
  let assured: boolean | undefined;
  let offloaded: boolean | undefined;
  let eventMs: number | undefined;

  for (let at = start + NETFILTER_HEADER; at < end; ) {
    const stop = attributeEnd(bytes, at, end);
    if (stop < 0) return 'malformed';
    const value = at + ATTRIBUTE_HEADER;
    switch (attributeType(bytes, at)) {
      case CTA_TUPLE_ORIG:
        if (!parseTuple(bytes, value, stop)) return 'malformed';
        if (tuple.length === 0) return 'malformed';
        if (sources === undefined) {
          src = texts.text(bytes, tuple.srcAt, tuple.length);
        } else {
          src = sources.match(bytes, tuple.srcAt, tuple.length);
          if (src === undefined) return 'other-source';
        }
        if (tuple.protocol !== IPPROTO_TCP) return 'not-tcp';
        if (tuple.sport < 0 || tuple.dport < 0) return 'malformed';
        sport = tuple.sport;
        vip = texts.text(bytes, tuple.dstAt, tuple.length);
        vport = tuple.dport;
        zone = tuple.zone;
        break;
      case CTA_TUPLE_REPLY:
        if (!parseTuple(bytes, value, stop)) return 'malformed';
        if (tuple.length === 0 || tuple.protocol !== IPPROTO_TCP || tuple.sport < 0) return 'malformed';
        ip = texts.text(bytes, tuple.srcAt, tuple.length);
        port = tuple.sport;
        break;
      case CTA_STATUS:
        if (stop - value === 4) {
          const status = be32(bytes, value);
          assured = (status & IPS_ASSURED) !== 0;
          offloaded = (status & IPS_OFFLOADED) !== 0;
        }
        break;
      case CTA_ID:
        if (stop - value === 4) id = be32(bytes, value);
        break;
      case CTA_ZONE:
        if (stop - value === 2) zone = be16(bytes, value);
        break;
      case CTA_PROTOINFO:
        tcpState = parseTcpState(bytes, value, stop);
        break;
      case CTA_TIMESTAMP_EVENT:
        if (stop - value === 8) eventMs = (be32(bytes, value) * 2 ** 32 + be32(bytes, value + 4)) / 1e6;
        break;
    }
    at += align4(stop - at);
  }
  if (src === undefined || ip === undefined) return 'malformed';
  return {
    type: messageType === CT_DELETE ? 'destroy' : isNew ? 'new' : 'update',
    id,
    zone,
    src,
    sport,
    vip,
    vport,
    ip,
    port,
    tcpState,
    assured,
    offloaded,
    eventMs,
  };
}

/**
 * The counters of a connection's packets and bytes, and its id. Undefined where the message has none: the kernel counts with `nf_conntrack_acct`, for connections opened from then on.
 */
export function parseCounts(
  bytes: Buffer,
  start: number,
  end: number,
): { id: number; counts: FlowCounts } | undefined {
  let id: number | undefined;
  const counts: FlowCounts = { sentPackets: -1, sentBytes: -1, receivedPackets: -1, receivedBytes: -1 };
  for (let at = start + NETFILTER_HEADER; at < end; ) {
    const stop = attributeEnd(bytes, at, end);
    if (stop < 0) return undefined;
    const value = at + ATTRIBUTE_HEADER;
    switch (attributeType(bytes, at)) {
      case CTA_ID:
        if (stop - value === 4) id = be32(bytes, value);
        break;
      case CTA_COUNTERS_ORIG:
        counts.sentPackets = number64(bytes, value, stop, CTA_COUNTERS_PACKETS);
        counts.sentBytes = number64(bytes, value, stop, CTA_COUNTERS_BYTES);
        break;
      case CTA_COUNTERS_REPLY:
        counts.receivedPackets = number64(bytes, value, stop, CTA_COUNTERS_PACKETS);
        counts.receivedBytes = number64(bytes, value, stop, CTA_COUNTERS_BYTES);
        break;
    }
    at += align4(stop - at);
  }
  const { sentPackets, sentBytes, receivedPackets, receivedBytes } = counts;
  const whole = sentPackets >= 0 && sentBytes >= 0 && receivedPackets >= 0 && receivedBytes >= 0;
  return id !== undefined && whole ? { id, counts } : undefined;
}

/** The attribute's number, or -1. */
function number64(bytes: Buffer, start: number, end: number, type: number): number {
  const at = findAttribute(bytes, start, end, type);
  if (at < 0 || u16(bytes, at) !== ATTRIBUTE_HEADER + 8) return -1;
  const value = at + ATTRIBUTE_HEADER;
  return be32(bytes, value) * 2 ** 32 + be32(bytes, value + 4);
}

/** Sets `tuple`. False where it is malformed. */
export function parseTuple(bytes: Buffer, start: number, end: number): boolean {
  tuple.length = 0;
  tuple.protocol = -1;
  tuple.sport = -1;
  tuple.dport = -1;
  tuple.zone = 0;
  for (let at = start; at < end; ) {
    const stop = attributeEnd(bytes, at, end);
    if (stop < 0) return false;
    const value = at + ATTRIBUTE_HEADER;
    switch (attributeType(bytes, at)) {
      case CTA_TUPLE_IP:
        if (!parseTupleAddresses(bytes, value, stop)) return false;
        break;
      case CTA_TUPLE_PROTO:
        if (!parseTupleProtocol(bytes, value, stop)) return false;
        break;
      case CTA_TUPLE_ZONE:
        if (stop - value === 2) tuple.zone = be16(bytes, value);
        break;
    }
    at += align4(stop - at);
  }
  return true;
}

/** Both addresses, of one family, or none. */
function parseTupleAddresses(bytes: Buffer, start: number, end: number): boolean {
  let srcLength = 0;
  let dstLength = 0;
  for (let at = start; at < end; ) {
    const stop = attributeEnd(bytes, at, end);
    if (stop < 0) return false;
    const value = at + ATTRIBUTE_HEADER;
    const type = attributeType(bytes, at);
    if (type === CTA_IP_V4_SRC || type === CTA_IP_V6_SRC) {
      tuple.srcAt = value;
      srcLength = stop - value;
      if (srcLength !== (type === CTA_IP_V4_SRC ? 4 : 16)) return false;
    } else if (type === CTA_IP_V4_DST || type === CTA_IP_V6_DST) {
      tuple.dstAt = value;
      dstLength = stop - value;
      if (dstLength !== (type === CTA_IP_V4_DST ? 4 : 16)) return false;
    }
    at += align4(stop - at);
  }
  if (srcLength !== dstLength) return false;
  tuple.length = srcLength as 0 | 4 | 16;
  return true;
}

function parseTupleProtocol(bytes: Buffer, start: number, end: number): boolean {
  for (let at = start; at < end; ) {
    const stop = attributeEnd(bytes, at, end);
    if (stop < 0) return false;
    const value = at + ATTRIBUTE_HEADER;
    const length = stop - value;
    switch (attributeType(bytes, at)) {
      case CTA_PROTO_NUM:
        if (length === 1) tuple.protocol = bytes[value]!;
        break;
      case CTA_PROTO_SRC_PORT:
        if (length === 2) tuple.sport = be16(bytes, value);
        break;
      case CTA_PROTO_DST_PORT:
        if (length === 2) tuple.dport = be16(bytes, value);
        break;
    }
    at += align4(stop - at);
  }
  return true;
}

/** CTA_PROTOINFO → CTA_PROTOINFO_TCP → CTA_PROTOINFO_TCP_STATE. */
export function parseTcpState(bytes: Buffer, start: number, end: number): number | undefined {
  const tcp = findAttribute(bytes, start, end, CTA_PROTOINFO_TCP);
  if (tcp < 0) return undefined;
  const tcpEnd = tcp + u16(bytes, tcp);
  const state = findAttribute(bytes, tcp + ATTRIBUTE_HEADER, tcpEnd, CTA_PROTOINFO_TCP_STATE);
  return state < 0 || u16(bytes, state) !== 5 ? undefined : bytes[state + ATTRIBUTE_HEADER];
}

function findAttribute(bytes: Buffer, start: number, end: number, type: number): number {
  for (let at = start; at < end; ) {
    const stop = attributeEnd(bytes, at, end);
    if (stop < 0) return -1;
    if (attributeType(bytes, at) === type) return at;
    at += align4(stop - at);
  }
  return -1;
}
