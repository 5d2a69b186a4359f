/** NFLOG messages: one logged packet each (linux/netfilter/nfnetlink_log.h). */
import {
  ATTRIBUTE_HEADER,
  align4,
  attributeEnd,
  attributeType,
  be32,
  NETFILTER_HEADER,
  u16,
} from '../netlink/wire.ts';

/** nlmsg_type: subsystem NFNL_SUBSYS_ULOG (4), then NFULNL_MSG_PACKET or _CONFIG. */
export const NFLOG_PACKET = 0x400;
export const NFLOG_CONFIG = 0x401;

/** enum nfulnl_attr_type */
const NFULA_TIMESTAMP = 3;
const NFULA_PAYLOAD = 9;
const NFULA_PREFIX = 10;
const NFULA_SEQ = 12;

export interface NflogPacket {
  /** Span of the copied bytes, from the IP header on. */
  start: number;
  end: number;
  /** Number of the packet within its group (NFULNL_CFG_F_SEQ); lost packets have numbers too. */
  sequence: number | undefined;
  /** Arrival of the packet, ms since the epoch; undefined if the hook has no time (struct nfulnl_msg_packet_timestamp). */
  arrivedMs: number | undefined;
  /** First byte of the rule's log prefix; 0 without one. */
  prefix: number;
}

export type NflogSkip = 'not-a-packet' | 'malformed';

/** Parses the message at `start`..`end` (nlmsghdr included). A packet without payload has an empty span. */
export function parseNflog(bytes: Buffer, start: number, end: number): NflogPacket | NflogSkip {
  if (end - start < NETFILTER_HEADER) return 'malformed';
  if (u16(bytes, start + 4) !== NFLOG_PACKET) return 'not-a-packet';
  const packet: NflogPacket = { start: end, end, sequence: undefined, arrivedMs: undefined, prefix: 0 };
  for (let at = start + NETFILTER_HEADER; at < end; ) {
    const stop = attributeEnd(bytes, at, end);
    if (stop < 0) return 'malformed';
    const type = attributeType(bytes, at);
    if (type === NFULA_PAYLOAD) {
      packet.start = at + ATTRIBUTE_HEADER;
      packet.end = stop;
    } else if (type === NFULA_PREFIX && stop > at + ATTRIBUTE_HEADER) {
      packet.prefix = bytes[at + ATTRIBUTE_HEADER]!;
    } else if (type === NFULA_SEQ && stop - at === ATTRIBUTE_HEADER + 4) {
      packet.sequence = be32(bytes, at + ATTRIBUTE_HEADER);
    } else if (type === NFULA_TIMESTAMP && stop - at === ATTRIBUTE_HEADER + 16) {
      // Two be64: seconds and microseconds.
      const seconds = be32(bytes, at + ATTRIBUTE_HEADER) * 2 ** 32 + be32(bytes, at + ATTRIBUTE_HEADER + 4);
      packet.arrivedMs = seconds * 1000 + be32(bytes, at + ATTRIBUTE_HEADER + 12) / 1000;
    }
    at += align4(stop - at);
  }
  return packet;
}
