/** nginx's configuration of a round, and that of the backends behind it. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { FORMATS } from '../lab/kit/formats.ts';
import type { Scene } from '../lab/kit/scene.ts';
import type { ChaosFormat, Place, RoundPlan, ServiceName } from './plan.ts';

export const PLAIN_PORT = 8080;
export const H2_PORT = 8081;
export const TLS_PORT = 8443;
export const SECOND_IP = '10.244.0.170';
const TARGET_TLS: Record<string, number> = { a: 8443, b: 8443, c: 8444, solo: 8444, host: 8443 };

/** Every format ends in a key that finds the line's truth. The product cannot know it for an id. */
const TAIL = '"$lab_key"';
const fields = (text: string): string => text.replace(/ "\$upstream_http_x_pod_ip".*$/, '');
const JSON_FORMAT =
  '{"time":"$time_iso8601","msec":"$msec","request":"$request","status":"$status","upstream":"$upstream_addr","id":"$request_id","took":"$request_time","connect":"$upstream_connect_time","header":"$upstream_header_time","response":"$upstream_response_time","sent":"$upstream_bytes_sent","agent":"$http_user_agent","key":"$lab_key"}';

export function formatOf(name: ChaosFormat): { text: string; escaping: 'default' | 'json' } {
  if (name === 'json') return { text: JSON_FORMAT, escaping: 'json' };
  return { text: `${fields(FORMATS[name])} ${TAIL}`, escaping: 'default' };
}

/** One line a request: key, upstream addresses, the pod of the last answer, what the cache had to do with it. */
export const TRUTH_FORMAT =
  '$request_id\\t$upstream_addr\\t$upstream_http_x_pod_ip:$upstream_http_x_pod_port\\t$upstream_cache_status';

const isGrpc = (plan: RoundPlan, place: Place): boolean => place.upstream === 'h2' && plan.nginx === 'debian';

/** The upstream of a request that is HTTP/1 whatever the place's own requests are. */
const groupOf = (n: number): string => `g${n}`;

function idValue(place: Place): string | undefined {
  if (place.id === 'own') return '$request_id';
  if (place.id === 'chosen') return '$chosen_id';
  return place.id === 'none' ? '""' : undefined;
}

function pass(plan: RoundPlan, place: Place, n: number, lab = '$request_id', uri = ''): string {
  const grpc = isGrpc(plan, place);
  const kind = grpc ? 'grpc' : 'proxy';
  const id = idValue(place);
  const lines = [
    ...(id === undefined ? [] : [`${kind}_set_header X-Request-ID ${id};`]),
    `${kind}_set_header X-Lab-Id ${lab};`,
  ];
  if (!grpc) {
    const version = { 'http1.0': '1.0', 'http1.1': '1.1', tls: '1.1', h2: '2' }[place.upstream];
    lines.push(`proxy_http_version ${version};`);
    if (place.upstream !== 'http1.0' && place.upstream !== 'h2')
      lines.push('proxy_set_header Connection "";');
  }
  const scheme = grpc ? 'grpc' : place.upstream === 'tls' ? 'https' : 'http';
  return `${lines.join(' ')} ${kind}_pass ${scheme}://${groupOf(n)}${grpc ? '' : uri};`;
}

/** What a subrequest of place `n` asks: the place `other`, marked so that it is not taken for the line's own request. */
function sub(plan: RoundPlan, other: number, path: string): string {
  const place = plan.places[other]!;
  const length = isGrpc(plan, place)
    ? ''
    : 'proxy_pass_request_body off; proxy_set_header Content-Length "";';
  return `location = ${path} { internal; ${length} ${pass(plan, place, other, 's-$request_id')} }`;
}

