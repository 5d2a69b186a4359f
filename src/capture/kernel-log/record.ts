/**
 * What the LOG target and nftables' `log` write into the kernel's log (net/netfilter/nf_log_syslog.c): a prefix of the
 * administrator's choice, then
 *
 *     IN=cni0 OUT= PHYSIN=veth1 MAC=… SRC=10.244.0.70 DST=10.244.0.64 LEN=60 … PROTO=TCP SPT=33454 DPT=10000 … SYN URGP=0
 *
 * A field is there or not by packet, hook and options of the rule; their order is the kernel's.
 */
import { canonicalIp } from '../../parse/address.ts';

/** The first packet of a TCP connection, as one rule saw it. Addresses are canonical. */
export interface LogRecord {
  src: string;
  sport: number;
  /** The packet's destination at that rule: the ClusterIP before DNAT, the backend after it. */
  dst: string;
  dport: number;
}

/** Why a message gave no record. `not-opening`: a later packet, or an answer. `cut`: it ends too early to be sure. */
export type LogSkip = 'not-a-record' | 'not-tcp' | 'not-opening' | 'cut';

/** What may stand between `OUT=` and `SRC=`. */
const DEVICE_FIELDS = ['PHYSIN=', 'PHYSOUT=', 'MAC', 'VPROTO=', 'VID=', 'TUNNEL='];

/**
 * The prefix may hold anything, even a whole record. The record proper is what follows the last ` SRC=`: the kernel puts
 * nothing after it that others choose, and the packet inside an ICMP error stands in brackets, as `[SRC=`.
 */
export function parseLogRecord(text: string): LogRecord | LogSkip {
  const start = text.lastIndexOf(' SRC=') + 1;
  if (start === 0 || !followsDevices(text, start - 1)) return 'not-a-record';
  let src: string | undefined;
  let dst: string | undefined;
  let sport = -1;
  let dport = -1;
  let tcp = false;
  let syn = false;
  let ack = false;
  for (let from = start; from < text.length; ) {
    const space = text.indexOf(' ', from);
    const token = text.slice(from, space < 0 ? text.length : space);
    // A last field without the space after it may go on in what was cut off. URGP's value is not needed.
    if (space < 0 && !token.startsWith('URGP=')) break;
    from = space + 1;
    if (token === 'SYN') syn = true;
    else if (token === 'ACK') ack = true;
    else if (token === 'INCOMPLETE') break;
    else if (token.startsWith('SRC=')) src = canonicalIp(token.slice(4));
    else if (token.startsWith('DST=')) dst = canonicalIp(token.slice(4));
    else if (token.startsWith('SPT=')) sport = portNumber(token.slice(4));
    else if (token.startsWith('DPT=')) dport = portNumber(token.slice(4));
    else if (token.startsWith('PROTO=')) {
      if (token !== 'PROTO=TCP') return 'not-tcp';
      tcp = true;
    } else if (token.startsWith('URGP=')) {
      // The flags stand before it, so none of them is missing.
      if (!tcp || src === undefined || dst === undefined || sport < 0 || dport < 0) return 'cut';
      return syn && !ack ? { src, sport, dst, dport } : 'not-opening';
    }
  }
  return 'cut';
}

/** Whether the fields before `end` are those of the packet's devices, back to `OUT=` and `IN=`. */
function followsDevices(text: string, end: number): boolean {
  for (let to = end; to > 0; ) {
    const from = text.lastIndexOf(' ', to - 1) + 1;
    if (text.startsWith('OUT=', from)) {
      const before = text.lastIndexOf(' ', from - 2) + 1;
      // The prefix may touch it: `prefixIN=cni0`.
      return from > 0 && text.slice(before, from - 1).includes('IN=');
    }
    if (!DEVICE_FIELDS.some((field) => text.startsWith(field, from))) return false;
    to = from - 1;
  }
  return false;
}

function portNumber(text: string): number {
  if (text.length === 0 || text.length > 5) return -1;
  let value = 0;
  for (let i = 0; i < text.length; i++) {
    const digit = text.charCodeAt(i) - 48;
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
  }
  return value <= 65_535 ? value : -1;
}
