/**
 * Blocks and nginx's inheritance. All lines of a directive (access_log, proxy_set_header, …) come from the innermost level
 * that has at least one; nginx does not merge levels.
 */
import type { Directive, Token } from './parse-conf.ts';

/** A directive of a block, and the line of the block that it comes from (an `include`, or the directive). */
export interface Entry {
  directive: Directive;
  anchor: Directive;
}

export interface Scope {
  kind: string;
  /** The block; undefined for the top of a file. */
  node: Directive | undefined;
  entries: readonly Entry[];
  /** The directives of `entries` by name, for look-ups in files of thousands of servers. */
  byName: ReadonlyMap<string, readonly Directive[]>;
  /** Includes of this block that were not read. */
  unread: readonly string[];
}

/** Whether the file at this path of an `include` has no directive that matters here. */
export function isHarmless(path: string): boolean {
  return HARMLESS.test(path);
}

/** Files with MIME types or FastCGI-like parameters only. */
const HARMLESS =
  /(^|\/)(mime\.types|(fastcgi|uwsgi|scgi)_params|fastcgi(-php)?\.conf|modules-enabled\/[^/]*|modules\/[^/]*)$/;

function flatten(
  children: readonly Directive[],
  anchor: Directive | undefined,
  into: Entry[],
  unread: string[],
): void {
  for (const directive of children) {
    const from = anchor ?? directive;
    if (directive.included) {
      flatten(directive.included, from, into, unread);
    } else if (directive.name === 'include') {
      const pattern = directive.args[0]?.text ?? '';
      if (directive.included === null && !HARMLESS.test(pattern)) unread.push(pattern);
    } else {
      into.push({ directive, anchor: from });
    }
  }
}

export function scopeOf(kind: string, node: Directive | undefined, children: readonly Directive[]): Scope {
  const entries: Entry[] = [];
  const unread: string[] = [];
  flatten(children, undefined, entries, unread);
  const byName = new Map<string, Directive[]>();
  for (const { directive } of entries) {
    const same = byName.get(directive.name);
    if (same) same.push(directive);
    else byName.set(directive.name, [directive]);
  }
  return { kind, node, entries, byName, unread };
}

export function blockScope(node: Directive): Scope {
  return scopeOf(node.name, node, node.children ?? []);
}

export function own(scope: Scope, name: string): readonly Directive[] {
  return scope.byName.get(name) ?? [];
}

/** From the outermost block to the innermost. */
export type Chain = readonly Scope[];

export interface Inherited {
  directives: readonly Directive[];
  /** Undefined if no level has it: nginx's default applies. */
  scope: Scope | undefined;
  /** An include of an inner level was not read and may replace all of them. */
  unsure: string | undefined;
}

export function inherited(chain: Chain, name: string): Inherited {
  let unsure: string | undefined;
  for (const scope of [...chain].reverse()) {
    const directives = own(scope, name);
    if (directives.length > 0) return { directives, scope, unsure };
    unsure ??= scope.unread[0];
  }
  return { directives: [], scope: undefined, unsure };
}

/** First argument of a directive that a level has at most once. */
export function value(chain: Chain, name: string): string | undefined {
  return inherited(chain, name).directives.at(-1)?.args[0]?.text;
}

export function words(args: readonly Token[]): string {
  return args.map((a) => a.text).join(' ');
}

/** A location that passes requests or connections to another server. */
export interface Route {
  http: boolean;
  server: Scope;
  /** http or stream, server, locations from the outermost to the innermost, then an `if` or `limit_except` block. */
  chain: Chain;
  pass: Directive;
}

const PASSES: ReadonlySet<string> = new Set([
  'proxy_pass',
  'grpc_pass',
  'fastcgi_pass',
  'uwsgi_pass',
  'scgi_pass',
  'memcached_pass',
]);
const INNER: ReadonlySet<string> = new Set(['location', 'if', 'limit_except']);

function walk(http: boolean, server: Scope, chain: Chain, into: Route[]): void {
  const scope = chain.at(-1)!;
  for (const { directive } of scope.entries) {
    if (PASSES.has(directive.name)) into.push({ http, server, chain, pass: directive });
    if (INNER.has(directive.name)) walk(http, server, [...chain, blockScope(directive)], into);
  }
}

export interface Model {
  http: Scope | undefined;
  stream: Scope | undefined;
  routes: readonly Route[];
  servers: number;
  unread: readonly string[];
}

/** A file for conf.d, with `server` at its top, is read as the contents of `http`. */
export function modelOf(root: readonly Directive[]): Model | undefined {
  const top = scopeOf('main', undefined, root);
  const httpNode = own(top, 'http')[0];
  const streamNode = own(top, 'stream')[0];
  const fragment = !httpNode && !streamNode && own(top, 'server').length > 0;
  if (!httpNode && !streamNode && !fragment && own(top, 'events').length === 0) return undefined;

  const http = fragment ? { ...top, kind: 'http' } : httpNode && blockScope(httpNode);
  const stream = streamNode && blockScope(streamNode);
  const routes: Route[] = [];
  const unread = new Set(top.unread);
  let servers = 0;
  for (const outer of [http, stream]) {
    if (!outer) continue;
    for (const name of outer.unread) unread.add(name);
    for (const node of own(outer, 'server')) {
      const server = blockScope(node);
      servers++;
      walk(outer === http, server, [outer, server], routes);
      collectUnread(server, unread);
    }
  }
  return { http, stream, routes, servers, unread: [...unread] };
}

function collectUnread(scope: Scope, into: Set<string>): void {
  for (const name of scope.unread) into.add(name);
  for (const { directive } of scope.entries) {
    if (INNER.has(directive.name)) collectUnread(blockScope(directive), into);
  }
}