function extraOf(
  plan: RoundPlan,
  place: Place,
  n: number,
): { inside: string; outside: string; uri?: string } {
  const other = plan.places[place.other]!;
  switch (place.extra) {
    case 'auth':
      return { inside: `auth_request /sub${n};`, outside: sub(plan, place.other, `/sub${n}`) };
    case 'mirror':
      return { inside: `mirror /sub${n};`, outside: sub(plan, place.other, `/sub${n}`) };
    case 'post-action':
      return { inside: `post_action /sub${n};`, outside: sub(plan, place.other, `/sub${n}`) };
    case 'accel':
      return {
        inside: '',
        outside: `location /hop${n}/ { internal; ${pass(plan, other, place.other)} }`,
        uri: `/accel/hop${n}/`,
      };
    case 'error-page':
      return {
        inside: `proxy_intercept_errors on; grpc_intercept_errors on; error_page 404 500 502 503 = @error${n};`,
        outside: `location @error${n} { ${pass(plan, other, place.other)} }`,
      };
    case 'retry': {
      const kind = isGrpc(plan, place) ? 'grpc' : 'proxy';
      return {
        inside: `${kind}_next_upstream error timeout http_503 http_500 non_idempotent; ${kind}_next_upstream_tries 3; ${kind}_connect_timeout 300ms;`,
        outside: '',
      };
    }
    case 'cache':
      return {
        inside:
          'proxy_cache lab; proxy_cache_key $uri; proxy_cache_valid 200 404 1s; proxy_cache_use_stale error timeout updating http_500 http_503; proxy_cache_background_update on; proxy_cache_lock on;',
        outside: '',
      };
    case 'slice':
      return isGrpc(plan, place)
        ? { inside: '', outside: '' }
        : {
            inside:
              'slice 16k; proxy_cache lab; proxy_cache_key $uri$slice_range; proxy_set_header Range $slice_range; proxy_cache_valid 200 206 1s;',
            outside: '',
          };
    case 'ssi':
      return {
        inside: '',
        outside: `location /ssi${n}/ { ssi on; ssi_types *; default_type text/html; return 200 '<!--# include virtual="/p${n}/one" --><!--# include virtual="/p${place.other}/two" -->'; }`,
      };
    case 'unlogged':
      return { inside: 'access_log off;', outside: '' };
    case 'unbuffered':
      return { inside: 'proxy_buffering off; proxy_request_buffering off;', outside: '' };
    case 'limit-rate':
      return { inside: 'limit_rate 300k; limit_rate_after 20k;', outside: '' };
    case 'bind': {
      const kind = isGrpc(plan, place) ? 'grpc' : 'proxy';
      return { inside: `${kind}_bind ${SECOND_IP};`, outside: '' };
    }
    default:
      return { inside: '', outside: '' };
  }
}

/** `http { }` of the front. */
export function frontConf(scene: Scene, plan: RoundPlan, dir: string): string {
  const { text, escaping } = formatOf(plan.format);
  const quoted = (format: string): string => `'${format}'`;
  const groups = plan.places.map((place, n) => {
    const { clusterIp, port } = scene.service(place.service);
    const at = `${clusterIp}:${place.upstream === 'tls' ? TARGET_TLS[place.service] : port}`;
    const more = place.extra === 'retry' && place.upstream !== 'tls' ? retried(scene, plan, place) : '';
    const one = more === '' ? `server ${at};` : `server ${at} max_fails=0; ${more}`;
    return `upstream ${groupOf(n)} { ${one} ${place.keep > 0 ? `keepalive ${place.keep};` : ''} }`;
  });
  const locations = plan.places.map((place, n) => {
    const { inside, outside, uri = '' } = extraOf(plan, place, n);
    // nginx 1.22 refuses a second proxy_cache_lock_timeout less than the default only in words; limits keep rounds short.
    return `location /p${n}/ { ${inside} ${pass(plan, place, n, '$request_id', uri)} }\n    ${outside}`;
  });
  const h2 = plan.nginx === 'debian' ? ' http2' : '';
  return `
  map $request_id $lab_key { default $request_id; }
  map $request_id $lab_logged { default 1; "~^[0-4]" 0; }
  map $http_x_request_id $chosen_id { default $http_x_request_id; '' $request_id; }
  log_format lab escape=${escaping} ${quoted(text)};
  log_format truth ${quoted(TRUTH_FORMAT)};
  access_log ${join(dir, 'access.log')} lab ${plan.logParameters};
  access_log ${join(dir, 'truth.log')} truth buffer=64k flush=200ms;
  proxy_cache_path ${join(dir, 'cache')} keys_zone=lab:4m;
  client_max_body_size 64m;
  large_client_header_buffers 8 64k;
  proxy_connect_timeout 1s; grpc_connect_timeout 1s; proxy_read_timeout 5s; grpc_read_timeout 5s;
  proxy_ssl_verify off;
${groups.map((group) => `  ${group}`).join('\n')}
  server {
    listen ${PLAIN_PORT} backlog=4096;
    listen ${H2_PORT}${h2} backlog=4096;
    listen ${TLS_PORT} ssl${h2} backlog=4096;
    ${plan.nginx === 'newest' ? 'http2 on;' : ''}
    ssl_certificate ${join(scene.dir, 'cert.pem')}; ssl_certificate_key ${join(scene.dir, 'key.pem')};
    location = /other { return 200 "no upstream\\n"; }
    location /up/ { proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; proxy_set_header X-Lab-Id $request_id; proxy_set_header X-Request-ID $request_id; proxy_pass http://${scene.service('odd').address}; }
    ${locations.join('\n    ')}
  }`;
}

