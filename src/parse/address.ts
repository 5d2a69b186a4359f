/**
 * Addresses as nginx and people write them → one text for each address, so that texts can be compared.
 *
 * IPv4: four decimal numbers without leading zeros (some programs read those as octal). IPv6: any text of RFC 4291
 * §2.2 → RFC 5952. An IPv4-mapped address (`::ffff:10.0.0.1`) becomes the IPv4 address: a socket connected to it
 * sends IPv4 packets, so that is what conntrack and the tap show. Zones (`fe80::1%eth0`) are not addresses of a
 * connection and are refused.
 */

export interface HostPort {
  readonly ip: string;
  readonly port: number;
}

const DOT = 0x2e;
const COLON = 0x3a;
const OPEN = 0x5b;

/** A cache, so that a repeated address costs no new string. IPv4: one address a slot; IPv6: emptied when full. */
const V4_SLOTS = 2 ** 11;
const MAX_V6 = 2048;
const v4Keys = new Float64Array(V4_SLOTS).fill(-1);
const v4Values = new Array<HostPort | undefined>(V4_SLOTS).fill(undefined);
const v6Values = new Map<string, HostPort>();

/**
 * `1.2.3.4:80` or `[2001:db8::1]:80` in `bytes[start, end)`; undefined for anything else. The same object is
 * returned for the same address as long as it is remembered.
 */
export function parseHostPort(bytes: Uint8Array, start: number, end: number): HostPort | undefined {
  if (start < end && bytes[start] === OPEN) return parseHostPort6(bytes, start, end);
  let address = 0;
  let octet = -1;
  let octets = 1;
  let at = start;
  for (; at < end; at++) {
    const byte = bytes[at]!;
    const digit = byte - 0x30;
    if (digit >= 0 && digit <= 9) {
      if (octet === 0) return undefined;
      octet = octet < 0 ? digit : octet * 10 + digit;
      if (octet > 255) return undefined;
    } else if (byte === DOT || byte === COLON) {
      if (octet < 0) return undefined;
      address = address * 256 + octet;
      octet = -1;
      if (byte === COLON) break;
      octets++;
    } else return undefined;
  }
  if (octets !== 4) return undefined;
  const port = parsePort(bytes, at + 1, end);
  if (port === 0) return undefined;
  const key = address * 65536 + port;
  const slot = Math.imul(address ^ (port << 7), 0x9e3779b1) >>> (32 - 11);
  if (v4Keys[slot] === key) return v4Values[slot];
  const value = { ip: ipv4Text(address), port };
  v4Keys[slot] = key;
  v4Values[slot] = value;
  return value;
}

/** A port from 1 to 65535 without leading zeros in `bytes[start, end)`; 0 for anything else. */
export function parsePort(bytes: Uint8Array, start: number, end: number): number {
  if (end - start < 1 || end - start > 5 || bytes[start] === 0x30) return 0;
  let port = 0;
  for (let at = start; at < end; at++) {
    const digit = bytes[at]! - 0x30;
    if (digit < 0 || digit > 9) return 0;
    port = port * 10 + digit;
  }
  return port <= 65535 ? port : 0;
}

/** The one text of an IPv4 or IPv6 address (without brackets), or undefined if `text` is no address. */
export function canonicalIp(text: string): string | undefined {
  // The longest text is 45 characters: six full groups and a dotted IPv4 address.
  if (text.length < 2 || text.length > 45) return undefined;
  if (!text.includes(':')) {
    const address = dottedValue(text);
    return address < 0 ? undefined : ipv4Text(address);
  }
  const groups = ipv6Groups(text);
  return groups && ipv6Text(groups);
}

