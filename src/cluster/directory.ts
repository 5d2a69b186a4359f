import type { NameRecord } from '../model/feed.ts';
import type { PodName } from '../model/outcome.ts';
import { canonicalIp } from '../parse/address.ts';
import { PastStates, reflectionOf } from './reflection.ts';
import type { ApiObject, Reflection } from './reflector.ts';

export type NameObservation = Omit<NameRecord, 'seq'>;

/** One address in one EndpointSlice or Service. `pod` is empty for a ClusterIP and for hand-made endpoints. */
export interface Claim extends PodName {
  ip: string;
}

interface Entry {
  claims: Claim[];
  /** Oldest first; the last one is current. `undefined`: no name from then on. */
  names: { since: number; name: PodName | undefined }[];
}

/** Addresses at most; others have no name, and are counted. 200,000 take some 90 MB. */
const MAX_NAMED_ADDRESSES = 200_000;

/**
 * Names of addresses from EndpointSlices (pods) and Services (ClusterIPs). Only names are kept, no API objects.
 *
 * An address that several pods have at the same time, such as a node's that pods with hostNetwork share, has no pod: it
 * does not show which of them answered. `service` is the Service's name without its namespace, which is the record's
 * `namespace`, as a Service selects pods of its namespace only. For a pod behind several Services it is the first in
 * sort order; the Service that a request was sent to is the name of its ClusterIP.
 */
export class Directory {
  readonly #byIp = new Map<string, Entry>();
  /** The claims of each object, by namespace/name, so that an event can remove those it no longer has. */
  readonly #slices = new Map<string, Claim[]>();
  readonly #services = new Map<string, Claim[]>();
  /** Those whose name or last claim ended. */
  readonly #past = new PastStates();
  readonly #onName: (record: NameObservation) => void;
  readonly #now: () => number;
  /** Kinds of objects without a watch for too long. */
  readonly #lost = new Set<string>();

  /** Addresses without a name because of `MAX_NAMED_ADDRESSES`. */
  dropped = 0;
  /** Name records emitted. */
  changes = 0;

  constructor(onName: (record: NameObservation) => void, now: () => number) {
    this.#onName = onName;
    this.#now = now;
  }

  get addresses(): number {
    return this.#byIp.size;
  }

  /** The name of `ip` now, or at `at` (ms since the epoch) while that is remembered. */
  lookup(ip: string, at = Number.POSITIVE_INFINITY): PodName | undefined {
    let found: PodName | undefined;
    for (const { since, name } of this.#byIp.get(ip)?.names ?? []) {
      if (since > at) break;
      found = name;
    }
    return found;
  }

  /** The pods at `ip`; several share a node's address. */
  podsAt(ip: string): PodName[] {
    return this.#byIp.get(ip)?.claims.filter((claim) => claim.pod !== '') ?? [];
  }

  /** The current name of `ip` and the past ones in memory, oldest first. */
  *history(ip: string): Generator<NameObservation> {
    const entry = this.#byIp.get(ip);
    if (!entry) return;
    dropFuture(entry, this.#now());
    for (const { since, name } of entry.names) yield record(ip, since, name);
  }

  /** For the reflector of EndpointSlices. */
  slices(): Reflection {
    return this.#reflection('slice', this.#slices, claimsOfSlice);
  }

  /** For the reflector of Services. */
  services(): Reflection {
    return this.#reflection('service', this.#services, claimsOfService);
  }

  #reflection(
    kind: string,
    objects: Map<string, Claim[]>,
    claimsOf: (object: ApiObject) => Claim[],
  ): Reflection {
    return reflectionOf({
      known: () => objects.keys(),
      replace: (key, object) => this.#replace(objects, key, object ? claimsOf(object) : []),
      vouch: (current) => this.#vouch(kind, current),
    });
  }

  /** While one of the two kinds is lost no address has a name: another pod may have got it. */
  #vouch(kind: string, current: boolean): void {
    const before = this.#lost.size;
    if (current) this.#lost.delete(kind);
    else this.#lost.add(kind);
    if (before === 0 || this.#lost.size === 0) for (const ip of this.#byIp.keys()) this.#updateName(ip);
  }

