/** The addresses of other nodes, from this node's routes. */

import { readFileSync } from 'node:fs';
import { addressText } from '../ip-bytes.ts';

const MOST_NODES = 5_000;
const ROUTE_UP = 0x1;

/**
 * The gateways of all routes but the default ones. The routes to the pods of another node lead to its address, or to that of its
 * tunnel, and from that address comes what the node translates (seen with kindnet, flannel and Calico). An address
 * that is none of a node's does no harm: it only says that a connection from there may have been translated before.
 */
export function otherNodes(): string[] {
  const found = new Set<string>();
  for (const address of [...gateways4(read('/proc/net/route')), ...gateways6(read('/proc/net/ipv6_route'))]) {
    if (found.size >= MOST_NODES) break;
    found.add(address);
  }
  return [...found].sort();
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

/** `/proc/net/route`: interface, destination, gateway, flags, …; the addresses as numbers in the machine's (little-endian) order. */
export function gateways4(text: string): string[] {
  return text.split('\n').flatMap((line) => {
    const [, destination, gateway, flags] = line.split('\t');
    if (gateway === undefined || !/^[0-9A-F]{8}$/.test(gateway) || gateway === '00000000') return [];
    if (destination === '00000000' || (Number.parseInt(flags ?? '', 16) & ROUTE_UP) === 0) return [];
    return [addressText(Buffer.from(gateway, 'hex').reverse(), 0, 4)];
  });
}

/** `/proc/net/ipv6_route`: destination, its length, source, its length, next hop, …; all in hexadecimal. */
export function gateways6(text: string): string[] {
  return text.split('\n').flatMap((line) => {
    const [, length, , , gateway] = line.trim().split(/ +/);
    if (gateway === undefined || !/^[0-9a-f]{32}$/.test(gateway) || length === '00') return [];
    if (/^0+$/.test(gateway) || gateway.startsWith('fe8')) return [];
    return [addressText(Buffer.from(gateway, 'hex'), 0, 16)];
  });
}