/** A second and a third try at the same or another Service, by the place's own protocol. */
function retried(scene: Scene, plan: RoundPlan, place: Place): string {
  const other = plan.places[place.other]!.service;
  const reachable: ServiceName = place.upstream === 'h2' && other === 'odd' ? 'a' : other;
  return [reachable, 'a' as const]
    .map((name) => `server ${scene.service(name).address} max_fails=0;`)
    .join(' ');
}

const SAY_WHO = 'add_header X-Pod-Ip $server_addr always; add_header X-Pod-Port $server_port always;';

/** `http { }` of the backends: HTTP/1 and HTTP/2 on each plain port, TLS beside it, the truth in headers and in a log. */
export function backendConf(dir: string, files: string, keys: string): string {
  const statuses = [201, 204, 301, 404, 429, 500, 503];
  return `
  default_type text/plain;
  log_format truth '$http_x_lab_id $server_addr:$server_port - - - $msec $request_time';
  access_log ${join(dir, 'served.log')} truth buffer=64k flush=200ms;
  client_max_body_size 64m;
  large_client_header_buffers 8 64k;
  http2 on;
  ssl_certificate ${join(keys, 'cert.pem')}; ssl_certificate_key ${join(keys, 'key.pem')};
  server {
    listen 10000 backlog=4096; listen 10001 backlog=4096; listen 8443 ssl backlog=4096; listen 8444 ssl backlog=4096;
    ${SAY_WHO}
    location ~ ^/accel/(?<name>[^/]+)/ { ${SAY_WHO} add_header X-Accel-Redirect /$name$request_uri; return 200; }
    location / { return 200 "a short answer, forty bytes with newline\\n"; }
    location ~ /size/(?<bytes>[0-9]+)$ { alias ${files}/$bytes; error_page 405 =200 $uri; }
    location ~ /rate/(?<rate>[0-9]+)$ { alias ${files}/65536; limit_rate $rate; }
${statuses.map((code) => `    location ~ /status/${code}$ { return ${code}; }`).join('\n')}
  }`;
}

/** A script of wrk: what it asks, by chance, with a pause where the rate is low. */
export function bulkScript(plan: RoundPlan, path: string): void {
  const agents = [
    'curl/7.81.0',
    'Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/128.0',
    'kube-probe/1.34',
  ];
  const entries = plan.places.flatMap((place, n) => {
    const odd = place.service === 'odd' || place.service === 'shut';
    const base = place.extra === 'ssi' ? [`/ssi${n}/one`, `/p${n}/two`] : [`/p${n}/same`, `/p${n}/size/512`];
    const some = place.extra === 'error-page' || place.extra === 'retry' ? [`/p${n}/status/503`] : [];
    const sliced = place.extra === 'slice' ? [`/p${n}/size/65536`] : [];
    const cached =
      place.extra === 'cache' ? [1, 2, 3].map((k) => `/p${n}/item/${k}`) : [`/p${n}/item/NUMBER`];
    const targets = [...base, ...cached, ...some, ...sliced, `/p${n}/size/4096`];
    return (odd ? targets.slice(0, 1) : targets)
      .map((target) => `{"GET","${target}"}`)
      .concat(odd ? [] : [`{"POST","/p${n}/form"}`]);
  });
  const pause =
    plan.bulk.perSecond > 0 ? Math.round((1000 * plan.bulk.connections) / plan.bulk.perSecond) : 0;
  writeFileSync(
    path,
    `math.randomseed(${plan.seed})
local targets = { ${[...entries, '{"GET","/other"}'].join(', ')} }
local agents = { ${agents.map((agent) => `"${agent}"`).join(', ')} }
local count = 0
function request()
  count = count + 1
  local t = targets[math.random(#targets)]
  local headers = { ["User-Agent"] = agents[math.random(#agents)] }
  if math.random(4) == 1 then headers["Referer"] = "http://lab/" .. math.random(50) end
  if math.random(${plan.clientIdOneIn}) == 1 then headers["X-Request-ID"] = string.format("%032x", math.random(20)) end
  ${plan.bulk.keepalive ? '' : 'headers["Connection"] = "close"'}
  local body = nil
  if t[1] == "POST" then body = string.rep("b", math.random(900)) end
  return wrk.format(t[1], string.gsub(t[2], "NUMBER", count), headers, body)
end
${pause > 0 ? `function delay() return math.random(${pause}) + ${Math.round(pause / 2)} end` : ''}
`,
  );
}
