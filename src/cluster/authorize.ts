import { BlockList, isIP } from 'node:net';
import { networkInterfaces } from 'node:os';
import type { PodName } from '../model/outcome.ts';
import { canonicalIp } from '../parse/address.ts';
import { type Refusal, refuse } from './refusal.ts';
import type { PodIdentity, Reviewer } from './token.ts';

export type AuthMode = 'token' | 'source-ip' | 'none';

export interface ReadRequest {
  /** The `Authorization` header. */
  authorization?: string | undefined;
  /** The other end of the TCP connection. */
  peer: string;
  /** The requested addresses. */
  src: readonly string[];
}

export type Permission = { ok: true } | Refusal;

/** Decides whether a reader may read the records of the requested addresses. */
export interface Authorizer {
  authorize(request: ReadRequest): Promise<Permission>;
}

export interface TokenMode {
  mode: 'token';
  reviewer: Reviewer;
  /** Names of addresses from the API server: `createNames(…)`. */
  names: { podsAt(ip: string): PodName[]; readonly synced: boolean };
  /** This node's name in Kubernetes; undefined or empty: unknown. */
  node: string | undefined;
}

/** `isLocal`: whether an address is this node's own; read from its interfaces unless given. */
export type AuthorizerOptions = ({ mode: 'none' | 'source-ip' } | TokenMode) & {
  isLocal?: (ip: string) => boolean;
};

/**
 * Who may read the records of which addresses.
 *
 * In every mode but `none` a reader gets the records of the address that it connects from, and of no other. The helper is
 * on the node's network, and packets of a pod to its node are delivered locally: they do not pass the postrouting hook
 * where addresses are masqueraded, so the peer address is the pod's. The node's addresses count as one: a reader on the
 * node's network may request all of them.
 *
 * `token` also requires the token of a pod on this node. It refuses an address that EndpointSlices assign to other pods
 * only; an address of the node must be assigned to this pod. A dual-stack pod, which connects from one of its addresses,
 * gets the other too if EndpointSlices assign both to this pod and to no other.
 */
export function createAuthorizer(options: AuthorizerOptions): Authorizer {
  const isLocal = options.isLocal ?? localAddresses();
  return {
    async authorize({ authorization, peer, src }) {
      if (options.mode === 'none') return { ok: true };
      const token = bearer(authorization);
      if (options.mode === 'token' && token === undefined) {
        return refuse(
          401,
          'token-missing',
          'a bearer token is needed',
          'start the sidecar with --token-file /var/run/secrets/realpod/token',
        );
      }
      const from = plainIp(peer);
      const asked = src.map(plainIp);
      const local = isLocal(from);
      const others = asked.filter((ip) => ip !== from && !(local && isLocal(ip)));
      const mayHave = (ip: string): boolean =>
        options.mode === 'token' && options.names.podsAt(ip).length > 0;
      if (asked.length === 0 || !others.every(mayHave)) return notYours(from, asked);
      if (options.mode !== 'token' || token === undefined) return { ok: true };
      const review = await options.reviewer.review(token, from);
      if (!review.ok) return review;
      if (others.length > 0 && ![from, ...others].every((ip) => isOnly(review.identity, ip, options))) {
        return notYours(from, asked);
      }
      return judge(review.identity, [...new Set([from, ...asked])], local, options) ?? { ok: true };
    },
  };
}

/** Whether EndpointSlices assign the address to this pod on this node, and to no other pod. */
function isOnly({ pod, namespace }: PodIdentity, ip: string, { names, node }: TokenMode): boolean {
  const there = names.podsAt(ip);
  return (
    there.length > 0 &&
    there.every((claim) => claim.pod === pod && claim.namespace === namespace) &&
    there.every((claim) => claim.node === '' || !node || claim.node === node)
  );
}

function notYours(from: string, asked: readonly string[]): Refusal {
  return refuse(
    403,
    'address-not-yours',
    `the request comes from ${from}, which may not read the records of ${asked.join(', ').slice(0, 200) || 'no address'}`,
    'ask for the pod’s own address, from that address; its address of the other family needs a dual-stack Service (a headless one is enough); a proxy or address translation between pod and node is not supported',
  );
}

/**
 * Why the pod of the token may not read the records of `addresses`: one address, or several of the node's (`local`).
 * Neither the token's node nor the EndpointSlices of the address may contradict, and one of them must confirm.
 */
function judge(
  { namespace, pod, node: tokenNode }: PodIdentity,
  addresses: readonly string[],
  local: boolean,
  { names, node }: TokenMode,
): Refusal | undefined {
  const there = addresses.flatMap((ip) => names.podsAt(ip));
  const placed = there.find((claim) => claim.pod === pod && claim.namespace === namespace);
  const itsNode = tokenNode ?? placed?.node;
  if (itsNode && node && itsNode !== node) {
    return refuse(
      403,
      'pod-of-another-node',
      `pod ${namespace}/${pod} is on node ${itsNode}, this helper is on ${node}`,
      'set --helper to http://$(HOST_IP):9797 with HOST_IP from status.hostIP',
    );
  }
  if (placed) return undefined;
  if (there.length > 0 && !local) {
    return refuse(
      403,
      'address-of-another-pod',
      `${addresses.join(', ')} is not an address of pod ${namespace}/${pod}`,
      'if the pod has just started, this ends by itself within seconds',
    );
  }
  if (tokenNode && node && !local) return undefined;
  if (!names.synced) {
    return refuse(503, 'names-not-ready', 'the helper has not learned the pods yet', 'try again in a second');
  }
  if (local) {
    return refuse(
      403,
      'address-of-the-node',
      `the request comes from the node’s own address, and no EndpointSlice places pod ${namespace}/${pod} there`,
      'put the hostNetwork pod behind a Service (a headless one is enough), or start the helper with --auth source-ip',
    );
  }
  return refuse(
    403,
    'pod-of-another-node',
    `nothing says that pod ${namespace}/${pod} is on this node`,
    'Kubernetes before 1.30 does not put the node into tokens: put the pod behind a Service; and give the helper its node’s name',
  );
}

/** RFC 6750, section 2.1. */
function bearer(authorization: string | undefined): string | undefined {
  if (authorization?.slice(0, 7).toLowerCase() !== 'bearer ') return undefined;
  return authorization.slice(7).trim() || undefined;
}

/** Canonical text; an IPv4 peer of a dual-stack socket (`::ffff:10.0.0.1`) becomes IPv4, a zone is cut off. */
function plainIp(text: string): string {
  const percent = text.indexOf('%');
  const bare = percent < 0 ? text : text.slice(0, percent);
  const ip = canonicalIp(bare) ?? bare;
  return ip.startsWith('::ffff:') && isIP(ip.slice(7)) === 4 ? ip.slice(7) : ip;
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

/** The addresses of this network namespace, refreshed after 10 s. */
function localAddresses(): (ip: string) => boolean {
  let known = new Set<string>();
  let readAt = Number.NEGATIVE_INFINITY;
  return (ip) => {
    const family = isIP(ip);
    if (family === 0) return false;
    if (LOOPBACK.check(ip, family === 6 ? 'ipv6' : 'ipv4')) return true;
    if (performance.now() - readAt > 10_000) {
      known = new Set();
      for (const list of Object.values(networkInterfaces())) {
        for (const { address } of list ?? []) known.add(plainIp(address));
      }
      readAt = performance.now();
    }
    return known.has(ip);
  };
}
