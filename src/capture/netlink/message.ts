/** Builds netlink messages for netfilter's subsystems. For requests, which are few: clear rather than fast. */
import { ATTRIBUTE_HEADER, align4, MESSAGE_HEADER, NETFILTER_HEADER } from './wire.ts';

const NLA_F_NESTED = 0x8000;

/** An attribute with its padding. */
export function attribute(type: number, value: Buffer): Buffer {
  const length = ATTRIBUTE_HEADER + value.length;
  const bytes = Buffer.alloc(align4(length));
  bytes.writeUInt16LE(length, 0);
  bytes.writeUInt16LE(type, 2);
  value.copy(bytes, ATTRIBUTE_HEADER);
  return bytes;
}

export function nested(type: number, ...attributes: Buffer[]): Buffer {
  return attribute(type | NLA_F_NESTED, Buffer.concat(attributes));
}

export function text(type: number, value: string): Buffer {
  return attribute(type, Buffer.from(`${value}\0`, 'latin1'));
}

export function number8(type: number, value: number): Buffer {
  return attribute(type, Buffer.of(value));
}

/** 16, 32 and 64-bit numbers in network order, as netfilter wants them. */
export function number16(type: number, value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return attribute(type, bytes);
}

export function number32(type: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value | 0);
  return attribute(type, bytes);
}

export function number64(type: number, value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return attribute(type, bytes);
}

export interface MessageHead {
  /** Subsystem in the high byte, message in the low one. */
  type: number;
  flags: number;
  /** Comes back in the answer. */
  sequence: number;
  /** AF_* or NFPROTO_*. */
  family: number;
  resource?: number;
}

/** nlmsghdr, nfgenmsg, attributes. */
export function message(head: MessageHead, ...attributes: Buffer[]): Buffer {
  const header = Buffer.alloc(NETFILTER_HEADER);
  const length = NETFILTER_HEADER + attributes.reduce((sum, bytes) => sum + bytes.length, 0);
  header.writeUInt32LE(length, 0);
  header.writeUInt16LE(head.type, 4);
  header.writeUInt16LE(head.flags, 6);
  header.writeUInt32LE(head.sequence, 8);
  header.writeUInt8(head.family, MESSAGE_HEADER);
  header.writeUInt16BE(head.resource ?? 0, MESSAGE_HEADER + 2);
  return Buffer.concat([header, ...attributes]);
}
