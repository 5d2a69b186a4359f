/** A TCP segment in an IPv4 (RFC 791) or IPv6 (RFC 8200) packet, of which the copy may have only the beginning. */
import { be16, be32, IPPROTO_TCP } from '../netlink/wire.ts';

export interface TcpSegment {
  /** Bytes of an address: 4 or 16; and the offsets of source and destination. */
  addressLength: 4 | 16;
  srcAt: number;
  dstAt: number;
  sport: number;
  dport: number;
  seq: number;
  ack: number;
  /** Bits of `TCP_FLAGS`. */
  flags: number;
  /** Span of the copied payload bytes. */
  payloadStart: number;
  payloadEnd: number;
  /** Payload length on the wire by the IP header, not by what was copied; undefined for packets over 64 KiB. */
  payloadLength: number | undefined;
}

/** `truncated`: the copy ends within the headers. `fragment`: not the first piece, so no TCP header. */
export type PacketSkip = 'truncated' | 'not-ip' | 'not-tcp' | 'fragment' | 'malformed';

/** Control bits (RFC 9293, section 3.1). */
export const TCP_FLAGS = { fin: 0x01, syn: 0x02, rst: 0x04, psh: 0x08, ack: 0x10 } as const;

export function parseTcpPacket(bytes: Uint8Array, start: number, end: number): TcpSegment | PacketSkip {
  if (end - start < 1) return 'truncated';
  const version = bytes[start]! >> 4;
  if (version === 4) return parseIpv4(bytes, start, end);
  if (version === 6) return parseIpv6(bytes, start, end);
  return 'not-ip';
}

function parseIpv4(bytes: Uint8Array, start: number, end: number): TcpSegment | PacketSkip {
  if (end - start < 20) return 'truncated';
  const headerLength = (bytes[start]! & 0xf) * 4;
  if (headerLength < 20) return 'malformed';
  if ((be16(bytes, start + 6) & 0x1fff) !== 0) return 'fragment';
  if (bytes[start + 9] !== IPPROTO_TCP) return 'not-tcp';
  const totalLength = be16(bytes, start + 2);
  const tcp = start + headerLength;
  // Zero: a segment-offloaded packet too long for the field ("BIG TCP").
  const tcpLength = totalLength === 0 ? undefined : totalLength - headerLength;
  return parseTcp(bytes, tcp, end, tcpLength, start + 12, start + 16, 4);
}

/** Extension headers that may be between the IPv6 and the TCP header. */
const HOP_BY_HOP = 0;
const ROUTING = 43;
const FRAGMENT = 44;
const AUTHENTICATION = 51;
const DESTINATION_OPTIONS = 60;

function parseIpv6(bytes: Uint8Array, start: number, end: number): TcpSegment | PacketSkip {
  if (end - start < 40) return 'truncated';
  const payloadLength = be16(bytes, start + 4);
  let next = bytes[start + 6]!;
  let at = start + 40;
  // Each pass advances by at least 8 bytes, so the copy's end bounds the loop.
  while (next !== IPPROTO_TCP) {
    if (at + 8 > end) return 'truncated';
    const following = bytes[at]!;
    if (next === FRAGMENT) {
      if ((be16(bytes, at + 2) & 0xfff8) !== 0) return 'fragment';
      at += 8;
    } else if (next === HOP_BY_HOP || next === ROUTING || next === DESTINATION_OPTIONS) {
      at += (bytes[at + 1]! + 1) * 8;
    } else if (next === AUTHENTICATION) {
      at += (bytes[at + 1]! + 2) * 4;
    } else {
      return 'not-tcp';
    }
    next = following;
  }
  // Zero: a jumbogram (RFC 2675); its length is in a hop-by-hop option.
  const tcpLength = payloadLength === 0 ? undefined : payloadLength - (at - start - 40);
  return parseTcp(bytes, at, end, tcpLength, start + 8, start + 24, 16);
}

function parseTcp(
  bytes: Uint8Array,
  at: number,
  end: number,
  tcpLength: number | undefined,
  srcAt: number,
  dstAt: number,
  addressLength: 4 | 16,
): TcpSegment | PacketSkip {
  if (at + 20 > end) return 'truncated';
  const headerLength = (bytes[at + 12]! >> 4) * 4;
  if (headerLength < 20) return 'malformed';
  if (tcpLength !== undefined && tcpLength < headerLength) return 'malformed';
  const payloadStart = Math.min(at + headerLength, end);
  const payloadLength = tcpLength === undefined ? undefined : tcpLength - headerLength;
  return {
    addressLength,
    srcAt,
    dstAt,
    sport: be16(bytes, at),
    dport: be16(bytes, at + 2),
    seq: be32(bytes, at + 4),
    ack: be32(bytes, at + 8),
    flags: bytes[at + 13]!,
    payloadStart,
    // Link-layer padding may follow the packet.
    payloadEnd: payloadLength === undefined ? end : Math.min(end, payloadStart + payloadLength),
    payloadLength,
  };
}