/** `ip:port`, or `[ip]:port` for IPv6: what nginx would have written for this peer. */
export function formatHostPort(ip: string, port: number): string {
  return ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`;
}

function parseHostPort6(bytes: Uint8Array, start: number, end: number): HostPort | undefined {
  // "[", 45 characters, "]:65535"
  if (end - start > 53) return undefined;
  let text = '';
  for (let at = start; at < end; at++) text += String.fromCharCode(bytes[at]!);
  const known = v6Values.get(text);
  if (known) return known;
  const close = text.indexOf(']');
  if (close < 0 || text.charCodeAt(close + 1) !== COLON) return undefined;
  const address = text.slice(1, close);
  const ip = address.includes(':') ? canonicalIp(address) : undefined;
  const port = parsePort(bytes, start + close + 2, end);
  if (ip === undefined || port === 0) return undefined;
  if (v6Values.size >= MAX_V6) v6Values.clear();
  const value = { ip, port };
  v6Values.set(text, value);
  return value;
}

function ipv4Text(address: number): string {
  const high = Math.floor(address / 65536);
  const low = address % 65536;
  return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`;
}

/** The 32-bit value of dotted IPv4 text, or -1. */
function dottedValue(text: string): number {
  let address = 0;
  let octet = -1;
  let octets = 1;
  for (let at = 0; at < text.length; at++) {
    const digit = text.charCodeAt(at) - 0x30;
    if (digit >= 0 && digit <= 9) {
      if (octet === 0) return -1;
      octet = octet < 0 ? digit : octet * 10 + digit;
      if (octet > 255) return -1;
    } else if (text.charCodeAt(at) === DOT && octet >= 0) {
      address = address * 256 + octet;
      octet = -1;
      octets++;
    } else return -1;
  }
  return octets === 4 && octet >= 0 ? address * 256 + octet : -1;
}

/** The eight 16-bit groups of IPv6 text, or undefined. */
function ipv6Groups(text: string): number[] | undefined {
  const gap = text.indexOf('::');
  if (gap >= 0 && text.indexOf('::', gap + 1) >= 0) return undefined;
  if (gap < 0) {
    const groups = groupsOf(text, true);
    return groups?.length === 8 ? groups : undefined;
  }
  const head = gap === 0 ? [] : groupsOf(text.slice(0, gap), false);
  const tail = gap + 2 === text.length ? [] : groupsOf(text.slice(gap + 2), true);
  // "::" stands for at least one group (RFC 4291 §2.2).
  if (!head || !tail || head.length + tail.length > 7) return undefined;
  return [...head, ...new Array<number>(8 - head.length - tail.length).fill(0), ...tail];
}

function groupsOf(text: string, dottedLast: boolean): number[] | undefined {
  const groups: number[] = [];
  const words = text.split(':');
  for (const [index, word] of words.entries()) {
    if (word.includes('.')) {
      const address = dottedLast && index === words.length - 1 ? dottedValue(word) : -1;
      if (address < 0) return undefined;
      groups.push(Math.floor(address / 65536), address % 65536);
      continue;
    }
    if (word.length < 1 || word.length > 4) return undefined;
    let group = 0;
    for (let at = 0; at < word.length; at++) {
      const digit = hexDigit(word.charCodeAt(at));
      if (digit < 0) return undefined;
      group = group * 16 + digit;
    }
    groups.push(group);
  }
  return groups;
}

/** The value of a hexadecimal digit's byte, or -1. */
export function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const lower = byte | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}

/** RFC 5952 §4: no leading zeros, the longest run of two or more zero groups (the first of equals) as `::`, lower case. */
function ipv6Text(groups: readonly number[]): string {
  if (groups[5] === 0xffff && groups.slice(0, 5).every((group) => group === 0)) {
    return ipv4Text(groups[6]! * 65536 + groups[7]!);
  }
  let best = -1;
  let bestLength = 1;
  for (let from = 0; from < 8; from++) {
    let to = from;
    while (to < 8 && groups[to] === 0) to++;
    if (to - from > bestLength) {
      best = from;
      bestLength = to - from;
    }
  }
  const hex = groups.map((group) => group.toString(16));
  if (best < 0) return hex.join(':');
  return `${hex.slice(0, best).join(':')}::${hex.slice(best + bestLength).join(':')}`;
}
