/**
 * The filter of the packet socket, in classic BPF, which keeps no state. Of the packets that a device received it passes
 *
 *     from a subscribed address: SYN, FIN, RST; payload, unless it is from a port that the address listens on
 *     to a subscribed address:   SYN with ACK, FIN, RST; while `answers`, payload; unless it is to such a port
 *
 * and of payload from the address as many bytes as can hold a request, else the headers. Which payload begins one the filter
 * cannot tell: a frame of HTTP/2 begins like any bytes. What it cannot look into (extension headers, fragments) it passes, so
 * that it is counted.
 */
import {
  ADD,
  ADD_X,
  ANCILLARY,
  AND,
  assemble,
  COPY_TO_X,
  type Instruction,
  JUMP,
  JUMP_EQUAL,
  JUMP_EQUAL_X,
  JUMP_SET,
  LOAD_BYTE,
  LOAD_BYTE_X,
  LOAD_HALF,
  LOAD_HALF_X,
  LOAD_IMMEDIATE,
  LOAD_WORD,
  LOADX_HEADER_LENGTH,
  LOADX_IMMEDIATE,
  MOST_INSTRUCTIONS,
  RETURN,
  SHIFT_RIGHT,
} from '../bpf.ts';
import { addressBytes } from '../ip-bytes.ts';
import { IPPROTO_TCP } from '../netlink/wire.ts';
import { TCP_FLAGS } from '../tap/packet.ts';

/** SKF_AD_PROTOCOL and SKF_AD_PKTTYPE (linux/filter.h), PACKET_OUTGOING and _LOOPBACK (linux/if_packet.h). */
const PROTOCOL = ANCILLARY + 0;
const PACKET_TYPE = ANCILLARY + 4;
const OUTGOING = 4;
const LOOPBACK = 5;
const ETHERTYPE = { 4: 0x0800, 6: 0x86dd } as const;
/** IPv6: hop-by-hop, routing, fragment, authentication, destination options. */
const EXTENSIONS = [0, 43, 44, 51, 60];
const FRAGMENT_OFFSET = 0x1fff;

/** Offsets in the IP headers, and, of TCP, from where its header begins. */
const AT = { 4: { protocol: 9, source: 12, length: 4 }, 6: { protocol: 6, source: 8, length: 16 } } as const;
const IPV6_HEADER = 40;
const TCP_DESTINATION = 2;
const TCP_OFFSET = 12;
const TCP_FLAGS_AT = 13;
const { syn, fin, rst, ack } = TCP_FLAGS;

/** IP and TCP headers with options, and the first bytes, which identify the protocol. */
export const HEADER_SNAPLEN = 160;
/** Ports of one address that are compared: packets of the others are copied for nothing. */
const MOST_PORTS = 16;

export interface FilterPlan {
  /** Canonical text, with the ports on which the address answers clients. */
  addresses: ReadonlyMap<string, ReadonlySet<number>>;
  /** Whether payload to the addresses passes. */
  answers: boolean;
  snaplen: number;
}

export const NOTHING = assemble([{ code: RETURN, value: 0 }]);

/** SYNs that a device received, of any address. */
export function openingsFilter(): Buffer {
  const flags = (family: 4 | 6): Instruction[] => [
    { code: LOAD_BYTE_X, value: TCP_FLAGS_AT },
    { code: JUMP_SET, value: syn, no: `no${family}` },
    { code: RETURN, value: HEADER_SNAPLEN },
    { label: `no${family}`, code: RETURN, value: 0 },
  ];
  return assemble([
    { code: LOAD_BYTE, value: PACKET_TYPE },
    { code: JUMP_EQUAL, value: OUTGOING, yes: 'drop' },
    { code: JUMP_EQUAL, value: LOOPBACK, yes: 'drop' },
    { code: LOAD_HALF, value: PROTOCOL },
    { code: JUMP_EQUAL, value: ETHERTYPE[6], yes: 'ipv6' },
    { code: JUMP_EQUAL, value: ETHERTYPE[4], no: 'drop' },
    { code: LOAD_BYTE, value: AT[4].protocol },
    { code: JUMP_EQUAL, value: IPPROTO_TCP, no: 'drop' },
    { code: LOADX_HEADER_LENGTH, value: 0 },
    ...flags(4),
    { label: 'ipv6', code: LOAD_BYTE, value: AT[6].protocol },
    { code: JUMP_EQUAL, value: IPPROTO_TCP, no: 'drop' },
    { code: LOADX_IMMEDIATE, value: IPV6_HEADER },
    ...flags(6),
    { label: 'drop', code: RETURN, value: 0 },
  ]);
}

/** `compare`: false passes every address, as do more addresses than can be compared. */
export function packetFilter(plan: FilterPlan, compare = true): Buffer {
  if (plan.addresses.size === 0) return NOTHING;
  const program = filter(plan, compare);
  return assemble(program.length > MOST_INSTRUCTIONS ? filter(plan, false) : program);
}

