/**
 * Netlink messages and attributes (linux/netlink.h; RFC 3549 describes the format).
 *
 * Message and attribute headers are in the machine's own order, which is little-endian on every machine realpod runs
 * on; netfilter's values inside the attributes are big-endian.
 */

/** struct nlmsghdr: u32 length, u16 type, u16 flags, u32 sequence, u32 port. */
export const MESSAGE_HEADER = 16;
/** nlmsghdr and struct nfgenmsg: u8 family, u8 version, be16 resource id. */
export const NETFILTER_HEADER = 20;
export const ATTRIBUTE_HEADER = 4;

/** Address families (bits/socket.h). */
export const AF_INET = 2;
export const AF_INET6 = 10;
/** IANA's protocol number. */
export const IPPROTO_TCP = 6;

export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;

export const NLM_F_REQUEST = 0x1;
export const NLM_F_ACK = 0x4;
export const NLM_F_DUMP = 0x300;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_APPEND = 0x800;

/** Type bits without NLA_F_NESTED and NLA_F_NET_BYTEORDER. */
export const ATTRIBUTE_TYPE = 0x3fff;

export function u16(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8);
}

export function u32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

export function be16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

export function be32(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}

/** Both messages and attributes begin at multiples of 4. */
export function align4(length: number): number {
  return (length + 3) & ~3;
}

/** The end of the message at `at`, or -1 if it does not fit before `end`. */
export function messageEnd(bytes: Uint8Array, at: number, end: number): number {
  if (at + MESSAGE_HEADER > end) return -1;
  const length = u32(bytes, at);
  return length >= MESSAGE_HEADER && length <= end - at ? at + length : -1;
}

/** The end of the attribute at `at` (without padding), or -1 if it does not fit before `end`. */
export function attributeEnd(bytes: Uint8Array, at: number, end: number): number {
  if (at + ATTRIBUTE_HEADER > end) return -1;
  const length = u16(bytes, at);
  return length >= ATTRIBUTE_HEADER && length <= end - at ? at + length : -1;
}

export function attributeType(bytes: Uint8Array, at: number): number {
  return u16(bytes, at + 2) & ATTRIBUTE_TYPE;
}
