/**
 * Finds what nginx sends unchanged to an upstream address, and whether the log has every request that it sends there. Used
 * by evidence that compares the pod's request with the line. Unknown directives count as changed and not logged. Pure.
 */
import type { Directive } from './parse-conf.ts';
import { inherited, isHarmless, type Model, own, type Route, type Scope, value } from './scope.ts';
import { targetOf } from './target.ts';

export interface PassedOn {
  /**
   * nginx sends the request's target unchanged. The line may have it in absolute form (`GET http://host/path`), of which
   * nginx sends the path. A line with ` : ` in `$upstream_addr` was redirected inside nginx: its target may differ.
   */
  target: boolean;
  userAgent: boolean;
  referer: boolean;
  /** Each request to this address is HTTP/1 without TLS and writes a line of its own into the log. */
  allLogged: boolean;
}

export const NOTHING_KNOWN: PassedOn = { target: false, userAgent: false, referer: false, allLogged: false };

/** `address`: as in `$upstream_addr`, such as `10.105.148.194:10000`. */
export type PassedOnTo = (address: string) => PassedOn;

/** Directives that neither change a request to the backend nor send another one. */
const UNDERSTOOD: ReadonlySet<string> = new Set(
  `absolute_redirect access_log add_header aio alias allow auth_basic auth_basic_user_file autoindex charset
  charset_types chunked_transfer_encoding client_body_buffer_size client_body_temp_path client_body_timeout
  client_header_buffer_size client_header_timeout client_max_body_size default_type deny directio error_log error_page
  etag expires fair fastcgi_temp_path geo grpc_connect_timeout grpc_read_timeout grpc_send_timeout gzip gzip_buffers
  gzip_comp_level gzip_disable gzip_http_version gzip_min_length gzip_proxied gzip_static gzip_types gzip_vary hash
  http2 if if_modified_since ignore_invalid_headers include index internal ip_hash keepalive keepalive_requests
  keepalive_time keepalive_timeout large_client_header_buffers least_conn limit_conn limit_conn_log_level
  limit_conn_status limit_conn_zone limit_except limit_rate limit_rate_after limit_req limit_req_log_level
  limit_req_status limit_req_zone lingering_close lingering_time lingering_timeout listen location log_format
  log_not_found map map_hash_bucket_size map_hash_max_size max_ranges merge_slashes open_file_cache
  open_file_cache_errors open_file_cache_min_uses open_file_cache_valid output_buffers port_in_redirect
  postpone_output proxy_bind proxy_buffer_size proxy_buffering proxy_buffers proxy_busy_buffers_size proxy_cache_path
  proxy_connect_timeout proxy_cookie_domain proxy_cookie_path proxy_headers_hash_bucket_size
  proxy_headers_hash_max_size proxy_hide_header proxy_http_version proxy_ignore_client_abort proxy_intercept_errors
  proxy_limit_rate proxy_max_temp_file_size proxy_next_upstream proxy_next_upstream_timeout proxy_next_upstream_tries
  proxy_pass proxy_pass_header proxy_read_timeout proxy_redirect proxy_request_buffering proxy_send_lowat
  proxy_send_timeout proxy_set_header proxy_socket_keepalive proxy_ssl_verify proxy_temp_file_write_size
  proxy_temp_path random read_ahead real_ip_header real_ip_recursive recursive_error_pages reset_timedout_connection
  resolver resolver_timeout return root satisfy scgi_temp_path send_timeout sendfile sendfile_max_chunk server
  server_name server_name_in_redirect server_names_hash_bucket_size server_names_hash_max_size server_tokens set
  set_real_ip_from ssl_certificate ssl_certificate_key ssl_ciphers ssl_dhparam ssl_early_data
  ssl_prefer_server_ciphers ssl_protocols ssl_session_cache ssl_session_tickets ssl_session_timeout ssl_stapling
  ssl_stapling_verify ssl_trusted_certificate stub_status tcp_nodelay tcp_nopush types types_hash_bucket_size
  types_hash_max_size underscores_in_headers upstream uwsgi_temp_path variables_hash_bucket_size
  variables_hash_max_size zone`.split(/\s+/),
);
/** Known directives that change the target of a request. */
const REDIRECTING: ReadonlySet<string> = new Set(['rewrite', 'try_files']);
/** Blocks with entries that are data, not directives. */
const DATA: ReadonlySet<string> = new Set(['map', 'geo', 'types', 'split_clients']);

