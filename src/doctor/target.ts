/** Finds the target of a `*_pass`, and whether the tap can read a request to it. */
import type { Directive } from './parse-conf.ts';
import { blockScope, type Chain, own, type Route, type Scope, value } from './scope.ts';

/** Why the tap cannot read the request id on the wire. */
export type Unreadable = 'tls' | 'maybe-tls' | 'fastcgi' | 'uwsgi' | 'scgi' | 'memcached' | 'tcp' | 'udp';

export interface Target {
  /** The text in the configuration. */
  text: string;
  /** Host and port, or an upstream's name; for comparing targets. */
  authority: string;
  /** Host and port have variables: known only at run time. */
  variable: boolean;
  /** Members, if the authority is an `upstream` block. */
  members: readonly string[] | undefined;
  upstream: Scope | undefined;
  /** A unix socket or the loopback: nginx's pod, without a Service. */
  local: boolean;
  unreadable: Unreadable | undefined;
  /** HTTP/2 without TLS: of its requests the id is read, and nothing else. */
  http2: boolean;
}

const DEFAULT_PORT: Readonly<Record<string, string>> = { http: '80', https: '443', grpc: '80', grpcs: '443' };

interface Parts {
  scheme: string;
  authority: string;
  uri: string;
}

/** `scheme://authority/uri`; a variable whose value is a path ends the authority too. */
function split(text: string): Parts {
  const sep = text.indexOf('://');
  const scheme = sep < 0 ? '' : text.slice(0, sep).toLowerCase();
  const rest = sep < 0 ? text : text.slice(sep + 3);
  if (rest.startsWith('unix:')) {
    const end = rest.indexOf(':', 5);
    return {
      scheme,
      authority: end < 0 ? rest : rest.slice(0, end),
      uri: end < 0 ? '' : rest.slice(end + 1),
    };
  }
  const end = rest.search(/[/?]|\$(?:request_uri|uri|document_uri|is_args|args)\b/);
  return end < 0
    ? { scheme, authority: rest, uri: '' }
    : { scheme, authority: rest.slice(0, end), uri: rest.slice(end) };
}

function isLocal(host: string): boolean {
  return host.startsWith('unix:') || /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?$/.test(host);
}

function unreadableOf(route: Route, scheme: string): Unreadable | undefined {
  if (!route.http) {
    const udp = own(route.server, 'listen').some((l) => l.args.some((a) => a.text === 'udp'));
    return udp ? 'udp' : 'tcp';
  }
  const protocol = route.pass.name.slice(0, -'_pass'.length);
  if (protocol === 'grpc') return scheme === 'grpcs' ? 'tls' : undefined;
  if (protocol !== 'proxy') return protocol as Unreadable;
  if (scheme === 'https') return 'tls';
  return scheme === 'http' ? undefined : 'maybe-tls';
}

function isHttp2({ http, pass, chain }: Route): boolean {
  return http && (pass.name === 'grpc_pass' || value(chain, 'proxy_http_version')?.startsWith('2') === true);
}

/** Replaces a variable by its value if a single `set` in the same blocks sets it; variables in that value stay. */
function literal(chain: Chain, text: string): string {
  return text.replace(/\$\{?([a-zA-Z0-9_]+)\}?/g, (all, name: string) => {
    const sets = chain.flatMap((s) => own(s, 'set')).filter((d) => d.args[0]?.text === `$${name}`);
    const given = sets.length === 1 ? sets[0]?.args[1]?.text : undefined;
    return given !== undefined && !given.includes(all) ? given : all;
  });
}

export function targetOf(route: Route): Target {
  const written = route.pass.args[0]?.text ?? '';
  const { scheme, authority: raw } = split(literal(route.chain, written));
  const upstream = own(route.chain[0]!, 'upstream').find((u) => u.args[0]?.text === raw);
  const scope = upstream && blockScope(upstream);
  const members = scope && own(scope, 'server').map((s: Directive) => s.args[0]?.text ?? '');
  const port = DEFAULT_PORT[scheme];
  return {
    text: written,
    authority: upstream || raw.startsWith('unix:') || /:\d+$/.test(raw) || !port ? raw : `${raw}:${port}`,
    variable: raw.includes('$'),
    members,
    upstream: scope,
    local: members && members.length > 0 ? members.every(isLocal) : isLocal(raw),
    unreadable: unreadableOf(route, scheme),
    http2: isHttp2(route),
  };
}

/** Whether both texts name the same Service. Undefined: one of them is known only at run time. */
export function sameTarget(a: Target, b: Target): boolean | undefined {
  if (a.authority === b.authority) return true;
  if (a.variable || b.variable) return undefined;
  const hosts = (t: Target) => (t.members ?? [t.authority]).map((m) => (/:\d+$/.test(m) ? m : `${m}:80`));
  const left = new Set(hosts(a));
  return hosts(b).some((h) => left.has(h));
}

/**
 * Whether a connection can have more than one request.
 * `by-version`: it depends on nginx, which keeps upstream connections open by default since 1.29.7.
 */
export function keepalive(
  route: Route,
  target: Target,
  connection: string | undefined,
): 'yes' | 'no' | 'by-version' {
  const version = value(route.chain, 'proxy_http_version');
  const lines = target.upstream ? own(target.upstream, 'keepalive') : [];
  if (version === '1.0' || lines.some((l) => l.args[0]?.text === '0')) return 'no';
  if (connection !== undefined && connection.toLowerCase() === 'close') return 'no';
  return lines.length > 0 && version !== undefined && connection === '' ? 'yes' : 'by-version';
}
