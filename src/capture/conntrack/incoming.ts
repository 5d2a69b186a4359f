/** ctnetlink messages of connections to an address, seen from there: the reply tuple comes first. */

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
import {
  type ConntrackEvent,
  type ConntrackSkip,
  CT_DELETE,
  CT_NEW,
  CTA_ID,
  CTA_PROTOINFO,
  CTA_STATUS,
  CTA_TIMESTAMP_EVENT,
  CTA_TUPLE_ORIG,
  CTA_TUPLE_REPLY,
  CTA_ZONE,
  IPS_ASSURED,
  parseTcpState,
  parseTuple,
  tuple,
} from './message.ts';

/**
 * Parses the message at `start`..`end` (nlmsghdr included) of a connection to one of `targets`. The event is the connection as
 * a server sees it, so that a `FlowTable` has one key for it as long as it lives: `src` is the target and `vport` its port,
 * `vip` and `sport` are what it sees as its peer, `ip` and `port` who connected.
 */
export function parseIncoming(
  bytes: Buffer,
  start: number,
  end: number,
  targets: AddressSet,
  texts: AddressTexts,
): ConntrackEvent | ConntrackSkip {
  if (end - start < NETFILTER_HEADER) return 'malformed';
  const messageType = u16(bytes, start + 4);
  if (messageType !== CT_NEW && messageType !== CT_DELETE) return 'not-an-event';
  const isNew = (u16(bytes, start + 6) & (NLM_F_CREATE | NLM_F_EXCL)) !== 0;
  const type = messageType === CT_DELETE ? 'destroy' : isNew ? 'new' : 'update';
  const event: ConntrackEvent = { ...NOTHING, type };
  let original = false;
  let reply = false;
  for (let at = start + NETFILTER_HEADER; at < end; ) {
    const stop = attributeEnd(bytes, at, end);
    if (stop < 0) return 'malformed';
    const value = at + ATTRIBUTE_HEADER;
    switch (attributeType(bytes, at)) {
      case CTA_TUPLE_ORIG:
        if (!parseTuple(bytes, value, stop) || tuple.length === 0) return 'malformed';
        if (tuple.protocol !== IPPROTO_TCP) return 'not-tcp';
        if (tuple.sport < 0) return 'malformed';
        event.ip = texts.text(bytes, tuple.srcAt, tuple.length);
        event.port = tuple.sport;
        event.zone = tuple.zone;
        original = true;
        break;
      case CTA_TUPLE_REPLY: {
        if (!parseTuple(bytes, value, stop) || tuple.length === 0) return 'malformed';
        const target = targets.match(bytes, tuple.srcAt, tuple.length);
        if (target === undefined) return 'other-source';
        if (tuple.protocol !== IPPROTO_TCP || tuple.sport < 0 || tuple.dport < 0) return 'malformed';
        event.src = target;
        event.vport = tuple.sport;
        event.vip = texts.text(bytes, tuple.dstAt, tuple.length);
        event.sport = tuple.dport;
        reply = true;
        break;
      }
      case CTA_STATUS:
        if (stop - value === 4) event.assured = (be32(bytes, value) & IPS_ASSURED) !== 0;
        break;
      case CTA_ID:
        if (stop - value === 4) event.id = be32(bytes, value);
        break;
      case CTA_ZONE:
        if (stop - value === 2) event.zone = be16(bytes, value);
        break;
      case CTA_PROTOINFO:
        event.tcpState = parseTcpState(bytes, value, stop);
        break;
      case CTA_TIMESTAMP_EVENT:
        if (stop - value === 8) event.eventMs = (be32(bytes, value) * 2 ** 32 + be32(bytes, value + 4)) / 1e6;
        break;
    }
    at += align4(stop - at);
  }
  return original && reply ? event : 'malformed';
}

const NOTHING: ConntrackEvent = {
  type: 'update',
  id: 0,
  zone: 0,
  src: '',
  sport: 0,
  vip: '',
  vport: 0,
  ip: '',
  port: 0,
  tcpState: undefined,
  assured: undefined,
  eventMs: undefined,
};
