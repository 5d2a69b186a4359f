/**
 * The expressions of nftables' rules (linux/netfilter/nf_tables.h). The kernel evaluates a rule up to the first expression
 * that does not match. Register 1 passes values from one to the next.
 */
import { endianness } from 'node:os';
import { attribute, nested, number16, number32, text } from '../netlink/message.ts';

const NFT_REG_VERDICT = 0;
export const NFT_REG_1 = 1;
export const NFT_JUMP = -3;
export const NFT_GOTO = -4;
export const NFT_RETURN = -5;
const NFT_META_NFPROTO = 15;
export const NFT_META_L4PROTO = 16;
const NFT_META_IIFTYPE = 8;
export const NFT_CT_DIRECTION = 1;
export const NFT_CT_ID = 23;
const NFT_CMP_NEQ = 1;
const NFT_LOOKUP_F_INV = 1;
/** linux/if_arp.h */
const ARPHRD_LOOPBACK = 772;
const NFT_DYNSET_OP_UPDATE = 1;
const NFT_DYNSET_OP_DELETE = 2;
/** The second of the four-byte registers that make up register 1. */
const NFT_REG32_01 = 9;
const NFT_PAYLOAD_NETWORK_HEADER = 1;
export const NFT_PAYLOAD_TRANSPORT_HEADER = 2;
export const NFT_PAYLOAD_INNER_HEADER = 3;
/** An entry of a list (NFTA_LIST_ELEM). */
export const LIST_ELEMENT = 1;

/** First byte of the log prefix of packets on HTTP/2 connections. */
export const HTTP2_PREFIX = '2';

/** The parameters of a rule that logs to an NFLOG group. */
export interface PacketLog {
  group: number;
  /** Bytes copied from the IP header on. */
  snaplen: number;
  /** Packets that the kernel collects before it delivers them. */
  queueThreshold: number;
}

export function expression(name: string, ...attributes: Buffer[]): Buffer {
  return nested(LIST_ELEMENT, text(1, name), nested(2, ...attributes));
}

export function meta(key: number): Buffer {
  return expression('meta', number32(2, key), number32(1, NFT_REG_1));
}

export function payload(base: number, offset: number, length: number): Buffer {
  return expression(
    'payload',
    number32(1, NFT_REG_1),
    number32(2, base),
    number32(3, offset),
    number32(4, length),
  );
}

/** Masks the one byte in register 1. */
export function masked(bits: number): Buffer {
  return expression(
    'bitwise',
    number32(1, NFT_REG_1),
    number32(2, NFT_REG_1),
    number32(3, 1),
    nested(4, attribute(1, Buffer.of(bits))),
    nested(5, attribute(1, Buffer.of(0))),
  );
}

/** Register 1 is `value`: one byte, or several. */
export function equals(value: number | Buffer): Buffer {
  const bytes = typeof value === 'number' ? Buffer.of(value) : value;
  return expression('cmp', number32(1, NFT_REG_1), number32(2, 0), nested(3, attribute(1, bytes)));
}

/** Register 1 is not `value`. */
export function differs(value: Buffer): Buffer {
  return expression('cmp', number32(1, NFT_REG_1), number32(2, NFT_CMP_NEQ), nested(3, attribute(1, value)));
}

export function ct(key: number): Buffer {
  return expression('ct', number32(2, key), number32(1, NFT_REG_1));
}

/** The packet did not come in by the loopback interface. */
export function notFromLoopback(): Buffer[] {
  const type = Buffer.alloc(2);
  // Registers hold interface types in host order.
  if (endianness() === 'LE') type.writeUInt16LE(ARPHRD_LOOPBACK);
  else type.writeUInt16BE(ARPHRD_LOOPBACK);
  return [meta(NFT_META_IIFTYPE), differs(type)];
}

/** Register 1 is in the set, or with `inverse` is not. */
export function lookup(set: string, inverse = false): Buffer {
  const flags = inverse ? [number32(5, NFT_LOOKUP_F_INV)] : [];
  return expression('lookup', text(1, set), number32(2, NFT_REG_1), ...flags);
}

/** Adds register 1 to the set, or renews its timeout. */
export function update(set: string): Buffer {
  return expression('dynset', text(1, set), number32(3, NFT_DYNSET_OP_UPDATE), number32(4, NFT_REG_1));
}

export function matchAddress(set: string, family: number, offset: number, length: number): Buffer[] {
  return [
    meta(NFT_META_NFPROTO),
    equals(family),
    payload(NFT_PAYLOAD_NETWORK_HEADER, offset, length),
    lookup(set),
  ];
}

/** Byte `offset` of the TCP payload lies in `from`..`to`. */
export function byteInRange(offset: number, from: number, to: number): Buffer[] {
  return [
    payload(NFT_PAYLOAD_INNER_HEADER, offset, 1),
    expression(
      'range',
      number32(1, NFT_REG_1),
      number32(2, 0),
      nested(3, attribute(1, Buffer.of(from))),
      nested(4, attribute(1, Buffer.of(to))),
    ),
  ];
}

export function verdict(code: number, ...chain: Buffer[]): Buffer {
  return expression(
    'immediate',
    number32(1, NFT_REG_VERDICT),
    nested(2, nested(2, number32(1, code), ...chain)),
  );
}

export function log({ group, snaplen, queueThreshold }: PacketLog, prefix?: string): Buffer {
  const marked = prefix === undefined ? [] : [text(2, prefix)];
  return expression('log', number16(1, group), ...marked, number32(3, snaplen), number16(4, queueThreshold));
}

/** enum ip_conntrack_dir */
export const DIRECTION_ORIGINAL = 0;
export const DIRECTION_REPLY = 1;

/** A TCP packet of this direction of its connection. */
export function tcpOf(direction: number): Buffer[] {
  return [meta(NFT_META_L4PROTO), equals(6), ct(NFT_CT_DIRECTION), equals(direction)];
}

/** A TCP packet that can begin an HTTP request (`nft-rules.ts`). */
export const beginsRequest = [
  ...tcpOf(DIRECTION_ORIGINAL),
  ...byteInRange(0, 0x2d, 0x5f),
  ...byteInRange(1, 0x20, 0x5f),
  ...byteInRange(2, 0x20, 0x5f),
];

/** A packet with payload. */
export const hasPayload = byteInRange(0, 0, 0xff);

/** Connection and a number of its TCP header (four bytes from byte `at` on) in registers 1 and 9: a key of eight bytes. */
export function exchangeKey(at: number): Buffer[] {
  const number = expression(
    'payload',
    number32(1, NFT_REG32_01),
    number32(2, NFT_PAYLOAD_TRANSPORT_HEADER),
    number32(3, at),
    number32(4, 4),
  );
  return [ct(NFT_CT_ID), number];
}

/** Deletes register 1 from the set. */
export function remove(set: string): Buffer {
  return expression('dynset', text(1, set), number32(3, NFT_DYNSET_OP_DELETE), number32(4, NFT_REG_1));
}
