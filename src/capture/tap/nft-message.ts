/** The messages that make up an nftables table (linux/netfilter/nf_tables.h): sets, chains and rules of a table. */
import { message, nested, number32, number64, text } from '../netlink/message.ts';
import { NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST } from '../netlink/wire.ts';

export const NFPROTO_INET = 1;
export const NFPROTO_IPV4 = 2;
export const NFPROTO_IPV6 = 10;
export const SUBSYSTEM = 10;
const NEWTABLE = (SUBSYSTEM << 8) | 0;
const DELTABLE = (SUBSYSTEM << 8) | 2;
const NEWCHAIN = (SUBSYSTEM << 8) | 3;
const NEWRULE = (SUBSYSTEM << 8) | 6;
const NEWSET = (SUBSYSTEM << 8) | 9;
export const NEWSETELEM = (SUBSYSTEM << 8) | 12;
export const DELSETELEM = (SUBSYSTEM << 8) | 14;

const NFT_TABLE_F_OWNER = 0x2;
const NFT_SET_TIMEOUT = 0x10;
const NFT_SET_EVAL = 0x20;
const NF_ACCEPT = 1;
/** After DNAT and before SNAT (100). */
const PRIORITY = 90;
/** nft's numbers for key types, so that `nft list` shows addresses. */
export const TYPE_IPADDR = 7;
export const TYPE_IP6ADDR = 8;
export const TYPE_INTEGER = 4;
export const TYPE_MARK = 19;
/** The kernel removes an address that is not set again within this time. */
export const ELEMENT_TIMEOUT_MS = 30_000;
/** IP header and TCP header without options, of IPv4 and IPv6. */
export const HEADER_BYTES = { 4: 40, 6: 60 } as const;
/** By family: where the source address is in the IP header; the destination follows it. */
export const FAMILIES = {
  4: { set: 'clients4', protocol: NFPROTO_IPV4, sourceAt: 12, length: 4 },
  6: { set: 'clients6', protocol: NFPROTO_IPV6, sourceAt: 8, length: 16 },
} as const;

/** enum nf_inet_hooks */
export const HOOK = { input: 1, forward: 2, output: 3, postrouting: 4 } as const;

/** One message of a batch: it gets its table, its sequence number and, if it is the last, NLM_F_ACK. */
export type Message = (table: string, sequence: number, flags: number) => Buffer;

export function inTable(type: number, flags: number, ...attributes: Buffer[]): Message {
  // In every kind of message attribute 1 is the table's name.
  return (table, sequence, more) =>
    message(
      { type, flags: NLM_F_REQUEST | flags | more, sequence, family: NFPROTO_INET },
      text(1, table),
      ...attributes,
    );
}

export const newTable = inTable(NEWTABLE, NLM_F_CREATE | NLM_F_EXCL, number32(2, NFT_TABLE_F_OWNER));
export const deleteTable = inTable(DELTABLE, 0);

export function newChain(name: string): Message {
  return inTable(NEWCHAIN, NLM_F_CREATE, text(3, name));
}

export function baseChain(name: string, hook: number): Message {
  return inTable(
    NEWCHAIN,
    NLM_F_CREATE,
    text(3, name),
    nested(4, number32(1, hook), number32(2, PRIORITY)),
    number32(5, NF_ACCEPT),
    text(7, 'filter'),
  );
}

export function newRule(chain: string, ...expressions: Buffer[]): Message {
  return inTable(NEWRULE, NLM_F_CREATE | NLM_F_APPEND, text(2, chain), nested(4, ...expressions));
}

/** With `limit`, rules add to the set, up to that many elements. */
export function newSet(
  name: string,
  keyType: number,
  keyLength: number,
  id: number,
  timeoutMs: number,
  limit?: number,
): Message {
  return inTable(
    NEWSET,
    NLM_F_CREATE,
    text(2, name),
    number32(3, NFT_SET_TIMEOUT | (limit === undefined ? 0 : NFT_SET_EVAL)),
    number32(4, keyType),
    number32(5, keyLength),
    ...(limit === undefined ? [] : [nested(9, number32(1, limit))]),
    number32(10, id),
    number64(11, timeoutMs),
  );
}
