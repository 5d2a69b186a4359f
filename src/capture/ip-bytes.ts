/** Converts IP addresses: the kernel's bytes and canonical text (dotted IPv4; IPv6 as in RFC 5952, without brackets). */

import { canonicalIp } from '../parse/address.ts';
import { be16 } from './netlink/wire.ts';

/** The cache of texts is emptied at this number of entries. A node connects to far fewer addresses. */
const CACHE_LIMIT = 8192;

/** Text of the address of `length` bytes (4 or 16) at `at`. */
export function addressText(bytes: Uint8Array, at: number, length: 4 | 16): string {
  if (length === 4) return `${bytes[at]}.${bytes[at + 1]}.${bytes[at + 2]}.${bytes[at + 3]}`;
  const groups: string[] = [];
  for (let i = at; i < at + 16; i += 2) groups.push(be16(bytes, i).toString(16));
  return canonicalIp(groups.join(':'))!;
}

/** The 4 or 16 bytes of an address in any valid text, or undefined. */
export function addressBytes(text: string): Buffer | undefined {
  const ip = canonicalIp(text);
  if (ip === undefined) return undefined;
  if (!ip.includes(':')) return Buffer.from(ip.split('.').map(Number));
  const [head, tail] = ip.split('::').map((half) => (half === '' ? [] : half.split(':')));
  const after = tail ?? [];
  const bytes = Buffer.alloc(16);
  const write = (group: string, at: number) => bytes.writeUInt16BE(Number.parseInt(group, 16), at);
  for (const [i, group] of head!.entries()) write(group, i * 2);
  for (const [i, group] of after.entries()) write(group, 16 - (after.length - i) * 2);
  return bytes;
}

/** A cache of the texts of addresses. */
export class AddressTexts {
  readonly #v4 = new Map<number, string>();
  readonly #v6 = new Map<string, string>();

  text(bytes: Buffer, at: number, length: 4 | 16): string {
    return length === 4
      ? cached(this.#v4, ipv4Key(bytes, at), bytes, at, 4)
      : cached(this.#v6, ipv6Key(bytes, at), bytes, at, 16);
  }
}

function cached<K>(cache: Map<K, string>, key: K, bytes: Buffer, at: number, length: 4 | 16): string {
  let text = cache.get(key);
  if (text === undefined) {
    if (cache.size >= CACHE_LIMIT) cache.clear();
    text = addressText(bytes, at, length);
    cache.set(key, text);
  }
  return text;
}

/** A set of addresses with look-ups by the kernel's bytes, so that no text is made of an address outside it. */
export class AddressSet {
  readonly #v4 = new Map<number, string>();
  readonly #v6 = new Map<string, string>();

  get size(): number {
    return this.#v4.size + this.#v6.size;
  }

  /** False if `text` is not an address. */
  add(text: string): boolean {
    const bytes = addressBytes(text);
    if (bytes === undefined) return false;
    if (bytes.length === 4) this.#v4.set(ipv4Key(bytes, 0), addressText(bytes, 0, 4));
    else this.#v6.set(ipv6Key(bytes, 0), addressText(bytes, 0, 16));
    return true;
  }

  delete(text: string): void {
    const bytes = addressBytes(text);
    if (bytes === undefined) return;
    if (bytes.length === 4) this.#v4.delete(ipv4Key(bytes, 0));
    else this.#v6.delete(ipv6Key(bytes, 0));
  }

  /** The text of the address of `length` bytes at `at` if it is in the set. */
  match(bytes: Buffer, at: number, length: 4 | 16): string | undefined {
    return length === 4 ? this.#v4.get(ipv4Key(bytes, at)) : this.#v6.get(ipv6Key(bytes, at));
  }

  has(text: string): boolean {
    const bytes = addressBytes(text);
    return bytes !== undefined && this.match(bytes, 0, bytes.length as 4 | 16) !== undefined;
  }

  texts(): string[] {
    return [...this.#v4.values(), ...this.#v6.values()];
  }
}

/** Signed: V8 holds such a number without an object. */
function ipv4Key(bytes: Buffer, at: number): number {
  return (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
}

function ipv6Key(bytes: Buffer, at: number): string {
  return bytes.toString('latin1', at, at + 16);
}
