import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/**
 * A stand-in for the Kubernetes API server, for tests and the lab: lists in pages, watches with chunked events and
 * bookmarks, 410 Gone after a compaction, service account tokens and TokenReview. Plain HTTP on loopback.
 *
 * It is written after the API conventions (resource versions, `continue`, watch events, Status objects) and records
 * each call as an RBAC request (verb, group, resource), so that rules can be compared with what is called.
 */

export interface Stored {
  apiVersion: string;
  kind: string;
  metadata: {
    name: string;
    namespace: string;
    resourceVersion?: string;
    labels?: Record<string, string>;
    [more: string]: unknown;
  };
  [more: string]: unknown;
}

export interface TokenSubject {
  namespace: string;
  serviceAccount: string;
  pod?: string;
  uid?: string;
  node?: string;
  audiences: string[];
  /** ms since the epoch */
  expires: number;
}

export interface Call {
  verb: 'list' | 'watch' | 'create';
  group: string;
  resource: string;
  query: URLSearchParams;
}

/** What a test makes go wrong. Each hook is asked at the begin of a request; a status answers it, `hang` never does, `drop` cuts it. */
export type Trouble = (call: Call) => 'drop' | 'hang' | number | undefined;

interface Event {
  type: 'ADDED' | 'MODIFIED' | 'DELETED';
  version: number;
  text: string;
}

interface Collection {
  group: string;
  kind: string;
  objects: Map<string, Stored>;
  events: Event[];
  watchers: Set<ServerResponse>;
}

const KINDS = new Map([
  [
    '/apis/discovery.k8s.io/v1/endpointslices',
    { group: 'discovery.k8s.io', kind: 'EndpointSlice', apiVersion: 'discovery.k8s.io/v1' },
  ],
  ['/api/v1/services', { group: '', kind: 'Service', apiVersion: 'v1' }],
]);
const REVIEWS = '/apis/authentication.k8s.io/v1/tokenreviews';

export class ApiServerStandIn {
  readonly calls: Call[] = [];
  readonly tokens = new Map<string, TokenSubject>();
  trouble: Trouble = () => undefined;
  /** Watch events are sent in chunks of so many bytes. */
  chunkBytes = Number.POSITIVE_INFINITY;
  /** As an authenticator that knows no audiences. */
  ignoreAudiences = false;
  /** The helper's own bearer token. */
  readonly ownToken = 'the-helpers-own-token';
  readonly #collections = new Map<string, Collection>();
  readonly #server: Server;
  readonly #now: () => number;
  readonly #waiting = new Set<() => void>();
  #version = 100;
  #issued = 0;
  #compacted = 0;

