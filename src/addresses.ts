import { networkInterfaces } from 'node:os';
import { canonicalIp } from './parse/address.ts';

/**
 * nginx's own addresses, as far as a neighbour in its network namespace can know them: those of all interfaces but
 * loopback and link-local ones. On the node's own network these are the node's.
 */
export function ownAddresses(): string[] {
  const addresses = new Set<string>();
  for (const list of Object.values(networkInterfaces())) {
    for (const { address, internal, scopeid } of list ?? []) {
      if (internal || (scopeid !== undefined && scopeid !== 0)) continue;
      const canonical = canonicalIp(address);
      if (canonical !== undefined) addresses.add(canonical);
    }
  }
  return [...addresses];
}
