/**
 * The nftables table that logs the first packet of each request (linux/netfilter/nf_tables.h). As text:
 *
 *     table inet realpod {
 *       flags owner
 *       set clients4 { type ipv4_addr; flags timeout; timeout 30s }
 *       set clients6 { type ipv6_addr; flags timeout; timeout 30s }
 *       set bodies { typeof ct id; size 131072; flags dynamic,timeout; timeout 1m }
 *       set opaque { typeof ct id; size 131072; flags dynamic,timeout; timeout 1h }
 *       set http2 { typeof ct id; size 131072; flags dynamic,timeout; timeout 1d }
 *       (sets, chains and rules for answers: nft-answers.ts)
 *       chain tap {
 *         type filter hook postrouting priority 90; policy accept;
 *         ip saddr @clients4 goto request
 *         ip6 saddr @clients6 goto request
 *       }
 *       chain local {
 *         type filter hook input priority 90; policy accept;
 *         meta iiftype != loopback ip saddr @clients4 goto request
 *         meta iiftype != loopback ip6 saddr @clients6 goto request
 *       }
 *       chain request {
 *         meta l4proto tcp tcp flags & (syn | ack) == syn delete @http2 { ct id } delete @opaque { ct id }
 *         HEAD @ih,0,32 == "PRI " ct id != @bodies update @http2 { ct id }
 *         meta l4proto tcp ct direction original @ih,0,8 0-255 ct id @http2 update @http2 { ct id }
 *           log prefix "2" group 9797 snaplen 1536 queue-threshold 1 return
 *         HEAD @ih,0,32 != "GET " @ih,0,32 != "HEAD" @ih,0,32 != "PRI " update @bodies { ct id }
 *         HEAD log group 9797 snaplen 1024 queue-threshold 1 return
 *         meta l4proto tcp ct direction original @ih,0,8 0-255 ct id @bodies update @bodies { ct id }
 *           log group 9797 snaplen 60 queue-threshold 1 return
 *         meta l4proto tcp ct direction original @ih,0,8 0-255 ct id != @opaque
 *           log group 9797 snaplen 128 queue-threshold 1 update @opaque { ct id }
 *         meta l4proto tcp tcp flags & (syn | ack) == syn log prefix "realpod: " level info
 *       }
 *     }
 *
 * where HEAD is `meta l4proto tcp ct direction original @ih,0,8 45-95 @ih,8,8 32-95 @ih,16,8 32-95`.
 *
 * With `headersOnly`, these rules replace the one for requests, and IPv6 has the same with a snaplen of 60: up to the end of
 * a TCP header without options, which is before the payload's first byte.
 *
 *       chain tap {
 *         ip saddr @clients4 meta l4proto tcp ct direction original tcp flags & (fin | syn | rst | psh) != 0
 *           log group 9797 snaplen 40 queue-threshold 1
 *         ip daddr @clients4 meta l4proto tcp ct direction reply tcp flags & (fin | rst | psh) != 0
 *           log prefix "a" group 9797 snaplen 40 queue-threshold 1
 *       }
 *
 * and the same in `local`, each after `meta iiftype != loopback`.
 *
 * A packet passes postrouting, or, if its destination is an address of the node (a backend with hostNetwork), input. The
 * tap is in both hooks. A packet from the node to itself passes both, by the loopback interface, and is logged in
 * postrouting only.
 *
 * The helper creates the table on a socket that stays open: no other process can change an owned table, and the kernel
 * removes it when that socket closes, however this process ends. Priority 90 is after DNAT and before SNAT
 * (100), so a packet has nginx's address and the pod's. `@ih` needs Linux 5.16, an owner 5.12: a kernel that can run the
 * tap can own the table.
 *
 * The three ranges of HEAD match every packet that can begin a request: nginx sends methods of A-Z, `_` and `-` only, of any
 * length, then a space and the target. Unknown methods must match too: with an unseen request, another one with the same
 * id could give its line a wrong pod.
 *
 * A request can also begin within a packet, after the rest of the previous body, if the backend answered before it had read
 * that body. So the headers of all further packets are logged for connections with bodies; the acknowledgement number
 * shows which of them came after the beginning of an answer. A connection is followed for a minute after its last packet.
 * GET and HEAD are excluded, as WebSockets begin with GET.
 *
 * Of an HTTP/2 connection, which begins with `PRI`, every packet with payload is logged: the beginning of its frames can be
 * followed only from one to the next. What a client writes into a body may look like such a beginning, but then its
 * connection has a body. The kernel may give the id of a connection to a later one, so a SYN takes it out of the sets. This set
 * forgets a connection that is idle for a day; the prefix, which its packets then lack, shows it.
 *
 * One packet is logged of a connection with any other content (TLS, FastCGI, a tunnel, a connection older than the table):
 * its requests cannot be read, and the join needs a record that they exist.
 */
