/** Finds requests whose id `mirror` and `auth_request` send again: $request_id is the same in subrequests. */
import type { Directive } from './parse-conf.ts';
import { headerValue, type IdNames } from './request-id.ts';
import { blockScope, type Chain, inherited, own, type Route, type Scope, value } from './scope.ts';
import { sameTarget, type Target, targetOf } from './target.ts';

export interface Repeat {
  by: 'mirror' | 'auth_request';
  uri: string;
  /** The location that sends it, and the blocks around it. */
  chain: Chain;
  /** It goes to the same Service, so the two cannot be distinguished. Undefined: known only at run time. */
  same: boolean | undefined;
  /** The location gets subrequests only, which write no line: changing the id here does no harm. */
  private: boolean;
}

function locationsOf(server: Scope): readonly Directive[] {
  return own(server, 'location');
}

/** The location that nginx selects for an internal URI, by prefixes only. */
function locationFor(server: Scope, uri: string): Directive | undefined {
  const path = uri.split('?')[0]!;
  let found: Directive | undefined;
  let length = -1;
  for (const location of locationsOf(server)) {
    const last = location.args.at(-1)?.text ?? '';
    const modifier = location.args.length > 1 ? location.args[0]?.text : '';
    if (modifier === '=' && last === path) return location;
    if ((modifier === '' || modifier === '^~') && path.startsWith(last) && last.length > length) {
      found = location;
      length = last.length;
    }
  }
  return found;
}

function urisOf(chain: Chain): { by: Repeat['by']; uri: string }[] {
  const list = (by: Repeat['by']) =>
    inherited(chain, by)
      .directives.map((d) => d.args[0]?.text ?? 'off')
      .filter((uri) => uri !== 'off')
      .map((uri) => ({ by, uri }));
  return [...list('mirror'), ...list('auth_request')];
}

/** Subrequests of this location with the same value of the header, or none. */
export function repeatsOf(route: Route, target: Target, names: IdNames): Repeat[] {
  if (!route.http) return [];
  const repeats: Repeat[] = [];
  for (const { by, uri } of urisOf(route.chain)) {
    const location = locationFor(route.server, uri);
    if (!location) continue;
    const scope = blockScope(location);
    const chain = [route.chain[0]!, route.server, scope];
    const pass = own(scope, 'proxy_pass')[0] ?? own(scope, 'grpc_pass')[0];
    const id = headerValue(chain, names.header);
    const told = id !== undefined && id !== '' && id !== headerValue(route.chain, names.header);
    const itself = location === route.chain[2]?.node;
    if (!pass || itself || told) continue;
    const other: Route = { http: true, server: route.server, chain, pass };
    repeats.push({
      by,
      uri,
      chain,
      same: sameTarget(target, targetOf(other)),
      private: subrequestOnly(other),
    });
  }
  return repeats;
}

/** Whether a directive other than mirror and auth_request has this URI, so that a request can be redirected to it. */
function isNamed(directives: readonly Directive[], uri: string): boolean {
  return directives.some(
    (d) =>
      (d.name !== 'mirror' &&
        d.name !== 'auth_request' &&
        d.name !== 'location' &&
        d.args.some((a) => a.text === uri)) ||
      isNamed(d.children ?? d.included ?? [], uri),
  );
}

function asks(directives: readonly Directive[], location: Directive, server: Scope): boolean {
  return directives.some(
    (d) =>
      ((d.name === 'mirror' || d.name === 'auth_request') &&
        locationFor(server, d.args[0]?.text ?? '') === location) ||
      asks(d.children ?? d.included ?? [], location, server),
  );
}

/** Whether the location gets only subrequests, none of which is logged. */
export function subrequestOnly(route: Route): boolean {
  const location = route.chain[2]?.node;
  if (route.chain.length !== 3 || !location || own(route.chain[2]!, 'internal').length === 0) return false;
  if (value(route.chain, 'log_subrequest') === 'on') return false;
  const uri = location.args.at(-1)?.text ?? '';
  const directives = [
    ...route.chain[0]!.entries.filter((e) => e.directive.name !== 'server'),
    ...route.server.entries,
  ].map((e) => e.directive);
  if (isNamed(directives, uri)) return false;
  return asks(directives, location, route.server) || luaCaptures(directives, uri);
}

/** Whether Lua in the configuration requests this location by `ngx.location.capture`. */
function luaCaptures(directives: readonly Directive[], uri: string): boolean {
  return directives.some(({ name, file, open, end, children, included }) => {
    if (open === undefined || !name.endsWith('_by_lua_block')) {
      return luaCaptures(included ?? children ?? [], uri);
    }
    const lua = file.text.slice(open, end);
    return (
      /location\.capture/.test(lua) &&
      uri.length > 1 &&
      lua.includes(uri.replace(/\/$/, '')) &&
      !/ngx\.exec\b/.test(lua)
    );
  });
}

/**
 * The first script in a separate file if the location is internal and no directive that was read leads there: the script may
 * send subrequests, which are not logged, or redirects, which are.
 */
export function scriptThatMayReach(route: Route): Directive | undefined {
  const location = route.chain[2]?.node;
  if (route.chain.length !== 3 || !location || own(route.chain[2]!, 'internal').length === 0)
    return undefined;
  const directives = [
    ...route.chain[0]!.entries.filter((e) => e.directive.name !== 'server'),
    ...route.server.entries,
  ].map((e) => e.directive);
  if (isNamed(directives, location.args.at(-1)?.text ?? '')) return undefined;
  return find(directives, ({ name }) => SCRIPT.test(name));
}

const SCRIPT = /_by_lua_file$|^js_(content|access|import)$|^perl$/;

function find(
  directives: readonly Directive[],
  wanted: (directive: Directive) => boolean,
): Directive | undefined {
  for (const directive of directives) {
    const found = wanted(directive)
      ? directive
      : find(directive.included ?? directive.children ?? [], wanted);
    if (found) return found;
  }
  return undefined;
}
