/** The kernel's connection tracking: its events and its table (ctnetlink). */
import { readFileSync } from 'node:fs';
import { CaptureError } from '../error.ts';
import { addressBytes } from '../ip-bytes.ts';
import type { Libc } from '../netlink/libc.ts';
import { attribute, message, nested, number8, number16 } from '../netlink/message.ts';
import { NetlinkSocket } from '../netlink/socket.ts';
import { AF_INET, AF_INET6, IPPROTO_TCP, NLM_F_DUMP, NLM_F_REQUEST } from '../netlink/wire.ts';
import {
  CT_GET,
  CTA_FILTER,
  CTA_IP_V4_DST,
  CTA_IP_V4_SRC,
  CTA_IP_V6_DST,
  CTA_IP_V6_SRC,
  CTA_PROTO_DST_PORT,
  CTA_PROTO_NUM,
  CTA_PROTO_SRC_PORT,
  CTA_TUPLE_IP,
  CTA_TUPLE_ORIG,
  CTA_TUPLE_PROTO,
  CTA_TUPLE_REPLY,
} from './message.ts';

/** Multicast groups NFNLGRP_CONNTRACK_NEW, _UPDATE and _DESTROY (1, 2 and 3) as bits. */
const EVENT_GROUPS = 0b111;
const EVENT_DATAGRAM = 2048;
const EVENT_DATAGRAMS = 128;
const ANSWERS = 33;

/** Beyond this many addresses one dump of all is cheaper than one each: the kernel walks its table for each. */
const FILTERED_DUMPS = 8;

/** CTA_FILTER_ORIG_FLAGS, likewise for CTA_TUPLE_REPLY, and their bits: which parts of the tuple an entry must have. */
const CTA_FILTER_ORIG_FLAGS = 1;
const CTA_FILTER_REPLY_FLAGS = 2;
const FILTER_IP_SRC = 1 << 0;
const FILTER_PROTO_NUM = 1 << 3;
const FILTER_PROTO_SRC_PORT = 1 << 4;

/** Whether the kernel counts packets and bytes of connections opened from now on. */
export function countsFlows(): boolean {
  return readSetting('/proc/sys/net/netfilter/nf_conntrack_acct') === '1';
}

/** Throws `CaptureError`. */
export function openConntrackEvents(libc: Libc, receiveBufferBytes: number): NetlinkSocket {
  const setting = readSetting('/proc/sys/net/netfilter/nf_conntrack_events');
  if (setting === '0') {
    throw new CaptureError(
      'conntrack-events',
      'conntrack sends no events on this machine: sysctl -w net.netfilter.nf_conntrack_events=1',
    );
  }
  return NetlinkSocket.open(libc, {
    groups: EVENT_GROUPS,
    receiveBufferBytes,
    datagramBytes: EVENT_DATAGRAM,
    datagrams: EVENT_DATAGRAMS,
  });
}

/** For requests that are answered while they are sent (`getRequest`). Throws `CaptureError`. */
export function openConntrackRequests(libc: Libc): NetlinkSocket {
  return NetlinkSocket.open(libc, { datagramBytes: EVENT_DATAGRAM, datagrams: ANSWERS });
}

function readSetting(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
}

/**
 * Requests that list at least the TCP connections from these addresses (and this port): check each entry. Kernels before
 * 5.8 ignore CTA_FILTER and list all of the family. For IPv6 addresses the kernel's filter lists the connections that do
 * not match (`!ipv6_addr_cmp` in ctnetlink_filter_match_tuple, seen on 6.18), so it is not used.
 */
export function dumpRequests(addresses: readonly string[], sport?: number): Buffer[] {
  return requestsFor(addresses, (key) => filteredDump(key, sport));
}

/** Requests that list at least the TCP connections to these addresses, as `dumpRequests`. */
export function incomingDumpRequests(addresses: readonly string[]): Buffer[] {
  return requestsFor(addresses, (key) => dumpOf(CTA_TUPLE_REPLY, CTA_FILTER_REPLY_FLAGS, key, undefined));
}

function requestsFor(addresses: readonly string[], filtered: (key: Buffer) => Buffer): Buffer[] {
  const keys = addresses.map(addressBytes).filter((bytes) => bytes !== undefined);
  const v4 = keys.filter((key) => key.length === 4);
  const requests: Buffer[] = [];
  if (v4.length > FILTERED_DUMPS) requests.push(dumpRequest(AF_INET));
  else requests.push(...v4.map(filtered));
  if (v4.length < keys.length) requests.push(dumpRequest(AF_INET6));
  return requests;
}

function filteredDump(address: Buffer, sport: number | undefined): Buffer {
  return dumpOf(CTA_TUPLE_ORIG, CTA_FILTER_ORIG_FLAGS, address, sport);
}

/** Lists the connections whose `tuple` has this source. */
function dumpOf(tuple: number, filter: number, address: Buffer, sport: number | undefined): Buffer {
  const protocol = [number8(CTA_PROTO_NUM, IPPROTO_TCP)];
  let flags = FILTER_IP_SRC | FILTER_PROTO_NUM;
  if (sport !== undefined) {
    protocol.push(number16(CTA_PROTO_SRC_PORT, sport));
    flags |= FILTER_PROTO_SRC_PORT;
  }
  // Flags are in the machine's order, unlike everything around them.
  const flagBytes = Buffer.alloc(4);
  flagBytes.writeUInt32LE(flags);
  return dumpRequest(
    AF_INET,
    nested(
      tuple,
      nested(CTA_TUPLE_IP, attribute(CTA_IP_V4_SRC, address)),
      nested(CTA_TUPLE_PROTO, ...protocol),
    ),
    nested(CTA_FILTER, attribute(filter, flagBytes)),
  );
}

/** A request for one connection, by its original tuple. The answer, or the refusal, has the same `sequence`. */
export function getRequest(
  { src, sport, vip, vport }: { src: string; sport: number; vip: string; vport: number },
  sequence: number,
): Buffer | undefined {
  const from = addressBytes(src);
  const to = addressBytes(vip);
  if (from === undefined || to?.length !== from.length) return undefined;
  const v4 = from.length === 4;
  return message(
    { type: CT_GET, flags: NLM_F_REQUEST, sequence, family: v4 ? AF_INET : AF_INET6 },
    nested(
      CTA_TUPLE_ORIG,
      nested(
        CTA_TUPLE_IP,
        attribute(v4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC, from),
        attribute(v4 ? CTA_IP_V4_DST : CTA_IP_V6_DST, to),
      ),
      nested(
        CTA_TUPLE_PROTO,
        number8(CTA_PROTO_NUM, IPPROTO_TCP),
        number16(CTA_PROTO_SRC_PORT, sport),
        number16(CTA_PROTO_DST_PORT, vport),
      ),
    ),
  );
}

/** Lists all connections of the family that match the attributes. */
export function dumpRequest(family: number, ...attributes: Buffer[]): Buffer {
  return message({ type: CT_GET, flags: NLM_F_REQUEST | NLM_F_DUMP, sequence: 1, family }, ...attributes);
}
