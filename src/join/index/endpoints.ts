import { LRUCache } from '../../lru.ts';
import type { EndpointPort, EndpointRecord, Place } from '../../model/feed.ts';

export interface EndpointLimits {
  /** Addresses. At the limit the one used longest ago is forgotten and counted; nothing is known of it then. */
  addresses: number;
  /** States remembered for one address; of the time before them nothing is known. */
  perAddress: number;
}

export const ENDPOINT_LIMITS: EndpointLimits = { addresses: 5_000, perAddress: 8 };

/** How long a past state is remembered (ms): lines of long requests come late. */
const REMEMBER_MS = 10 * 60_000;
/**
 * How far the load balancer's knowledge of endpoints may be ahead of the helper's, or behind (ms). The helper notices
 * after at most a minute and a half that it has no watch. A larger value only adds candidates.
 */
const LAG_MS = 120_000;

/** Addresses of helpers; at the limit they are forgotten, and connections to them are candidates. */
const MAX_HELPERS = 64;

/** Whether a port was an endpoint of a Service port. */
export type IsEndpoint = 'yes' | 'no' | 'unknown';

/** From `since` on (ms since the epoch). `of` undefined: not known. */
interface State {
  since: number;
  of: readonly EndpointPort[] | undefined;
}

/** Of which Service ports the backends that nginx connected to are endpoints, and were. */
export class Endpoints {
  /** Addresses dropped at the limit. */
  readonly counters = { dropped: 0 };
  /** Another one after each change. */
  version = 0;
  readonly #limits: EndpointLimits;
  /** By address, oldest first. The first state, of the time before the record, is unknown. */
  readonly #byIp: LRUCache<string, State[]>;
  /** Service ports, with the number of remembered states that have them. */
  readonly #services = new Map<string, number>();
  /** When each past state ended, in the order of the records. */
  readonly #past = new Set<{ ip: string; ended: number }>();
  /** The ports at which helpers serve the feed, by address: a sidecar connects there, and no attempt of nginx's. */
  readonly #helpers = new Map<string, number>();
  /** The last known place of each address. */
  readonly #places = new Map<string, Place>();
  readonly #seen = new Set<Place>();
  /** Up to when all that the helper learned is here (ms since the epoch). */
  #knownUntil = -Infinity;