  constructor(now: () => number = Date.now) {
    this.#now = now;
    for (const [path, { group, kind }] of KINDS) {
      this.#collections.set(path, { group, kind, objects: new Map(), events: [], watchers: new Set() });
    }
    this.#server = createServer((request, response) => {
      this.#serve(request, response).catch(() => response.destroy());
    });
  }

  async listen(port = 0, host = '127.0.0.1'): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(port, host, resolve));
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  get url(): string {
    const { address, port } = this.#server.address() as AddressInfo;
    return `http://${address}:${port}`;
  }

  /** A kubeconfig for the helper. */
  kubeconfig(token = this.ownToken): string {
    return JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'c',
      contexts: [{ name: 'c', context: { cluster: 'c', user: 'u' } }],
      clusters: [{ name: 'c', cluster: { server: this.url, 'insecure-skip-tls-verify': true } }],
      users: [{ name: 'u', user: { token } }],
    });
  }

  put(object: Stored): void {
    const collection = this.#collectionOf(object);
    const key = `${object.metadata.namespace}/${object.metadata.name}`;
    const type = collection.objects.has(key) ? 'MODIFIED' : 'ADDED';
    object.metadata.resourceVersion = String(++this.#version);
    collection.objects.set(key, object);
    this.#emit(collection, type, object);
  }

  delete(kind: string, namespace: string, name: string): void {
    const collection = [...this.#collections.values()].find((each) => each.kind === kind);
    const key = `${namespace}/${name}`;
    const object = collection?.objects.get(key);
    if (!collection || !object) throw new Error(`no ${kind} ${key}`);
    collection.objects.delete(key);
    object.metadata.resourceVersion = String(++this.#version);
    this.#emit(collection, 'DELETED', object);
  }

  /** Forgets the past: older resource versions get 410 Gone. */
  compact(): void {
    this.#compacted = this.#version;
    for (const collection of this.#collections.values()) collection.events = [];
  }

  bookmark(): void {
    for (const [path, collection] of this.#collections) {
      const kind = KINDS.get(path);
      const text = JSON.stringify({
        type: 'BOOKMARK',
        object: {
          kind: kind?.kind,
          apiVersion: kind?.apiVersion,
          metadata: { resourceVersion: String(this.#version) },
        },
      });
      for (const watcher of collection.watchers) watcher.write(`${text}\n`);
    }
  }

  /** Cuts every watch in the middle of an event. */
  cutWatches(): void {
    for (const { watchers } of this.#collections.values()) {
      for (const watcher of watchers) {
        watcher.write('{"type":"MODIFIED","object":{"metadata":{"na', () => watcher.destroy());
      }
    }
  }

  /** Ends every watch as a server does when its time is over. */
  endWatches(): void {
    for (const { watchers } of this.#collections.values()) for (const watcher of watchers) watcher.end();
  }

  /** Sends every watch an ERROR event with a Status. */
  failWatches(code: number, message: string): void {
    const text = JSON.stringify({
      type: 'ERROR',
      object: { kind: 'Status', status: 'Failure', code, message },
    });
    for (const { watchers } of this.#collections.values()) {
      for (const watcher of watchers) watcher.end(`${text}\n`);
    }
  }

  /** Resolves when both kinds are watched. */
  async watched(): Promise<void> {
    for (;;) {
      if ([...this.#collections.values()].every(({ watchers }) => watchers.size > 0)) return;
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  #collectionOf(object: Stored): Collection {
    for (const collection of this.#collections.values())
      if (collection.kind === object.kind) return collection;
    throw new Error(`no collection for ${object.kind}`);
  }

  #emit(collection: Collection, type: Event['type'], object: Stored): void {
    const event = { type, version: this.#version, text: `${JSON.stringify({ type, object })}\n` };
    collection.events.push(event);
    if (collection.events.length > 50_000) {
      this.#compacted = Math.max(this.#compacted, collection.events.shift()?.version ?? 0);
    }
    const bytes = Buffer.from(event.text);
    for (const watcher of collection.watchers) {
      for (let at = 0; at < bytes.length; at += this.chunkBytes) {
        watcher.write(bytes.subarray(at, at + this.chunkBytes));
      }
    }
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://stand-in');
    const query = url.searchParams;
    const collection = this.#collections.get(url.pathname);
    const call: Call = collection
      ? {
          verb: query.get('watch') === 'true' ? 'watch' : 'list',
          group: collection.group,
          resource: url.pathname.split('/').pop() ?? '',
          query,
        }
      : { verb: 'create', group: 'authentication.k8s.io', resource: 'tokenreviews', query };
    this.calls.push(call);
    const trouble = this.trouble(call);
    if (trouble === 'hang') return;
    if (trouble === 'drop') {
      request.socket.destroy();
      return;
    }
    if (trouble !== undefined) {
      refuse(response, trouble, 'made to fail');
      return;
    }
    if (request.headers.authorization !== `Bearer ${this.ownToken}`) {
      refuse(response, 401, 'Unauthorized');
      return;
    }
    if (collection && call.verb === 'list') this.#list(url.pathname, collection, query, response);
    else if (collection) this.#watch(collection, query, response);
    else if (url.pathname === REVIEWS && request.method === 'POST') await this.#review(request, response);
    else refuse(response, 404, 'the server could not find the requested resource');
  }

  #list(path: string, collection: Collection, query: URLSearchParams, response: ServerResponse): void {
    const limit = Number(query.get('limit') ?? 0);
    const [at = this.#version, skip = 0] = (query.get('continue') ?? '')
      .split(':')
      .filter(Boolean)
      .map(Number);
    if (at < this.#compacted) {
      refuse(response, 410, 'The provided continue parameter is too old');
      return;
    }
    const all = [...collection.objects.values()];
    const items = limit > 0 ? all.slice(skip, skip + limit) : all;
    const more = skip + items.length < all.length;
    const kind = KINDS.get(path);
    json(response, 200, {
      kind: `${kind?.kind}List`,
      apiVersion: kind?.apiVersion,
      metadata: {
        resourceVersion: String(at),
        ...(more ? { continue: `${at}:${skip + items.length}` } : {}),
      },
      items,
    });
  }

  #watch(collection: Collection, query: URLSearchParams, response: ServerResponse): void {
    const from = Number(query.get('resourceVersion') ?? 0);
    if (from < this.#compacted) {
      refuse(response, 410, `too old resource version: ${from}`);
      return;
    }
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    for (const event of collection.events) if (event.version > from) response.write(event.text);
    collection.watchers.add(response);
    response.on('close', () => collection.watchers.delete(response));
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }

  async #review(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let text = '';
    for await (const chunk of request) text += chunk;
    const { spec } = JSON.parse(text) as { spec: { token: string; audiences: string[] } };
    json(response, 201, this.reviewStatus(spec));
  }

  /** The TokenReview that answers `spec`. */
  reviewStatus(spec: { token: string; audiences: string[] }): object {
    const subject = this.tokens.get(spec.token);
    const audiences = subject?.audiences.filter((each) => spec.audiences.includes(each)) ?? [];
    const good = subject && subject.expires > this.#now() && audiences.length > 0;
    const extra = subject?.pod
      ? {
          'authentication.kubernetes.io/pod-name': [subject.pod],
          'authentication.kubernetes.io/pod-uid': [subject.uid ?? 'uid'],
          ...(subject.node ? { 'authentication.kubernetes.io/node-name': [subject.node] } : {}),
        }
      : {};
    return {
      kind: 'TokenReview',
      apiVersion: 'authentication.k8s.io/v1',
      spec,
      status: good
        ? {
            authenticated: true,
            ...(this.ignoreAudiences ? {} : { audiences }),
            user: {
              username: `system:serviceaccount:${subject.namespace}:${subject.serviceAccount}`,
              groups: ['system:serviceaccounts', 'system:authenticated'],
              extra,
            },
          }
        : { authenticated: false, error: 'invalid bearer token' },
    };
  }

  /** A token with the shape and claims of a projected service account token, known to TokenReview. */
  issue(subject: TokenSubject): string {
    const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
    const claims = {
      aud: subject.audiences,
      exp: subject.expires / 1000,
      sub: `system:serviceaccount:${subject.namespace}:${subject.serviceAccount}`,
    };
    const token = `${part({ alg: 'RS256' })}.${part(claims)}.${part({ n: ++this.#issued })}`;
    this.tokens.set(token, subject);
    return token;
  }
}

function json(response: ServerResponse, status: number, value: object): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(value));
}

function refuse(response: ServerResponse, code: number, message: string): void {
  json(response, code, { kind: 'Status', apiVersion: 'v1', status: 'Failure', message, code });
}

/** An EndpointSlice as the control plane's endpointslice-controller writes it. */
export function slice(
  namespace: string,
  service: string,
  suffix: string,
  endpoints: { ip: string; pod?: string; node?: string; terminating?: boolean }[],
): Stored {
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: `${service}-${suffix}`,
      namespace,
      labels: {
        'endpointslice.kubernetes.io/managed-by': 'endpointslice-controller.k8s.io',
        'kubernetes.io/service-name': service,
      },
    },
    addressType: endpoints[0]?.ip.includes(':') ? 'IPv6' : 'IPv4',
    endpoints: endpoints.map(({ ip, pod, node, terminating = false }) => ({
      addresses: [ip],
      conditions: { ready: !terminating, serving: true, terminating },
      ...(node ? { nodeName: node } : {}),
      ...(pod ? { targetRef: { kind: 'Pod', namespace, name: pod, uid: `uid-of-${pod}` } } : {}),
    })),
    ports: [{ name: '', port: 10000, protocol: 'TCP' }],
  };
}

export function service(namespace: string, name: string, clusterIPs: string[]): Stored {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace },
    spec: {
      clusterIP: clusterIPs[0] ?? 'None',
      clusterIPs: clusterIPs.length > 0 ? clusterIPs : ['None'],
      ports: [{ port: 10000 }],
    },
  };
}
