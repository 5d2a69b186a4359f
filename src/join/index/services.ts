import type { Compared } from '../../model/content.ts';
import { type Backend, clampTimesTo, newService, type Service } from './connection.ts';

/** What of a request to this address is compared with its line; undefined: nothing. */
export type ComparedAt = (vip: string, vport: number) => Compared | undefined;

/** Services examined for one that can be forgotten, when another one is added. */
const MAX_UNUSED_LOOKED_AT = 16;

/** The upstream addresses that the feed has told of, at most `limit`; those in use stay, also beyond it. */
export class Services {
  readonly #limit: number;
  readonly #counters: { visited: number };
  #comparedAt: ComparedAt | undefined;
  readonly #all = new Set<Service>();
  /** The next that may be forgotten. */
  #next = this.#all.values();
  /** The same by address; those of one address have different ports. */
  readonly #byVip = new Map<string, Service[]>();
  /** Connections that may have gone through any Service, as their upstream address is not known. */
  readonly unknown: Service = newService(undefined, undefined);
  /** Those that are a backend's own address: nginx, or its kernel in connect(), dialed the backend. */
  readonly direct = new Set<Service>();
  /** Another one after each change of `direct`, and when a Service is forgotten. */
  version = 0;
  /** A Service that is not in here was not used after this time (ms since the epoch). */
  knownSince = -Infinity;

  /** `visited` counts the Services that were examined. */
  constructor(limit: number, counters: { visited: number } = { visited: 0 }, comparedAt?: ComparedAt) {
    this.#limit = limit;
    this.#comparedAt = comparedAt;
    this.#counters = counters;
  }

  get size(): number {
    return this.#all.size;
  }

  get(vip: string, vport: number): Service | undefined {
    const services = this.#byVip.get(vip);
    if (services) for (const service of services) if (service.vport === vport) return service;
    return undefined;
  }

  /** The Service of a record, remembered from now on. */
  of(vip: string | undefined, vport: number | undefined): Service {
    if (vip === undefined || vport === undefined) return this.unknown;
    return this.get(vip, vport) ?? this.#add(vip, vport);
  }

  /** A connection to the Service was added. */
  connected(service: Service, { ip, port }: Backend): void {
    if (service.vip !== ip || service.vport !== port || this.direct.has(service)) return;
    this.direct.add(service);
    this.version++;
  }

  /** Requests were missed. */
  forgetContents(): void {
    for (const { answers } of this.#all) answers.forgetContents();
  }

  /** The content of requests is no longer known to be that of their lines. */
  compareNothing(): void {
    this.#comparedAt = undefined;
    for (const { answers } of this.#all) answers.compareNothing();
  }

  /** All Services, with the unknown one at the end. */
  *[Symbol.iterator](): Generator<Service> {
    yield* this.#all;
    yield this.unknown;
  }

  /** The clock was set back to `t`: all that remains certain about the times in here is that they were before it. */
  onClockRollback(t: number): void {
    for (const { open, closed, requests, trust, ports, answers } of this) {
      trust.onClockRollback(t);
      ports.onClockRollback(t);
      answers.onClockRollback(t);
      for (const connection of open) clampTimesTo(connection, t);
      for (const connection of closed) clampTimesTo(connection, t);
      for (const tapped of requests) {
        tapped.from = -Infinity;
        tapped.to = t;
        if (tapped.endedBy !== Infinity) tapped.endedBy = t;
      }
    }
  }

  /** The record begins anew at `t` (ms since the epoch): what was forgotten was over by then. */
  knowAllFrom(t: number): void {
    for (const service of this) {
      if (service.connectionsKnownSince > t) service.forgottenBackend = undefined;
      service.connectionsKnownSince = Math.min(service.connectionsKnownSince, t);
      service.openKnownSince = Math.min(service.openKnownSince, t);
      service.withoutRequestKnownSince = Math.min(service.withoutRequestKnownSince, t);
      service.requestsKnownSince = Math.min(service.requestsKnownSince, t);
      service.unreadableKnownSince = Math.min(service.unreadableKnownSince, t);
      service.hidingIdsKnownSince = Math.min(service.hidingIdsKnownSince, t);
    }
  }

  #add(vip: string, vport: number): Service {
    // Before the new one is added, as it is unused too.
    if (this.#all.size >= this.#limit) this.#forgetUnused();
    const service = newService(vip, vport, this.unknown, this.knownSince, this.#comparedAt?.(vip, vport));
    service.connectionsKnownSince = this.knownSince;
    service.openKnownSince = this.knownSince;
    service.withoutRequestKnownSince = this.knownSince;
    service.requestsKnownSince = this.knownSince;
    service.unreadableKnownSince = this.knownSince;
    service.hidingIdsKnownSince = this.knownSince;
    const sameVip = this.#byVip.get(vip);
    if (sameVip) sameVip.push(service);
    else this.#byVip.set(vip, [service]);
    this.#all.add(service);
    return service;
  }

  /** Goes on where it ended, so that each new Service costs the same however many are in use. */
  #forgetUnused(): void {
    for (let looked = 0; looked < MAX_UNUSED_LOOKED_AT; looked++) {
      const { value: service } = this.#next.next();
      if (!service) {
        this.#next = this.#all.values();
        continue;
      }
      this.#counters.visited++;
      if (isUsed(service)) continue;
      this.#all.delete(service);
      this.direct.delete(service);
      this.version++;
      const sameVip = this.#byVip.get(service.vip!)!;
      if (sameVip.length === 1) this.#byVip.delete(service.vip!);
      else sameVip.splice(sameVip.indexOf(service), 1);
      this.knownSince = Math.max(this.knownSince, service.connectionsKnownSince, service.requestsKnownSince);
      return;
    }
  }
}

function isUsed({ open, closed, closedHead, requests, forgottenRequests }: Service): boolean {
  return open.size > 0 || closed.length > closedHead || requests.length > forgottenRequests;
}