function filter(plan: FilterPlan, compare: boolean): Instruction[] {
  return [
    { code: LOAD_BYTE, value: PACKET_TYPE },
    { code: JUMP_EQUAL, value: OUTGOING, yes: 'drop' },
    { code: JUMP_EQUAL, value: LOOPBACK, yes: 'drop' },
    { code: LOAD_HALF, value: PROTOCOL },
    { code: JUMP_EQUAL, value: ETHERTYPE[4], yes: 'ipv4' },
    { code: JUMP_EQUAL, value: ETHERTYPE[6], yes: 'is6' },
    { label: 'drop', code: RETURN, value: 0 },
    { label: 'is6', code: JUMP, value: 0, yes: 'ipv6' },
    { label: 'ipv4', code: LOAD_BYTE, value: AT[4].protocol },
    { code: JUMP_EQUAL, value: IPPROTO_TCP, no: 'other4' },
    { code: LOAD_HALF, value: 6 },
    { code: JUMP_SET, value: FRAGMENT_OFFSET, yes: 'fragment' },
    { code: LOADX_HEADER_LENGTH, value: 0 },
    { code: JUMP, value: 0, yes: 'addresses4' },
    { label: 'other4', code: RETURN, value: 0 },
    { label: 'fragment', code: RETURN, value: HEADER_SNAPLEN },
    ...ofFamily(4, plan, compare),
    { label: 'ipv6', code: LOAD_BYTE, value: AT[6].protocol },
    { code: JUMP_EQUAL, value: IPPROTO_TCP, yes: 'tcp6' },
    ...EXTENSIONS.map((value) => ({ code: JUMP_EQUAL, value, yes: 'extended' })),
    { code: RETURN, value: 0 },
    { label: 'extended', code: RETURN, value: plan.snaplen },
    { label: 'tcp6', code: LOADX_IMMEDIATE, value: IPV6_HEADER },
    { code: JUMP, value: 0, yes: 'addresses6' },
    ...ofFamily(6, plan, compare),
  ];
}

/** X holds where the TCP header begins. */
function ofFamily(
  family: 4 | 6,
  { addresses, answers, snaplen }: FilterPlan,
  compare: boolean,
): Instruction[] {
  const { source, length } = AT[family];
  const program: Instruction[] = [];
  const first = `addresses${family}`;
  const begin = program.length;
  if (compare) {
    for (const [direction, at, portAt] of [
      ['from', source, 0],
      ['to', source + length, TCP_DESTINATION],
    ] as const) {
      let n = 0;
      for (const [text, ports] of addresses) {
        const key = addressBytes(text);
        if (key?.length !== length) continue;
        const next = `${direction}${family}.${++n}`;
        for (let i = 0; i < length; i += 4) {
          program.push(
            { code: LOAD_WORD, value: at + i },
            { code: JUMP_EQUAL, value: key.readUInt32BE(i), no: next },
          );
        }
        // An opening always passes: a port that it comes from is listened on no more.
        program.push(
          { code: LOAD_BYTE_X, value: TCP_FLAGS_AT },
          { code: JUMP_SET, value: syn, yes: `${next}.taken` },
          { code: LOAD_HALF_X, value: portAt },
          ...[...ports]
            .slice(0, MOST_PORTS)
            .map((value) => ({ code: JUMP_EQUAL, value, yes: `${next}.not` })),
          { label: `${next}.taken`, code: JUMP, value: 0, yes: `${direction}${family}` },
          { label: `${next}.not`, code: RETURN, value: 0 },
          { label: next, code: LOAD_IMMEDIATE, value: 0 },
        );
      }
    }
    program.push({ code: RETURN, value: 0 });
  } else {
    program.push({ code: JUMP, value: 0, yes: `from${family}` });
  }
  program[begin]!.label ??= first;
  program.push(...sent(family, snaplen), ...received(family, answers));
  return program;
}

function sent(family: 4 | 6, snaplen: number): Instruction[] {
  const named = (label: string) => `${label}${family}`;
  return [
    { label: named('from'), code: LOAD_BYTE_X, value: TCP_FLAGS_AT },
    { code: JUMP_SET, value: syn | fin | rst, yes: named('flagged') },
    { code: LOAD_BYTE_X, value: TCP_OFFSET },
    { code: AND, value: 0xf0 },
    { code: SHIFT_RIGHT, value: 2 },
    { code: ADD_X, value: 0 },
    { code: COPY_TO_X, value: 0 },
    // X is where the payload begins, A the end of the packet by its header: 0 where that is too long for the field.
    { code: LOAD_HALF, value: family === 4 ? 2 : 4 },
    ...(family === 4 ? [] : [{ code: ADD, value: IPV6_HEADER }]),
    { code: JUMP_EQUAL_X, value: 0, yes: named('empty') },
    { code: RETURN, value: snaplen },
    { label: named('flagged'), code: RETURN, value: HEADER_SNAPLEN },
    { label: named('empty'), code: RETURN, value: 0 },
  ];
}

function received(family: 4 | 6, answers: boolean): Instruction[] {
  const named = (label: string) => `${label}${family}`;
  return [
    { label: named('to'), code: LOAD_BYTE_X, value: TCP_FLAGS_AT },
    { code: JUMP_SET, value: fin | rst, yes: named('ends') },
    { code: JUMP_SET, value: syn, yes: named('opens') },
    { code: RETURN, value: answers ? HEADER_SNAPLEN : 0 },
    { label: named('opens'), code: JUMP_SET, value: ack, yes: named('ends') },
    { code: RETURN, value: 0 },
    { label: named('ends'), code: RETURN, value: HEADER_SNAPLEN },
  ];
}