  constructor(limits: EndpointLimits = ENDPOINT_LIMITS) {
    this.#limits = limits;
    this.#byIp = new LRUCache({
      max: limits.addresses,
      dispose: (states, ip, reason) => {
        if (reason !== 'evict') return;
        this.counters.dropped++;
        this.#places.delete(ip);
        for (const state of states) this.#count(state, -1);
      },
    });
  }

  /** Addresses of which something is known. */
  get size(): number {
    return this.#byIp.size;
  }

  /** Whether a backend is, or was, an endpoint of this Service port: the address is a Service's then. */
  hasService(vip: string, vport: number): boolean {
    return this.#services.size > 0 && this.#services.has(`${vip} ${vport}`);
  }

  /** Records of one address may come repeatedly, and those of a reader's beginning after later ones. */
  set({ ip, t, of, place, helper }: EndpointRecord): void {
    if (helper !== undefined) this.#setHelper(ip, helper);
    let states = this.#byIp.get(ip);
    if (!states) {
      states = [{ since: -Infinity, of: undefined }];
      this.#byIp.set(ip, states);
    }
    if (place) this.#places.set(ip, place);
    let i = states.length;
    while (i > 1 && states[i - 1]!.since > t) i--;
    const before = states[i - 1]!;
    if (same(before.of, of)) return;
    this.version++;
    const state = { since: t, of };
    states.splice(i, 0, state);
    this.#count(state, 1);
    if (states.length > 2) this.#past.add({ ip, ended: t });
    if (states.length > this.#limits.perAddress) this.#shorten(states, states[2]!.since);
  }

  #setHelper(ip: string, port: number): void {
    if (this.#helpers.get(ip) === port) return;
    // A node has few addresses; of more than that nothing needs to be known.
    if (this.#helpers.size >= MAX_HELPERS) this.#helpers.clear();
    this.#helpers.set(ip, port);
    this.version++;
  }

  /** How many of the two places were seen. */
  get placesSeen(): number {
    return this.#seen.size;
  }

  /** A packet of a direct connection to `ip` passed the tap. */
  sawPacket(ip: string): void {
    const place = this.#places.get(ip);
    if (place) this.#seen.add(place);
  }

  /**
   * Whether the record shows direct connections to each place where the Service port has endpoints. A network may deliver
   * packets to pods of the own node, or of others, past netfilter: those connections are in no record.
   */
  areVisible(vip: string, vport: number): boolean {
    if (this.#seen.size === 2) return true;
    for (const states of this.#byIp.values()) {
      for (const { of } of states) {
        for (const each of of ?? []) {
          if (each.vip !== vip || each.vport !== vport) continue;
          if (each.here && !this.#seen.has('here')) return false;
          if (each.elsewhere && !this.#seen.has('elsewhere')) return false;
        }
      }
    }
    return true;
  }

  /** All that the helper learned up to `now` (ms since the epoch) is here. Forgets states that ended too long before. */
  tick(now: number): void {
    if (now > this.#knownUntil) this.#knownUntil = now;
    for (const oldest of this.#past) {
      if (oldest.ended > now - REMEMBER_MS && this.#past.size <= this.#limits.addresses) return;
      this.#past.delete(oldest);
      const states = this.#byIp.peek(oldest.ip);
      if (states) this.#shorten(states, oldest.ended);
    }
  }

  /** The clock was set back to `t`: of earlier times nothing is known any more. */
  onClockRollback(t: number): void {
    this.version++;
    this.#knownUntil = t;
    for (const states of this.#byIp.values()) {
      const last = states.at(-1)!;
      for (const state of states) if (state !== last) this.#count(state, -1);
      if (last.since === -Infinity) continue;
      states.splice(0, states.length, { since: -Infinity, of: undefined }, last);
      last.since = Math.min(last.since, t);
    }
  }

  /**
   * Whether a connection to `ip`:`port` that was opened between `first` and `last` (ms since the epoch) may be of an attempt
   * on the Service port. `unknown`: the states of that time are not known, or no Service explains the connection.
   */
  mayLead(ip: string, port: number, vip: string, vport: number, first: number, last: number): IsEndpoint {
    const found = isEndpoint(this.#byIp.get(ip), port, vip, vport, first - LAG_MS, last + LAG_MS);
    return found === 'unknown' && this.isHelper(ip, port) ? 'no' : found;
  }

  /**
   * Whether the helper has learned by now whatever a load balancer knew of endpoints at `t` (ms since the epoch). Before, that a
   * backend is no endpoint of a Service port is not certain.
   */
  hasLearnedOf(t: number): boolean {
    return t + LAG_MS <= this.#knownUntil;
  }

  /** Whether a helper serves the feed there. */
  isHelper(ip: string, port: number): boolean {
    return this.#helpers.get(ip) === port;
  }

  /** Whether it was an endpoint at that time, by all that is known. */
  wasAt(ip: string, port: number, vip: string, vport: number, t: number): boolean {
    return isEndpoint(this.#byIp.get(ip), port, vip, vport, t, t) === 'yes';
  }

  /** Forgets the states that ended by `t`. */
  #shorten(states: State[], t: number): void {
    let over = 0;
    while (states[over + 1] && states[over + 1]!.since <= t) over++;
    if (over <= 1) return;
    this.version++;
    for (const state of states.splice(1, over - 1)) this.#count(state, -1);
  }

  #count({ of }: State, by: 1 | -1): void {
    if (of === undefined) return;
    for (const { vip, vport } of of) {
      if (vip === undefined) continue;
      const key = `${vip} ${vport}`;
      const count = (this.#services.get(key) ?? 0) + by;
      if (count > 0) this.#services.set(key, count);
      else this.#services.delete(key);
    }
  }
}

function isEndpoint(
  states: readonly State[] | undefined,
  port: number,
  vip: string,
  vport: number,
  from: number,
  to: number,
): IsEndpoint {
  if (!states) return 'unknown';
  let known = true;
  let explained = false;
  for (let i = 0; i < states.length && states[i]!.since <= to; i++) {
    const next = states[i + 1];
    if (next && next.since <= from) continue;
    const { of } = states[i]!;
    if (of === undefined) {
      known = false;
      continue;
    }
    for (const each of of) {
      if (each.port !== port) continue;
      if (each.vip === vip && each.vport === vport) return 'yes';
      explained = true;
    }
  }
  return known && explained ? 'no' : 'unknown';
}

function same(a: readonly EndpointPort[] | undefined, b: readonly EndpointPort[] | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  if (a.length !== b.length) return false;
  return a.every((one) =>
    b.some(
      ({ port, vip, vport, here, elsewhere }) =>
        port === one.port &&
        vip === one.vip &&
        vport === one.vport &&
        here === one.here &&
        elsewhere === one.elsewhere,
    ),
  );
}
