/**
 * The part of the table that logs the beginnings of answers, for addresses subscribed with `answers`. As text:
 *
 *     set answered4 { type ipv4_addr; flags timeout; timeout 30s }
 *     set answered6 { type ipv6_addr; flags timeout; timeout 30s }
 *     set awaiting { typeof ct id . tcp ackseq; size 131072; flags dynamic,timeout; timeout 1d }
 *     chain forward { type filter hook forward priority 90; policy accept; ip daddr @answered4 goto answer … }
 *     chain output { type filter hook output priority 90; policy accept; ip daddr @answered4 goto answer … }
 *     chain local { …; meta iiftype != loopback ip daddr @answered4 goto answer … }
 *     chain tap { ip saddr @answered4 jump await …; … }
 *     chain await {
 *       HEAD update @awaiting { ct id . tcp ackseq }
 *       HEAD ct id . tcp ackseq != @awaiting log prefix "n" group 9797 snaplen 60
 *       meta l4proto tcp ct direction original @ih,0,8 0-255 ct id @bodies update @awaiting { ct id . tcp ackseq }
 *     }
 *     chain answer {
 *       meta l4proto tcp ct direction reply @ih,0,8 0-255 ct id . tcp sequence @awaiting
 *         log prefix "a" group 9797 snaplen 60 delete @awaiting { ct id . tcp sequence }
 *     }
 *
 * A request adds its connection to `awaiting`, with the number that it acknowledges: the answer begins with this number,
 * as nginx sends a request only when it has read the answer before. The packet that does is logged and removes it, so an
 * answer of any length costs one message. A body's packets add the connection again: another request may begin in one.
 *
 * Answers are logged in the forward and input hooks, where the kernel gives packets a time (nfnetlink_log.c: no later hook
 * has one), and in the output hook, without a time, for backends in the node's network namespace. Each packet passes one.
 *
 * No two requests have the same key. With the connection alone it would recur, and an element that was removed stays in
 * its bucket until the kernel collects it (nft_set_hash.c): behind sixteen of them, adding one can fail. A full set takes
 * no further connection. In both cases the packet with the prefix `n` shows that the answer will not be logged.
 */
import { text } from '../netlink/message.ts';
import {
  beginsRequest,
  ct,
  DIRECTION_ORIGINAL,
  DIRECTION_REPLY,
  exchangeKey,
  hasPayload,
  log,
  lookup,
  matchAddress,
  NFT_CT_ID,
  NFT_GOTO,
  NFT_JUMP,
  notFromLoopback,
  type PacketLog,
  remove,
  tcpOf,
  update,
  verdict,
} from './nft-expression.ts';
import {
  baseChain,
  ELEMENT_TIMEOUT_MS,
  FAMILIES,
  HEADER_BYTES,
  HOOK,
  type Message,
  newChain,
  newRule,
  newSet,
  TYPE_INTEGER,
  TYPE_IP6ADDR,
  TYPE_IPADDR,
  TYPE_MARK,
} from './nft-message.ts';

/** First byte of the log prefix of a backend's packets, and of requests whose answer will not be logged. */
export const ANSWER_PREFIX = 'a';
export const UNANSWERABLE_PREFIX = 'n';
export const ANSWERED_SETS = { 4: 'answered4', 6: 'answered6' } as const;

/** Limit of requests that wait for their answers, and how long they do: longer than any `proxy_read_timeout`. */
const AWAITING_LIMIT = 131_072;
const AWAITING_TIMEOUT_MS = 86_400_000;
/** nft joins the types of a key's parts, six bits each. */
const TYPE_EXCHANGE = (TYPE_MARK << 6) | TYPE_INTEGER;
/** Bytes of the TCP header (RFC 9293, section 3.1). */
const SEQUENCE_AT = 4;
const ACKNOWLEDGED_AT = 8;

/** In every table: addresses are listed in them whatever it logs. */
export const answeredSets: readonly Message[] = [
  newSet(ANSWERED_SETS[4], TYPE_IPADDR, 4, 5, ELEMENT_TIMEOUT_MS),
  newSet(ANSWERED_SETS[6], TYPE_IP6ADDR, 16, 6, ELEMENT_TIMEOUT_MS),
];

export function answerMessages(tap: PacketLog): Message[] {
  const headers = { ...tap, snaplen: HEADER_BYTES[6] };
  return [
    newSet('awaiting', TYPE_EXCHANGE, 8, 7, AWAITING_TIMEOUT_MS, AWAITING_LIMIT),
    baseChain('forward', HOOK.forward),
    baseChain('output', HOOK.output),
    newChain('await'),
    newChain('answer'),
    ...([4, 6] as const).flatMap((family) => {
      const { protocol, sourceAt, length } = FAMILIES[family];
      const set = ANSWERED_SETS[family];
      const from = matchAddress(set, protocol, sourceAt, length);
      const to = matchAddress(set, protocol, sourceAt + length, length);
      const awaits = [...from, verdict(NFT_JUMP, text(2, 'await'))];
      const answers = [...to, verdict(NFT_GOTO, text(2, 'answer'))];
      return [
        newRule('tap', ...awaits),
        newRule('local', ...notFromLoopback(), ...awaits),
        newRule('local', ...notFromLoopback(), ...answers),
        newRule('forward', ...answers),
        newRule('output', ...answers),
      ];
    }),
    newRule('await', ...beginsRequest, ...exchangeKey(ACKNOWLEDGED_AT), update('awaiting')),
    newRule(
      'await',
      ...beginsRequest,
      ...exchangeKey(ACKNOWLEDGED_AT),
      lookup('awaiting', true),
      log(headers, UNANSWERABLE_PREFIX),
    ),
    newRule(
      'await',
      ...tcpOf(DIRECTION_ORIGINAL),
      ...hasPayload,
      ct(NFT_CT_ID),
      lookup('bodies'),
      ...exchangeKey(ACKNOWLEDGED_AT),
      update('awaiting'),
    ),
    newRule(
      'answer',
      ...tcpOf(DIRECTION_REPLY),
      ...hasPayload,
      ...exchangeKey(SEQUENCE_AT),
      lookup('awaiting'),
      log(headers, ANSWER_PREFIX),
      remove('awaiting'),
    ),
  ];
}