/** `followed`: path of the log that is read. */
export function passedOnTo(model: Model, followed: string): PassedOnTo {
  const readable = model.unread.length === 0 && model.stream === undefined && model.http !== undefined;
  const routes =
    readable && model.http && understood(model.http.entries.map(({ directive }) => directive))
      ? model.routes.map((route) => ({ route, target: targetOf(route), says: passedBy(route, followed) }))
      : [];
  return (address) => {
    const reaching = routes.filter(({ target }) => mayLeadTo(target.members ?? [target.authority], address));
    if (reaching.length === 0) return NOTHING_KNOWN;
    const all = (key: keyof PassedOn): boolean => reaching.every(({ says }) => says[key]);
    return {
      target: all('target'),
      userAgent: all('userAgent'),
      referer: all('referer'),
      allLogged: all('allLogged'),
    };
  };
}

function understood(directives: readonly Directive[]): boolean {
  return directives.every(
    ({ name, args, children, included }) =>
      (UNDERSTOOD.has(name) || REDIRECTING.has(name)) &&
      (included !== null || isHarmless(args[0]?.text ?? '')) &&
      !(name === 'set' && /^\$\{?(args|uri|document_uri|query_string)\b/.test(args[0]?.text ?? '')) &&
      (DATA.has(name) || understood(children ?? included ?? [])),
  );
}

/** A host name, or an IPv6 address, which has several spellings, may lead to any address with its port. */
function mayLeadTo(members: readonly string[], address: string): boolean {
  const [host, port] = hostAndPort(address);
  return members.some((member) => {
    if (member.startsWith('unix:')) return false;
    if (member.includes('$')) return true;
    const [memberHost, memberPort] = hostAndPort(member);
    const isOther = IPV4.test(host)
      ? IPV4.test(memberHost) || memberHost.startsWith('[')
      : IPV4.test(memberHost);
    return memberPort === port && (memberHost === host || !isOther);
  });
}

const IPV4 = /^\d+\.\d+\.\d+\.\d+$/;

/** nginx accepts numbers with zeros before them. */
function hostAndPort(text: string): [string, number] {
  const [, host = text, port = '80'] = /^(\[[^\]]*\]|[^:[]*)(?::(\d+))?$/.exec(text) ?? [];
  return [IPV4.test(host) ? host.split('.').map(Number).join('.') : host, Number(port)];
}

function passedBy(route: Route, followed: string): PassedOn {
  const { chain, http, server } = route;
  const target = targetOf(route);
  if (!http || target.unreadable !== undefined || target.http2 || target.variable) return NOTHING_KNOWN;
  const headers = inherited(chain, 'proxy_set_header');
  const sets = (name: string): boolean =>
    headers.directives.some(({ args }) => args[0]?.text.toLowerCase() === name);
  const untouched = headers.unsure === undefined && value(chain, 'proxy_pass_request_headers') === undefined;
  return {
    target: !target.text.includes('$') && !hasUri(target.text) && !redirects(server, chain),
    userAgent: untouched && !sets('user-agent'),
    referer: untouched && !sets('referer'),
    allLogged: logged(route, followed),
  };
}

function hasUri(pass: string): boolean {
  return /^[a-z]+:\/\/[^/?]*[/?]/i.test(pass);
}

function logged({ chain }: Route, followed: string): boolean {
  const logs = inherited(chain, 'access_log');
  return (
    logs.unsure === undefined &&
    logs.directives.some(
      ({ args }) => args[0]?.text === followed && !args.some(({ text }) => text.startsWith('if=')),
    )
  );
}

/** Whether a request of this server can reach a proxying location with a changed target. */
function redirects(server: Scope, chain: Route['chain']): boolean {
  const all = directivesBelow(server.entries.map(({ directive }) => directive));
  if (all.some(({ name }) => REDIRECTING.has(name))) return true;
  const locations = all.filter(({ name }) => name === 'location');
  const exactWithoutPass = (uri: string): boolean =>
    locations.some(
      ({ args, children }) => args[0]?.text === '=' && args[1]?.text === uri && !passes(children ?? []),
    );
  const errors = all.filter(({ name }) => name === 'error_page').map(({ args }) => args.at(-1)?.text ?? '');
  if (errors.some((uri) => !/^https?:\/\//.test(uri) && !exactWithoutPass(uri))) return true;
  return indexReaches(server, all, chain);
}

/**
 * `index` sends a request for a directory to a file in it, `/dir/` to `/dir/index.html`, which another location may proxy
 * (src/http/modules/ngx_http_index_module.c). Where in doubt, it does.
 */
function indexReaches(server: Scope, all: readonly Directive[], chain: Route['chain']): boolean {
  const locations = all.filter(isLocation);
  const proxied = locations.filter(({ children }) => passes(children ?? []));
  const statics = locations.filter((location) => !answersItself(location) && mayBeOfDirectory(location));
  const rootAnswers = own(server, 'location').some((l) => prefixOf(l) === '/' && answersItself(l));
  if (statics.length === 0 && rootAnswers) return false;
  // The file may be in another location than the directory where that is no prefix, or passes requests now and then.
  if (statics.some((l) => prefixOf(l) === undefined || passes((l.children ?? []).filter(isNoLocation))))
    return true;
  const indexes = [...all.filter(({ name }) => name === 'index'), ...chain.flatMap((s) => own(s, 'index'))];
  const files = ['index.html', ...indexes.flatMap(({ args }) => args.map(({ text }) => text))];
  return proxied.some((location) => files.some((file) => mayBeFile(location, file)));
}

/** Whether a location that is no prefix of the directory, or a longer one, may be that of the file in it. */
function mayBeFile(location: Directive, file: string): boolean {
  if (file.startsWith('/') || file.includes('$')) return true;
  const exact = location.args[0]?.text === '=';
  const uri = exact ? location.args[1]?.text : prefixOf(location);
  if (uri === undefined) return true;
  for (let at = uri.indexOf('/'); at >= 0; at = uri.indexOf('/', at + 1)) {
    const rest = uri.slice(at + 1);
    if (rest !== '' && (exact ? file === rest : file.startsWith(rest))) return true;
  }
  return false;
}

const isLocation = ({ name }: Directive): boolean => name === 'location';
const isNoLocation = ({ name }: Directive): boolean => name !== 'location';

/** Undefined for an exact location and for one by a regular expression. */
function prefixOf({ args }: Directive): string | undefined {
  return args.length === 1 || args[0]?.text === '^~' ? args.at(-1)?.text : undefined;
}

/** It passes every request on, or answers or refuses it, before a file is looked for. */
function answersItself({ children }: Directive): boolean {
  return (children ?? []).some(
    ({ name, args }) =>
      name.endsWith('_pass') || name === 'return' || (name === 'deny' && args[0]?.text === 'all'),
  );
}

/** A directory's URI ends with a slash. */
function mayBeOfDirectory(location: Directive): boolean {
  const [first, uri] = location.args.map(({ text }) => text);
  if (first === '=') return uri?.endsWith('/') !== false;
  // Such as `~* \.(js|css)$`.
  return prefixOf(location) !== undefined || !/^[^|]*((?<!\\)\w|\([\w|]*\w\))\$$/.test(uri ?? '');
}

function passes(directives: readonly Directive[]): boolean {
  return directivesBelow(directives).some(({ name }) => name.endsWith('_pass'));
}

function directivesBelow(directives: readonly Directive[]): Directive[] {
  return directives.flatMap((d) => [d, ...directivesBelow(d.included ?? d.children ?? [])]);
}