import { addressBytes } from '../ip-bytes.ts';
import { attribute, nested, number32, text } from '../netlink/message.ts';
import { NLM_F_CREATE } from '../netlink/wire.ts';
import { ANSWER_PREFIX, ANSWERED_SETS, answeredSets, answerMessages } from './nft-answers.ts';
import {
  beginsRequest,
  ct,
  DIRECTION_ORIGINAL,
  DIRECTION_REPLY,
  differs,
  equals,
  expression,
  HTTP2_PREFIX,
  hasPayload,
  LIST_ELEMENT,
  log,
  lookup,
  masked,
  matchAddress,
  meta,
  NFT_CT_ID,
  NFT_GOTO,
  NFT_META_L4PROTO,
  NFT_PAYLOAD_INNER_HEADER,
  NFT_PAYLOAD_TRANSPORT_HEADER,
  NFT_RETURN,
  notFromLoopback,
  type PacketLog,
  payload,
  remove,
  tcpOf,
  update,
  verdict,
} from './nft-expression.ts';
import {
  baseChain,
  DELSETELEM,
  ELEMENT_TIMEOUT_MS,
  FAMILIES,
  HEADER_BYTES,
  HOOK,
  inTable,
  type Message,
  NEWSETELEM,
  newChain,
  newRule,
  newSet,
  newTable,
  TYPE_IP6ADDR,
  TYPE_IPADDR,
  TYPE_MARK,
} from './nft-message.ts';
import { TCP_FLAGS } from './packet.ts';

const TCP_FLAGS_AT = 13;
const { fin: TCP_FIN, syn: TCP_SYN, rst: TCP_RST, psh: TCP_PSH, ack: TCP_ACK } = TCP_FLAGS;
/** A SYN without ACK, retransmissions included. */
const beginsConnection = [
  meta(NFT_META_L4PROTO),
  equals(6),
  payload(NFT_PAYLOAD_TRANSPORT_HEADER, TCP_FLAGS_AT, 1),
  masked(TCP_SYN | TCP_ACK),
  equals(TCP_SYN),
];
const LOG_PREFIX = 'realpod: ';
const LOG_LEVEL_INFO = 6;
/** Limit of connections whose bodies are followed, and for how long after their last packet. Beyond it: not followed. */
const BODIES_LIMIT = 131_072;
const BODIES_TIMEOUT_MS = 60_000;

/**
 * Copied more of a packet on an HTTP/2 connection. nginx sends the piece of a body that came with the client's head, by default
 * up to 1 KiB with it, in a frame of its own: the next frame's beginning should be among the copied bytes.
 */
export const HTTP2_MORE_BYTES = 512;
/** Limit of HTTP/2 connections. Beyond it: as other content. Longer than any `keepalive_timeout`. */
const HTTP2_LIMIT = 131_072;
const HTTP2_TIMEOUT_MS = 86_400_000;

/** Connections with other content than requests and known bodies: one packet of each is logged an hour. */
const OPAQUE_LIMIT = 131_072;
const OPAQUE_TIMEOUT_MS = 3_600_000;
/** IP and TCP headers with options, and the first bytes, which identify the protocol. */
const OPAQUE_SNAPLEN = 128;

const ELEMENTS_PER_MESSAGE = 1000;

/** What the table logs: at least one of the two. */
export interface TableRules {
  /** Packets of requests, to the tap. */
  tap: TapRule | undefined;
  /** The first packet of each connection, to the kernel log, as iptables' LOG would. */
  logOpenings: boolean;
}

export interface TapRule extends PacketLog {
  /** TCP headers of both directions and nothing else; `snaplen` is ignored. */
  headersOnly: boolean;
}

export function tableMessages({ tap, logOpenings }: TableRules): Message[] {
  return [
    newTable,
    newSet('clients4', TYPE_IPADDR, 4, 1, ELEMENT_TIMEOUT_MS),
    newSet('clients6', TYPE_IP6ADDR, 16, 2, ELEMENT_TIMEOUT_MS),
    newSet('bodies', TYPE_MARK, 4, 3, BODIES_TIMEOUT_MS, BODIES_LIMIT),
    newSet('opaque', TYPE_MARK, 4, 4, OPAQUE_TIMEOUT_MS, OPAQUE_LIMIT),
    newSet('http2', TYPE_MARK, 4, 8, HTTP2_TIMEOUT_MS, HTTP2_LIMIT),
    ...answeredSets,
    baseChain('tap', HOOK.postrouting),
    baseChain('local', HOOK.input),
    newChain('request'),
    ...(tap && !tap.headersOnly ? answerMessages(tap) : []),
    ...(tap?.headersOnly ? headerRules(tap) : []),
    ...Object.values(FAMILIES).flatMap(({ set, protocol, sourceAt, length }) => {
      const jump = [...matchAddress(set, protocol, sourceAt, length), verdict(NFT_GOTO, text(2, 'request'))];
      return [newRule('tap', ...jump), newRule('local', ...notFromLoopback(), ...jump)];
    }),
    ...(tap && !tap.headersOnly
      ? [...http2Rules(tap), bodiesRule, requestRule(tap), withinBodyRule(tap), opaqueRule(tap)]
      : []),
    ...(logOpenings ? [openingRule] : []),
  ];
}

