import type { EndpointPort, EndpointRecord, Place } from '../model/feed.ts';
import { portsOf, type ServicePort, type Slice, sliceOf } from './endpoint-objects.ts';
import { PastStates, reflectionOf } from './reflection.ts';
import type { Reflection } from './reflector.ts';

export type EndpointObservation = Omit<EndpointRecord, 'seq'>;

/** Where the helper itself is reached. */
export interface OwnPort {
  port: number;
  /** Whether the address is one of the helper's; `now`: ms since the epoch. */
  isAt(ip: string, now: number): boolean;
}

/** A Service's addresses and ports, or those of a Service that no object tells of yet. */
interface Service {
  ports: readonly ServicePort[];
  readonly slices: Set<Slice>;
  /** Endpoints on this node, and on others. */
  here: number;
  elsewhere: number;
}

/** From `since` on (ms since the epoch). `text` is equal where `of` is. */
interface State {
  since: number;
  of: readonly EndpointPort[] | undefined;
  place: Place | undefined;
  text: string;
}

interface Endpoint {
  readonly slices: Set<Slice>;
  /** Oldest first; the last one is current. Nothing is known of the time before the first. */
  states: State[];
}

const UNKNOWN = { of: undefined, place: undefined, text: '-' };
/** Addresses at most; of others nothing is known, and they are counted. */
const MAX_ADDRESSES = 200_000;
/** Service ports of one address at most. Of an address with more, as of a node's, nothing is known. */
const MAX_PORTS = 64;

/**
 * Which ports of an address are endpoints of which Service ports, from EndpointSlices and Services, now and in the last ten
 * minutes. Where a load balancer chooses the pod in connect(), only this tells which Service nginx may have dialed.
 *
 * Nothing is known before both kinds are listed, nor while the watch of one is lost.
 */
export class Endpoints {
  readonly #byIp = new Map<string, Endpoint>();
  readonly #slices = new Map<string, Slice>();
  /** By namespace/name. */
  readonly #services = new Map<string, Service>();
  readonly #past = new PastStates();
  /** Kinds of objects that are not known completely. */
  readonly #lacking = new Set(['slice', 'service']);
  readonly #onChange: (record: EndpointObservation) => void;
  readonly #now: () => number;
  readonly #node: string | undefined;
  readonly #own: OwnPort | undefined;

  /** Addresses left out because of `MAX_ADDRESSES`. */
  dropped = 0;
  /** Records emitted. */
  changes = 0;

  /** `node`: the helper's own; undefined where it does not know its name. */
  constructor(
    onChange: (record: EndpointObservation) => void,
    now: () => number,
    node?: string,
    own?: OwnPort,
  ) {
    this.#own = own;
    this.#node = node;
    this.#onChange = onChange;
    this.#now = now;
  }

  get addresses(): number {
    return this.#byIp.size;
  }

  /** The current state of `ip` and the past ones in memory, oldest first; at least one. */
  *history(ip: string): Generator<EndpointObservation> {
    const now = this.#now();
    const endpoint = this.#byIp.get(ip);
    if (endpoint) dropFuture(endpoint, now);
    for (const state of endpoint?.states ?? [{ ...UNKNOWN, since: now }]) yield this.#record(ip, state);
  }

