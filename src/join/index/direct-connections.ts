import type { Connection, Service } from './connection.ts';
import type { Endpoints } from './endpoints.ts';
import type { Services } from './services.ts';

/**
 * The direct connections, those to a backend's own address, that may have carried attempts on one Service port: where a
 * load balancer chooses the pod in connect(), nginx logs the Service's address and the kernel sees the pod's.
 */
export class DirectConnections {
  /** The Service itself, the connections whose Service is not known, and the backends that may be its endpoints. */
  readonly services: readonly Service[];
  readonly #service: Service;
  readonly #endpoints: Endpoints;
  readonly #translated: boolean;

  /** `translated`: connections to the Service's own address are seen, too. */
  constructor(
    services: readonly [service: Service, unknown: Service, ...backends: Service[]],
    endpoints: Endpoints,
    translated: boolean,
  ) {
    this.services = services;
    this.#service = services[0];
    this.#endpoints = endpoints;
    this.#translated = translated;
  }

  /**
   * Whether the connection, which is not to the Service's own address, may have been opened for the Service. A young one may
   * whatever is known of its backend so far: the load balancer may be ahead of the helper.
   */
  mayHave(connection: Connection): boolean {
    if (!this.contradicts(connection)) return true;
    const { backend, openTo } = connection;
    const isHelper = this.#endpoints.isHelper(backend.ip, backend.port);
    return !this.#translated && !isHelper && !this.#endpoints.hasLearnedOf(openTo);
  }

  /** Whether its backend is not the Service's, by what is known so far of the time when the connection was opened. */
  contradicts({ backend, openFrom, openTo }: Connection): boolean {
    const { vip, vport } = this.#service;
    return this.#endpoints.mayLead(backend.ip, backend.port, vip!, vport!, openFrom, openTo) === 'no';
  }

  /** Whether its backend is known as an endpoint of the Service at the time when the connection was opened. */
  explains({ backend, openFrom, openTo }: Connection): boolean {
    const { vip, vport } = this.#service;
    return this.#endpoints.mayLead(backend.ip, backend.port, vip!, vport!, openFrom, openTo) === 'yes';
  }

  /** Whether the backend is known as an endpoint of the Service at any time that is remembered. */
  isEndpoint(ip: string, port: number): boolean {
    const { vip, vport } = this.#service;
    return this.#endpoints.mayLead(ip, port, vip!, vport!, -Infinity, Infinity) === 'yes';
  }

  /** Whether it is known as an endpoint at `t` (ms since the epoch). */
  isEndpointAt(ip: string, port: number, t: number): boolean {
    const { vip, vport } = this.#service;
    return this.#endpoints.wasAt(ip, port, vip!, vport!, t);
  }
}

/** The direct connections for each Service port that is asked for. */
export class DirectTable {
  readonly #services: Services;
  readonly #endpoints: Endpoints;
  /** By Service port, as of these versions. */
  readonly #found = new Map<string, DirectConnections | undefined>();
  #versions = '';

  constructor(services: Services, endpoints: Endpoints) {
    this.#services = services;
    this.#endpoints = endpoints;
  }

  /**
   * Undefined where nginx dials no backend directly, where the address is no Service's that is known, and where some of the
   * Service's direct connections may be in no record.
   */
  to(vip: string, vport: number): DirectConnections | undefined {
    const { direct, version } = this.#services;
    const endpoints = this.#endpoints;
    if (direct.size === 0 || !endpoints.hasService(vip, vport)) return undefined;
    const versions = `${version} ${endpoints.version} ${endpoints.placesSeen}`;
    if (versions !== this.#versions) this.#found.clear();
    this.#versions = versions;
    const service = this.#services.get(vip, vport);
    const translated = service !== undefined && isTranslated(service);
    const key = `${vip} ${vport} ${translated}`;
    let found = this.#found.get(key);
    if (found === undefined && !this.#found.has(key)) {
      found = this.#find(vip, vport, translated);
      this.#found.set(key, found);
    }
    return found;
  }

  /** Where the Service is `translated`, a connection that no Service explains is to a plain server. */
  #find(vip: string, vport: number, translated: boolean): DirectConnections | undefined {
    const { direct, unknown } = this.#services;
    const own = this.#services.get(vip, vport);
    if (own && direct.has(own)) return undefined;
    if (!translated && !this.#endpoints.areVisible(vip, vport)) return undefined;
    const backends: Service[] = [];
    for (const backend of direct) {
      const leads = this.#endpoints.mayLead(backend.vip!, backend.vport!, vip, vport, -Infinity, Infinity);
      if (leads === 'yes' || (leads === 'unknown' && !translated)) backends.push(backend);
    }
    if (backends.length === 0) return undefined;
    const services = [this.#services.of(vip, vport), unknown, ...backends] as const;
    return new DirectConnections(services, this.#endpoints, translated);
  }
}

/** Whether connections to the Service's own address are seen. */
function isTranslated({ backends, forgottenBackend }: Service): boolean {
  return backends.size > 0 || forgottenBackend !== undefined;
}