function http2Rules(tap: TapRule): Message[] {
  const id = ct(NFT_CT_ID);
  return [
    newRule('request', ...beginsConnection, id, remove('http2'), remove('opaque')),
    newRule(
      'request',
      ...beginsRequest,
      payload(NFT_PAYLOAD_INNER_HEADER, 0, 4),
      equals(Buffer.from('PRI ', 'latin1')),
      id,
      lookup('bodies', true),
      update('http2'),
    ),
    newRule(
      'request',
      ...tcpOf(DIRECTION_ORIGINAL),
      ...hasPayload,
      id,
      lookup('http2'),
      update('http2'),
      log({ ...tap, snaplen: tap.snaplen + HTTP2_MORE_BYTES }, HTTP2_PREFIX),
      verdict(NFT_RETURN),
    ),
  ];
}

/** The request may have a body. */
const bodiesRule = newRule(
  'request',
  ...beginsRequest,
  payload(NFT_PAYLOAD_INNER_HEADER, 0, 4),
  ...['GET ', 'HEAD', 'PRI '].map((word) => differs(Buffer.from(word, 'latin1'))),
  ct(NFT_CT_ID),
  update('bodies'),
);

function headerRules(tap: TapRule): Message[] {
  const messages: Message[] = [];
  for (const family of [4, 6] as const) {
    const { set, protocol, sourceAt, length } = FAMILIES[family];
    const copied = { ...tap, snaplen: HEADER_BYTES[family] };
    const requests = [
      ...matchAddress(set, protocol, sourceAt, length),
      ...flagged(TCP_FIN | TCP_SYN | TCP_RST | TCP_PSH, DIRECTION_ORIGINAL),
      log(copied),
    ];
    const answers = [
      ...matchAddress(set, protocol, sourceAt + length, length),
      ...flagged(TCP_FIN | TCP_RST | TCP_PSH, DIRECTION_REPLY),
      log(copied, ANSWER_PREFIX),
    ];
    for (const rule of [requests, answers])
      messages.push(newRule('tap', ...rule), newRule('local', ...notFromLoopback(), ...rule));
  }
  return messages;
}

/** TCP segments of this direction with one of these flags. */
function flagged(flags: number, direction: number): Buffer[] {
  return [
    ...tcpOf(direction),
    payload(NFT_PAYLOAD_TRANSPORT_HEADER, TCP_FLAGS_AT, 1),
    masked(flags),
    differs(Buffer.of(0)),
  ];
}

function requestRule(tap: TapRule): Message {
  return newRule('request', ...beginsRequest, log(tap), verdict(NFT_RETURN));
}

function withinBodyRule(tap: TapRule): Message {
  return newRule(
    'request',
    ...tcpOf(DIRECTION_ORIGINAL),
    ...hasPayload,
    ct(NFT_CT_ID),
    lookup('bodies'),
    update('bodies'),
    log({ ...tap, snaplen: HEADER_BYTES[6] }),
    verdict(NFT_RETURN),
  );
}

/** The log comes before the update: with a full set every such packet is logged, which costs CPU and loses nothing. */
function opaqueRule(tap: TapRule): Message {
  return newRule(
    'request',
    ...tcpOf(DIRECTION_ORIGINAL),
    ...hasPayload,
    ct(NFT_CT_ID),
    lookup('opaque', true),
    log({ ...tap, snaplen: Math.min(tap.snaplen, OPAQUE_SNAPLEN) }),
    update('opaque'),
  );
}

const openingRule = newRule(
  'request',
  ...beginsConnection,
  expression('log', text(2, LOG_PREFIX), number32(5, LOG_LEVEL_INFO)),
);

/**
 * Replaces the contents of the sets of addresses. `answered`: those whose answers are logged, too. `again`: the connections
 * with other content are forgotten, so that one packet of each is logged again.
 */
export function elementMessages(
  addresses: readonly string[],
  answered: readonly string[],
  again: boolean,
): Message[] {
  return [
    ...(again ? [inTable(DELSETELEM, 0, text(2, 'opaque'))] : []),
    ...fill({ 4: FAMILIES[4].set, 6: FAMILIES[6].set }, addresses),
    ...fill(ANSWERED_SETS, answered),
  ];
}

function fill(sets: Record<4 | 6, string>, addresses: readonly string[]): Message[] {
  const keys = addresses.map(addressBytes).filter((bytes) => bytes !== undefined);
  const messages: Message[] = [];
  for (const family of [4, 6] as const) {
    const set = sets[family];
    const ofFamily = keys.filter((key) => key.length === FAMILIES[family].length);
    messages.push(inTable(DELSETELEM, 0, text(2, set)));
    for (let i = 0; i < ofFamily.length; i += ELEMENTS_PER_MESSAGE) {
      const elements = ofFamily
        .slice(i, i + ELEMENTS_PER_MESSAGE)
        .map((key) => nested(LIST_ELEMENT, nested(1, attribute(1, key))));
      messages.push(inTable(NEWSETELEM, NLM_F_CREATE, text(2, set), nested(3, ...elements)));
    }
  }
  return messages;
}