  #record(ip: string, { since, of, place }: State): EndpointObservation {
    const known = { ...(of ? { of } : {}), ...(place ? { place } : {}) };
    const own = this.#own?.isAt(ip, this.#now()) ? { helper: this.#own.port } : {};
    return { kind: 'endpoint', t: since, ip, ...known, ...own };
  }

  /** For the reflector of EndpointSlices. */
  slices(): Reflection {
    return reflectionOf({
      known: () => this.#slices.keys(),
      replace: (key, object) => this.#replaceSlice(key, object && sliceOf(object)),
      vouch: (current) => this.#vouch('slice', current),
    });
  }

  /** For the reflector of Services. */
  services(): Reflection {
    return reflectionOf({
      known: () => this.#services.keys(),
      replace: (key, object) => this.#replaceService(key, object ? portsOf(object) : []),
      vouch: (current) => this.#vouch('service', current),
    });
  }

  #vouch(kind: string, complete: boolean): void {
    const before = this.#lacking.size;
    if (complete) this.#lacking.delete(kind);
    else this.#lacking.add(kind);
    if ((before === 0) !== (this.#lacking.size === 0)) for (const ip of this.#byIp.keys()) this.#update(ip);
  }

  #replaceSlice(key: string, next: Slice | undefined): void {
    const old = this.#slices.get(key);
    const touched = new Set<string>();
    // Of a large Service one endpoint changes at a time.
    const samePorts = old && next && old.service === next.service && samePortsOf(old, next);
    if (old) {
      this.#slices.delete(key);
      this.#service(old.service).slices.delete(old);
      for (const ip of old.ips.keys()) {
        this.#byIp.get(ip)?.slices.delete(old);
        if (!samePorts || next.ips.get(ip) !== old.ips.get(ip) || !next.ips.has(ip)) touched.add(ip);
      }
    }
    if (next) {
      this.#slices.set(key, next);
      this.#service(next.service).slices.add(next);
      for (const ip of next.ips.keys()) {
        this.#endpoint(ip)?.slices.add(next);
        if (!samePorts || !old.ips.has(ip)) touched.add(ip);
      }
    }
    // All endpoints of a Service are told where it has some.
    for (const name of new Set([old, next].flatMap((slice) => slice?.service ?? []))) {
      if (!this.#recount(name)) continue;
      for (const { ips } of this.#service(name).slices) for (const ip of ips.keys()) touched.add(ip);
    }
    if (old) this.#forgetService(old.service);
    for (const ip of touched) this.#update(ip);
    this.#forget();
  }

  #replaceService(key: string, ports: readonly ServicePort[]): void {
    const service = this.#service(key);
    service.ports = ports;
    for (const { ips } of service.slices) for (const ip of ips.keys()) this.#update(ip);
    this.#forgetService(key);
    this.#forget();
  }

  #service(key: string): Service {
    let service = this.#services.get(key);
    if (!service) {
      service = { ports: [], slices: new Set(), here: 0, elsewhere: 0 };
      this.#services.set(key, service);
    }
    return service;
  }

  /** Counts the Service's endpoints by node; true if there are some, or none any more, at a place. */
  #recount(key: string): boolean {
    const service = this.#service(key);
    const { here, elsewhere } = service;
    service.here = 0;
    service.elsewhere = 0;
    for (const { ips } of service.slices) {
      for (const node of ips.values()) {
        const place = this.#placeOf(node);
        if (place !== 'elsewhere') service.here++;
        if (place !== 'here') service.elsewhere++;
      }
    }
    return here > 0 !== service.here > 0 || elsewhere > 0 !== service.elsewhere > 0;
  }

  #placeOf(node: string | undefined): Place | undefined {
    if (node === undefined || this.#node === undefined) return undefined;
    return node === this.#node ? 'here' : 'elsewhere';
  }

  #forgetService(key: string): void {
    const service = this.#services.get(key);
    if (service?.ports.length === 0 && service.slices.size === 0) this.#services.delete(key);
  }

  #endpoint(ip: string): Endpoint | undefined {
    let endpoint = this.#byIp.get(ip);
    if (endpoint) return endpoint;
    if (this.#byIp.size >= MAX_ADDRESSES) {
      this.dropped++;
      return undefined;
    }
    endpoint = { slices: new Set(), states: [] };
    this.#byIp.set(ip, endpoint);
    return endpoint;
  }

  /** Emits a record if the address is an endpoint of something else than before. */
  #update(ip: string): void {
    const endpoint = this.#byIp.get(ip);
    if (!endpoint) return;
    const since = this.#now();
    dropFuture(endpoint, since);
    if (endpoint.slices.size === 0) this.#past.add(ip, since);
    const of = this.#lacking.size === 0 ? this.#portsOf(endpoint) : undefined;
    const [slice] = endpoint.slices;
    const place = of === undefined ? undefined : this.#placeOf(slice?.ips.get(ip));
    const text = of === undefined ? '-' : `${place} ${textOf(of)}`;
    const last = endpoint.states.at(-1);
    if (last?.text === text) return;
    if (last?.since === since) endpoint.states.pop();
    else if (last) this.#past.add(ip, since);
    const state = { since, of, place, text };
    endpoint.states.push(state);
    this.changes++;
    this.#onChange(this.#record(ip, state));
  }

  #portsOf({ slices }: Endpoint): EndpointPort[] | undefined {
    const found = new Map<string, EndpointPort>();
    for (const { service, ports } of slices) {
      if (ports === undefined) return undefined;
      const { ports: addresses, here, elsewhere } = this.#services.get(service)!;
      const places: Pick<EndpointPort, 'here' | 'elsewhere'> = {};
      if (here > 0) places.here = true;
      if (elsewhere > 0) places.elsewhere = true;
      for (const { name, port } of ports) {
        found.set(`${port}`, { port });
        for (const each of addresses) {
          if (each.name !== name) continue;
          found.set(`${port} ${each.vip} ${each.vport}`, {
            port,
            vip: each.vip,
            vport: each.vport,
            ...places,
          });
        }
      }
      if (found.size > MAX_PORTS) return undefined;
    }
    // A port that an address leads to needs no entry of its own.
    for (const { port, vip } of [...found.values()]) if (vip !== undefined) found.delete(`${port}`);
    return [...found.values()];
  }

  #forget(): void {
    this.#past.forget(this.#now(), (ip, before) => {
      const endpoint = this.#byIp.get(ip);
      if (!endpoint) return;
      const { states, slices } = endpoint;
      while (states.length > 1 && states[1]!.since <= before) states.shift();
      if (slices.size === 0 && states.length <= 1) this.#byIp.delete(ip);
    });
  }
}

/** After the clock was set back the current state is valid from now on, and the past ones are forgotten. */
function dropFuture(endpoint: Endpoint, now: number): void {
  const last = endpoint.states.at(-1);
  if (last && last.since > now) endpoint.states = [{ ...last, since: now }];
}

function samePortsOf({ ports: a }: Slice, { ports: b }: Slice): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

function textOf(of: readonly EndpointPort[]): string {
  return of
    .map(({ port, vip = '', vport = '', here = '', elsewhere = '' }) =>
      [port, vip, vport, here, elsewhere].join(' '),
    )
    .sort()
    .join();
}