  #replace(objects: Map<string, Claim[]>, key: string, next: Claim[]): void {
    const old = objects.get(key) ?? [];
    if (next.length === 0 && old.length === 0) return;
    const before = new Map(old.map((claim) => [identity(claim), claim]));
    const kept: Claim[] = [];
    const touched = new Set<string>();
    for (const claim of next) {
      const id = identity(claim);
      const known = before.get(id);
      if (known && sameName(known, claim)) {
        before.delete(id);
        kept.push(known);
      } else if (this.#claim(claim)) {
        touched.add(claim.ip);
        kept.push(claim);
      }
    }
    for (const gone of before.values()) {
      const entry = this.#byIp.get(gone.ip);
      if (entry) entry.claims = entry.claims.filter((claim) => claim !== gone);
      touched.add(gone.ip);
    }
    if (kept.length === 0) objects.delete(key);
    else objects.set(key, kept);
    for (const ip of touched) this.#updateName(ip);
    this.#forget();
  }

  #claim(claim: Claim): boolean {
    const entry = this.#byIp.get(claim.ip);
    if (entry) {
      entry.claims.push(claim);
      return true;
    }
    if (this.#byIp.size >= MAX_NAMED_ADDRESSES) {
      this.dropped++;
      return false;
    }
    this.#byIp.set(claim.ip, { claims: [claim], names: [] });
    return true;
  }

  /** Emits a record if the claims on `ip` give another name than the current one. */
  #updateName(ip: string): void {
    const entry = this.#byIp.get(ip);
    if (!entry) return;
    const since = this.#now();
    dropFuture(entry, since);
    if (entry.claims.length === 0) this.#past.add(ip, since);
    const name = this.#lost.size === 0 ? nameFrom(entry.claims) : undefined;
    const last = entry.names.at(-1);
    if (last?.name && name ? sameName(last.name, name) : last?.name === name) return;
    if (last && name) this.#past.add(ip, since);
    entry.names.push({ since, name });
    this.changes++;
    this.#onName(record(ip, since, name));
  }

  #forget(): void {
    this.#past.forget(this.#now(), (ip, before) => {
      const entry = this.#byIp.get(ip);
      if (!entry) return;
      const { names } = entry;
      while (names.length > 1 && names[1]!.since <= before) names.shift();
      if (entry.claims.length === 0 && !names[0]?.name) this.#byIp.delete(ip);
    });
  }
}

/** After the clock was set back the current name is valid for all times, and the past ones are forgotten. */
function dropFuture(entry: Entry, now: number): void {
  const last = entry.names.at(-1);
  if (last && last.since > now) entry.names = [{ since: 0, name: last.name }];
}

function nameFrom(claims: readonly Claim[]): PodName | undefined {
  const [first] = claims;
  if (!first) return undefined;
  const named = claims.filter((claim) => claim.pod !== '');
  const [one] = named;
  if (one && named.every((claim) => claim.pod === one.pod && claim.namespace === one.namespace)) {
    const { pod, namespace, node } = one;
    return { pod, namespace, node, service: firstService(named) };
  }
  const { namespace, node } = first;
  if (one || !claims.every((claim) => claim.namespace === namespace)) return undefined;
  return {
    pod: '',
    namespace,
    node: claims.every((claim) => claim.node === node) ? node : '',
    service: firstService(claims),
  };
}

function firstService(claims: readonly Claim[]): string {
  let first = '';
  for (const { service } of claims) if (service !== '' && (first === '' || service < first)) first = service;
  return first;
}

interface SliceEndpoint {
  addresses?: string[];
  nodeName?: string;
  targetRef?: { kind?: string; name?: string; namespace?: string };
}

/** discovery.k8s.io/v1 EndpointSlice. Endpoints that are not ready or terminating count: they keep their pod. Host names are not addresses. */
function claimsOfSlice(object: ApiObject): Claim[] {
  const labels = object.metadata?.labels as Record<string, string> | undefined;
  const service = labels?.['kubernetes.io/service-name'] ?? '';
  const home = object.metadata?.namespace ?? '';
  const claims = new Map<string, Claim>();
  for (const endpoint of (object.endpoints as SliceEndpoint[] | null | undefined) ?? []) {
    const target = endpoint.targetRef?.kind === 'Pod' ? endpoint.targetRef : undefined;
    const pod = target?.name ?? '';
    const namespace = target?.namespace ?? home;
    for (const address of endpoint.addresses ?? []) {
      const ip = canonicalIp(address);
      if (ip === undefined) continue;
      const claim = { ip, pod, namespace, node: endpoint.nodeName ?? '', service };
      claims.set(identity(claim), claim);
    }
  }
  return [...claims.values()];
}

/** core/v1 Service. ClusterIPs only (not `None`): an external address can belong to several Services, by port. */
function claimsOfService(object: ApiObject): Claim[] {
  const spec = object.spec as { clusterIPs?: string[]; clusterIP?: string } | undefined;
  const { name: service = '', namespace = '' } = object.metadata ?? {};
  const addresses = spec?.clusterIPs ?? (spec?.clusterIP ? [spec.clusterIP] : []);
  return addresses.flatMap((address) => {
    const ip = canonicalIp(address);
    return ip === undefined ? [] : [{ ip, pod: '', namespace, node: '', service }];
  });
}

/** Within one object. Pods with hostNetwork can share an address in one slice. */
function identity(claim: Claim): string {
  return `${claim.ip} ${claim.namespace}/${claim.pod}`;
}

function sameName(a: PodName, b: PodName): boolean {
  return a.pod === b.pod && a.namespace === b.namespace && a.node === b.node && a.service === b.service;
}

function record(ip: string, t: number, name: PodName | undefined): NameObservation {
  const { pod, namespace, node, service } = name ?? { pod: '', namespace: '', node: '', service: '' };
  return { kind: 'name', t, ip, pod, namespace, node, service };
}
