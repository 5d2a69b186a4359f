import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from '../log.ts';
import type { PodName } from '../model/outcome.ts';
import type { ApiServer } from './api.ts';
import { Directory, type NameObservation } from './directory.ts';
import { type EndpointObservation, Endpoints, type OwnPort } from './endpoints.ts';
import { newStats, type Pace, type Reflection, type ReflectorStats, reflect } from './reflector.ts';

/** The two kinds that the helper watches, as kube-proxy does on every node. k8s/helper/rbac.yaml grants exactly these. */
const SLICES = '/apis/discovery.k8s.io/v1/endpointslices';
const SERVICES = '/api/v1/services';

export interface NamesOptions {
  api: ApiServer;
  /** Called for each change of what an address is called, or an endpoint of, with the time at which the helper learned it. */
  onName(record: NameObservation | EndpointObservation): void;
  log: Log;
  pace?: Pace;
  /** The helper's own node. */
  node?: string | undefined;
  /** Where the sidecars reach the helper. */
  own?: OwnPort;
}

export interface ClusterNames {
  /** Starts the watches; does not wait for names. */
  start(): void;
  /** Ends the watches; resolves when none is left. */
  stop(): Promise<void>;
  /** The name of `ip` now, or at `at` (ms since the epoch). A past name is remembered for 10 minutes. */
  lookup(ip: string, at?: number): PodName | undefined;
  podsAt(ip: string): PodName[];
  /** The current name of `ip` and the past ones in memory, oldest first. */
  history(ip: string): Iterable<NameObservation>;
  /** What `ip` is and was an endpoint of, likewise. */
  endpoints(ip: string): Iterable<EndpointObservation>;
  /** Both kinds were listed completely at least once. */
  readonly synced: boolean;
  readonly stats: NamesStats;
}

export interface NamesStats {
  slices: ReflectorStats;
  services: ReflectorStats;
  /** Addresses with a current or past name. */
  readonly addresses: number;
  /** Name records emitted. */
  readonly changes: number;
  /** Addresses without a name because of the limit. */
  readonly dropped: number;
  /** Addresses that are or were endpoints of a Service, changes emitted, and addresses left out because of the limit. */
  readonly endpoints: { readonly addresses: number; readonly changes: number; readonly dropped: number };
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
 * A short loss of the API server changes no name. After a minute all names are withdrawn, because another pod may have
 * got an address unseen; they return with the next complete list.
 */
export function createNames({ api, onName, log, pace = realPace, node, own }: NamesOptions): ClusterNames {
  const directory = new Directory(onName, pace.now);
  const endpoints = new Endpoints(onName, pace.now, node, own);
  const stopping = new AbortController();
  const slices = newStats();
  const services = newStats();
  let running: Promise<unknown> = Promise.resolve();
  return {
    start() {
      const { signal } = stopping;
      running = Promise.all([
        reflect(api, SLICES, both(directory.slices(), endpoints.slices()), pace, log, slices, signal),
        reflect(api, SERVICES, both(directory.services(), endpoints.services()), pace, log, services, signal),
      ]);
    },
    async stop() {
      stopping.abort();
      await running;
    },
    lookup: (ip, at) => directory.lookup(ip, at),
    podsAt: (ip) => directory.podsAt(ip),
    history: (ip) => directory.history(ip),
    endpoints: (ip) => endpoints.history(ip),
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
      endpoints,
    },
  };
}

function both(a: Reflection, b: Reflection): Reflection {
  return {
    upsert(object) {
      a.upsert(object);
      b.upsert(object);
    },
    remove(object) {
      a.remove(object);
      b.remove(object);
    },
    lost() {
      a.lost();
      b.lost();
    },
    listing() {
      a.listing();
      b.listing();
    },
    listed() {
      a.listed();
      b.listed();
    },
  };
}
