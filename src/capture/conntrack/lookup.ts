/** The connection of a packet, from the kernel's connection tracking: one look-up in a hash table each. */

import type { Flow } from '../../model/feed.ts';
import { CaptureError } from '../error.ts';
import { AddressSet, AddressTexts, addressBytes } from '../ip-bytes.ts';
import type { LogRecord } from '../kernel-log/record.ts';
import type { Libc } from '../netlink/libc.ts';
import { attribute, message, nested, number8, number16 } from '../netlink/message.ts';
import { dump } from '../netlink/socket.ts';
import { AF_INET, AF_INET6, IPPROTO_TCP, NLM_F_ACK, NLM_F_REQUEST } from '../netlink/wire.ts';
import {
  CT_GET,
  CTA_PROTO_DST_PORT,
  CTA_PROTO_NUM,
  CTA_PROTO_SRC_PORT,
  CTA_TUPLE_IP,
  CTA_TUPLE_ORIG,
  CTA_TUPLE_PROTO,
  CTA_TUPLE_REPLY,
  parseConntrack,
} from './message.ts';

/**
 * The connection from `src:sport` that `dst:dport` answers, with the upstream address; undefined where there is
 * none: `dst` is a Service's address, or the connection is masqueraded, or over and forgotten. Rejects with
 * `CaptureError` where the kernel does not answer such questions.
 */
export async function answeredBy(libc: Libc, record: LogRecord): Promise<Required<Flow> | undefined> {
  const { src, sport, dst, dport } = record;
  const flow = await ask(libc, CTA_TUPLE_REPLY, src, [dst, dport], [src, sport]);
  return flow?.sport === sport && flow.ip === dst && flow.port === dport ? flow : undefined;
}

/** Whether `src:sport` connected to `dst:dport`: then the packet was logged before DNAT, and its destination is no pod. */
export async function isVip(libc: Libc, record: LogRecord): Promise<boolean> {
  const { src, sport, dst, dport } = record;
  return (await ask(libc, CTA_TUPLE_ORIG, src, [src, sport], [dst, dport])) !== undefined;
}

type End = readonly [ip: string, port: number];

async function ask(
  libc: Libc,
  tuple: number,
  src: string,
  from: End,
  to: End,
): Promise<Required<Flow> | undefined> {
  const request = get(tuple, from, to);
  if (request === undefined) return undefined;
  const sources = new AddressSet();
  sources.add(src);
  const texts = new AddressTexts();
  let flow: Required<Flow> | undefined;
  try {
    await dump(
      libc,
      request,
      () => {},
      (bytes, start, end) => {
        const event = parseConntrack(bytes, start, end, sources, texts);
        if (typeof event === 'string') return;
        const { sport, vip, vport, ip, port } = event;
        flow = { src, sport, vip, vport, ip, port };
      },
    );
  } catch (error) {
    if (error instanceof CaptureError && error.code === 'ENOENT') return undefined;
    throw error;
  }
  return flow;
}

function get(tuple: number, [ip, port]: End, [toIp, toPort]: End): Buffer | undefined {
  const from = addressBytes(ip);
  const to = addressBytes(toIp);
  if (from === undefined || to === undefined || from.length !== to.length) return undefined;
  // enum ctattr_ip: source and destination of IPv4, then of IPv6.
  const first = from.length === 4 ? 1 : 3;
  const family = from.length === 4 ? AF_INET : AF_INET6;
  return message(
    { type: CT_GET, flags: NLM_F_REQUEST | NLM_F_ACK, sequence: 1, family },
    nested(
      tuple,
      nested(CTA_TUPLE_IP, attribute(first, from), attribute(first + 1, to)),
      nested(
        CTA_TUPLE_PROTO,
        number8(CTA_PROTO_NUM, IPPROTO_TCP),
        number16(CTA_PROTO_SRC_PORT, port),
        number16(CTA_PROTO_DST_PORT, toPort),
      ),
    ),
  );
}
