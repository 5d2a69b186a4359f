import { networkInterfaces } from 'node:os';
import { canonicalIp } from '../parse/address.ts';

/** How long the list is used (ms). */
const LISTED_MS = 10_000;

/** Whether an address is one of this network namespace; `now`: ms since the epoch. */
export function localAddresses(
  list: () => Iterable<string> = () =>
    Object.values(networkInterfaces()).flatMap((each) => each?.map(({ address }) => address) ?? []),
): (ip: string, now: number) => boolean {
  let known = new Set<string | undefined>();
  let listedAt = Number.NEGATIVE_INFINITY;
  return (ip, now) => {
    if (Math.abs(now - listedAt) > LISTED_MS) {
      known = new Set([...list()].map((address) => canonicalIp(address)));
      listedAt = now;
    }
    return known.has(ip);
  };
}

/** Whether a server that listens on `host` is reached at an address; `isLocal`: whether it is one of this namespace. */
export function reachedAt(
  host: string,
  isLocal: (ip: string, now: number) => boolean,
): (ip: string, now: number) => boolean {
  if (host === '::') return isLocal;
  if (host === '0.0.0.0') return (ip, now) => !ip.includes(':') && isLocal(ip, now);
  const only = canonicalIp(host);
  return (ip) => ip === only;
}
