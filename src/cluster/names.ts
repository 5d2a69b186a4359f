import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from '../log.ts';
import type { PodName } from '../model/outcome.ts';
import type { ApiServer } from './api.ts';
import { Directory, type NameObservation } from './directory.ts';
import { newStats, type Pace, type ReflectorStats, reflect } from './reflector.ts';

/** The two kinds that the helper watches, as kube-proxy does on every node. k8s/helper/rbac.yaml grants exactly these. */
const SLICES = '/apis/discovery.k8s.io/v1/endpointslices';
const SERVICES = '/api/v1/services';

export interface NamesOptions {
  api: ApiServer;
  /** Called for each change of an address's name, with the time it was learned. */
  onName(record: NameObservation): void;
  log: Log;
  pace?: Pace;
}

export interface Names {
  /** Begins to watch in the background; names come when they come. */
  start(): void;
  /** Ends the watches; resolves when none is left. */
  stop(): Promise<void>;
  /** The name of `ip` now, or at `at` (ms since the epoch, remembered for 10 minutes after it ended). */
  lookup(ip: string, at?: number): PodName | undefined;
  podsAt(ip: string): PodName[];
  /** Every name of `ip` that holds or is remembered, oldest first. */
  history(ip: string): Iterable<NameObservation>;
  /** Both kinds were listed whole at least once. */
  readonly synced: boolean;
  readonly stats: NamesStats;
}

export interface NamesStats {
  slices: ReflectorStats;
  services: ReflectorStats;
  /** Addresses known or remembered. */
  readonly addresses: number;
  /** Name records given out. */
  readonly changes: number;
  /** Addresses without a name because too many are known. */
  readonly dropped: number;
}

export const realPace: Pace = {
  delay: async (ms, signal) => {
    if (!signal.aborted) await sleep(ms, undefined, { signal }).catch(() => {});
  },
  random: Math.random,
  now: Date.now,
};

/**
 * Names for addresses from EndpointSlices and Services.
 *
 * While the API server is away for a moment the names stay as they are. After a minute they are withdrawn, as an address
 * may have gone to another pod without its being heard of here; they come back with the next whole list.
 */
export function createNames({ api, onName, log, pace = realPace }: NamesOptions): Names {
  const directory = new Directory(onName, pace.now);
  const stopping = new AbortController();
  const slices = newStats();
  const services = newStats();
  let running: Promise<unknown> = Promise.resolve();
  return {
    start() {
      const { signal } = stopping;
      running = Promise.all([
        reflect(api, SLICES, directory.slices(), pace, log, slices, signal),
        reflect(api, SERVICES, directory.services(), pace, log, services, signal),
      ]);
    },
    async stop() {
      stopping.abort();
      await running;
    },
    lookup: (ip, at) => directory.lookup(ip, at),
    podsAt: (ip) => directory.podsAt(ip),
    history: (ip) => directory.history(ip),
    get synced() {
      return slices.listings > 0 && services.listings > 0;
    },
    stats: {
      slices,
      services,
      get addresses() {
        return directory.addresses;
      },
      get changes() {
        return directory.changes;
      },
      get dropped() {
        return directory.dropped;
      },
    },
  };
}
