import { readdirSync } from 'node:fs';
import type { Libc } from '../netlink/libc.ts';

/** The cache is emptied at this number of devices: a node has fewer at a time, but pods come and go. */
const CACHE_LIMIT = 4_096;
/** A device may become a bridge's port, or a bridge get its first one, later. */
const CACHED_MS = 60_000;
const DEVICES = '/sys/class/net';

/**
 * Which devices a packet of a pod comes in by first. The kernel hands a packet on from a device to those above it, as from the
 * host's side of a pod's veth to a bridge, where it may be translated already.
 */
export class Devices {
  readonly #libc: Pick<Libc, 'deviceName'>;
  readonly #list: (path: string) => string[];
  readonly #stacked = new Map<number, boolean>();
  #until = 0;

  constructor(libc: Pick<Libc, 'deviceName'>, list: (path: string) => string[] = readdirSync) {
    this.#libc = libc;
    this.#list = list;
  }

  /** Whether packets reach the device through another one, which has copied them before. `now`: ms since any moment. */
  isStacked(index: number, now: number): boolean {
    if (now > this.#until || this.#stacked.size >= CACHE_LIMIT) {
      this.#stacked.clear();
      this.#until = now + CACHED_MS;
    }
    let stacked = this.#stacked.get(index);
    if (stacked === undefined) {
      stacked = this.#find(index);
      this.#stacked.set(index, stacked);
    }
    return stacked;
  }

  /** One that has gone, or cannot be looked at, counts as first: a copy too many is a repetition of a packet. */
  #find(index: number): boolean {
    const name = this.#libc.deviceName(index);
    if (name === undefined) return false;
    try {
      // The kernel links a device to those below it (netdev_adjacent_sysfs_add).
      return this.#list(`${DEVICES}/${name}`).some((entry) => entry.startsWith('lower_'));
    } catch {
      return false;
    }
  }
}
