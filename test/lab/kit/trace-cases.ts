/** What nginx can do while the source `trace` watches it: the scenes of trace.test.ts and trace-soak.ts. */
import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { LoadPlan } from './load.ts';
import type { Session } from './raw.ts';
import type { Bench, ScenarioOptions } from './scenario.ts';
import type { Scene } from './scene.ts';
import { attack, collect, saturate } from './traffic.ts';

export const PROTOCOLS = { fastcgi: 9000, uwsgi: 9001, grpc: 9002, https: 8443 };
const MODULES = '/usr/lib/nginx/modules';

/** Without a sidecar in `trace-soak.ts --connections`. */
export type TrafficBench = Pick<Bench, 'front' | 'sentTo'> & Partial<Pick<Bench, 'sidecar'>>;

export interface TraceCase {
  requests?: LoadPlan['requests'];
  locations?: string;
  http?: string;
  /** Debian's modules that nginx loads, and the package that has them. */
  modules?: { files: readonly string[]; of: string };
  options?: Partial<ScenarioOptions>;
  load?: Partial<LoadPlan>;
  /** More traffic, for about so many seconds. */
  traffic?: (bench: TrafficBench, seconds: number) => Promise<void>;
  /**
   * Least share of the attempts that the trace settles. Default 0.999, without keepalive 0.95: on a full machine a port comes round
   * while its events are read late. Whether every line has its record is judged apart.
   */
  byTrace?: number;
  /** Lines with an answer may have no record: the source was away, or leaves them alone. */
  partly?: boolean;
}

/** `keepalive`: to the pods. */
export type MakeCase = (scene: Scene, keepalive: boolean) => TraceCase;

/** Why the case cannot run here; undefined where it can. */
export function lacks({ modules }: TraceCase): string | undefined {
  const missing = modules?.files.find((file) => !existsSync(`${MODULES}/${file}`));
  return missing === undefined ? undefined : `${missing} is missing (${modules?.of})`;
}

export const loadModules = ({ modules }: TraceCase): string =>
  modules?.files.map((file) => `load_module ${MODULES}/${file};`).join(' ') ?? '';

function group(scene: Scene, name: string, keepalive: boolean, ...services: string[]): string {
  const servers = services.map((service) => `server ${scene.service(service).address} max_fails=0;`);
  return `upstream ${name} { ${servers.join(' ')} ${keepalive ? 'keepalive 64;' : ''} }`;
}

const OTHERS = `
  location /fastcgi/ { fastcgi_param REQUEST_METHOD $request_method; fastcgi_param REQUEST_URI $request_uri; fastcgi_pass svc_fastcgi; }
  location /uwsgi/ { uwsgi_param REQUEST_METHOD $request_method; uwsgi_param REQUEST_URI $request_uri; uwsgi_param CONTENT_LENGTH $content_length; uwsgi_pass svc_uwsgi; }
  location /grpc/ { grpc_pass grpc://svc_grpc; }
  location /https/ { proxy_pass https://svc_https; }`;

const othersHttp = (scene: Scene, keepalive: boolean): string =>
  Object.keys(PROTOCOLS)
    .map((service) => group(scene, `svc_${service}`, keepalive && service !== 'uwsgi', service))
    .concat(keepalive ? 'fastcgi_keep_conn on;' : '')
    .join(' ');

const TWICE = `
  location /both/ { auth_request /second; mirror /copy; proxy_pass http://svc_a; }
  location = /second { internal; proxy_pass_request_body off; proxy_set_header Content-Length ""; proxy_pass http://svc_a/second; }
  location = /copy { internal; proxy_pass http://svc_a/copy; }`;
const AGAIN = 'location /again/ { proxy_next_upstream http_503 error timeout; proxy_pass http://again; }';
const HTTP2 = 'server { listen 8081 http2; location / { proxy_pass http://svc_a; } }';
const MIXED = [
  { path: '/a/{n}', weight: 3 },
  { path: '/a/same', weight: 3 },
  { path: '/a/form/{n}', method: 'POST', bodyBytes: 3_000 },
];

export const TRACE_CASES: Record<string, MakeCase> = {
  'HTTP/1': () => ({ requests: MIXED }),
  IPv6: () => ({ requests: [{ path: '/six/same' }] }),
  'attempts that are tried again': (scene, keepalive) => ({
    http: `${group(scene, 'again', keepalive, 'odd', 'odd', 'odd')} ${group(scene, 'refused', keepalive, 'shut', 'odd')}`,
    locations: `
      location /again/ { proxy_next_upstream http_503 error timeout; proxy_pass http://again; }
      location /refused/ { proxy_pass http://refused; }`,
    requests: [
      { path: '/again/{n}?chance=40&status=503' },
      { path: '/again/{n}?chance=40&do=reset' },
      { path: '/refused/{n}' },
    ],
    // Nothing is written on a connection that is refused.
    byTrace: 0.8,
  }),
  'internal redirects': () => ({
    locations: `
      location /fallback/ { proxy_intercept_errors on; error_page 503 = @same; proxy_pass http://svc_odd; }
      location @same { proxy_pass http://svc_odd; }`,
    requests: [{ path: '/fallback/{n}?chance=50&status=503' }],
  }),
  'X-Accel-Redirect': () => ({
    locations: 'location /accel/ { proxy_pass http://svc_a; }',
    requests: [{ path: '/accel/a/{n}' }, { path: '/accel/odd/{n}' }, { path: '/accel/a/same' }],
  }),
  'other protocols': (scene, keepalive) => ({
    locations: OTHERS,
    http: othersHttp(scene, keepalive),
    requests: Object.keys(PROTOCOLS).flatMap((name) => [
      { path: `/${name}/{n}`, weight: 3 },
      { path: `/${name}/{n}`, method: 'POST', bodyBytes: 3_000 },
    ]),
  }),
  'auth_request and mirror to one Service': () => ({
    locations: TWICE,
    requests: [{ path: '/both/same' }, { path: '/both/{n}' }],
  }),
  SSI: () => ({
    locations: `
      location /page/ { ssi on; ssi_types *; proxy_set_header Accept-Encoding ""; proxy_pass http://svc_a/size/77; }
      location /made/ { ssi on; ssi_types *; default_type text/html; return 200 '<!--# include virtual="/a/one" --><!--# include virtual="/a/two" -->'; }`,
    requests: [{ path: '/page/{n}' }, { path: '/page/same' }, { path: '/made/same' }],
  }),
  'a cache that is updated in the background': (scene) => ({
    http: `proxy_cache_path ${scene.dir}/cache keys_zone=kept:1m;`,
    locations: `location /kept/ { proxy_cache kept; proxy_cache_valid 1s; proxy_cache_use_stale updating; proxy_cache_background_update on; proxy_cache_lock on; proxy_pass http://svc_a; }`,
    requests: [{ path: '/kept/{r40}', weight: 3 }, { path: '/a/same' }],
    load: { ratePerSecond: 600 },
  }),
  'files by threads': () => ({
    http: 'aio threads; aio_write on; proxy_buffers 4 4k; proxy_busy_buffers_size 8k; directio 1;',
    requests: [
      { path: '/a/size/65536', weight: 4 },
      { path: '/a/size/1048576' },
      { path: '/a/same', weight: 4 },
    ],
    load: { total: 800 },
  }),
  'large posts': () => ({
    locations: 'location /direct/ { proxy_request_buffering off; proxy_pass http://svc_odd; }',
    requests: [
      { path: '/a/form/{n}', method: 'POST', bodyBytes: 300_000 },
      { path: '/direct/{n}', method: 'POST', bodyBytes: 200_000 },
      { path: '/a/same', weight: 4 },
    ],
    load: { total: 1_000, connections: 20 },
    byTrace: 0.95,
  }),
  'slow clients and those that leave': () => ({
    requests: [
      { path: '/odd/{n}?delay=300', abortAfterMs: 60 },
      { path: '/odd/{n}?delay=20', weight: 2 },
      { path: '/a/size/65536' },
    ],
    // An attempt of a client that left may have been left before anything was written.
    byTrace: 0.9,
  }),
  'requests in one packet': (scene) => ({
    traffic: async () => {
      const ten = Array.from({ length: 10 }, (_, i) => `GET /a/same${i % 3} HTTP/1.1\r\nHost: lab\r\n\r\n`);
      const session: Session = {
        steps: [{ send: ten.join('') }, { await: '(short answer[^]*){10}' }],
        times: 20,
      };
      await attack(
        scene,
        Array.from({ length: 20 }, () => session),
      );
    },
  }),
  'HTTP/2 clients': (scene) => ({
    http: HTTP2,
    traffic: (_, seconds) => sendHttp2(scene, seconds),
  }),
  'lines that are not written, and lines of subrequests': () => ({
    locations: `
      location /quiet/ { access_log off; proxy_pass http://svc_a; }
      location /told/ { log_subrequest on; auth_request /asked; proxy_pass http://svc_a; }
      location = /asked { log_subrequest on; proxy_pass http://svc_a/asked; }`,
    requests: [{ path: '/quiet/same' }, { path: '/told/same' }, { path: '/a/same', weight: 2 }],
    // Those of subrequests are left to other evidence.
    byTrace: 0.5,
    partly: true,
  }),
  'two logs': (scene) => ({
    locations: `
      location /twice/ { access_log ${scene.dir}/second.log lab; access_log ${scene.dir}/third.log combined; access_log ${scene.dir}/run-access.log lab; proxy_pass http://svc_a; }`,
    requests: [{ path: '/twice/same' }, { path: '/a/same', weight: 3 }],
  }),
  'logs by gzip and syslog beside it': (scene) => ({
    options: {
      logParameters: `; access_log ${scene.dir}/more.gz lab gzip=1 buffer=4k flush=1s; access_log syslog:server=127.0.0.1:5514 lab`,
    },
    requests: MIXED,
  }),
  'a log that is written in pieces': () => ({
    options: { logParameters: 'buffer=4k flush=100ms' },
    requests: [{ path: '/a/same' }, { path: '/a/{n}' }],
  }),
  'a log whose buffer holds one line': () => ({
    options: { logParameters: 'buffer=230 flush=1s' },
    requests: [
      { path: '/a/same' },
      { path: '/a/{n}' },
      { path: '/a/form/{n}', method: 'POST', bodyBytes: 3_000 },
    ],
  }),
  'two logs in large buffers, one under a condition': (scene) => ({
    http: 'map $request_uri $told { ~^/a/[0-4] 0; default 1; }',
    options: {
      logParameters: `buffer=64k flush=1s if=$told; access_log ${scene.dir}/beside.log lab buffer=32k flush=700ms`,
    },
    locations: `location /quiet/ { access_log off; proxy_pass http://svc_a; }`,
    requests: [{ path: '/a/same' }, { path: '/a/{n}' }, { path: '/quiet/same' }, { path: '/six/same' }],
  }),
  'lines of subrequests in a buffer': () => ({
    options: { logParameters: 'buffer=16k flush=500ms' },
    locations: `
      location /told/ { log_subrequest on; auth_request /asked; proxy_pass http://svc_a; }
      location = /asked { log_subrequest on; proxy_pass http://svc_a/asked; }`,
    requests: [{ path: '/told/same' }, { path: '/a/same', weight: 2 }],
    // Those of subrequests are left to other evidence.
    byTrace: 0.5,
    partly: true,
  }),
  'Lua’s own connections': (scene) => ({
    modules: { files: ['ndk_http_module.so', 'ngx_http_lua_module.so'], of: 'libnginx-mod-http-lua' },
    locations: `
      location /lua/ { access_by_lua_block { ${luaAsks(scene.service('a').address)} } proxy_pass http://svc_a; }
      location /luasub/ { content_by_lua_block { local one, two = ngx.location.capture_multi({{"/a/one"}, {"/a/two"}}); ngx.print(one.body, two.body) } }
      location /luaonly/ { content_by_lua_block { ${luaAsks(scene.service('a').address)} ngx.say("done") } }`,
    requests: [
      { path: '/lua/same', weight: 2 },
      { path: '/luasub/same' },
      { path: '/luaonly/same' },
      { path: '/a/same' },
    ],
  }),
  'njs’s own connections': (scene) => ({
    modules: { files: ['ngx_http_js_module.so'], of: 'libnginx-mod-http-js' },
    http: `js_path ${scene.dir}; js_import asks from asks.js;`,
    locations: `
      location /njs/ { auth_request /fetched; proxy_pass http://svc_a; }
      location = /fetched { internal; js_content asks.fetched; }
      location /njssub/ { js_content asks.subrequest; }`,
    requests: [{ path: '/njs/same', weight: 2 }, { path: '/njssub/same' }, { path: '/a/same' }],
  }),
  'flat out': (scene) => ({
    traffic: (_, seconds) =>
      saturate(scene, { connections: 100, seconds, path: '/a/same', front: scene.fronts[0]! }).then(() => {}),
  }),
  'all at once': (scene, keepalive) => ({
    http: `${othersHttp(scene, keepalive)} ${HTTP2} ${group(scene, 'again', keepalive, 'odd', 'odd', 'odd')}`,
    locations: `${OTHERS} ${TWICE} ${AGAIN}
      location /quiet/ { access_log off; proxy_pass http://svc_a; }`,
    requests: [
      ...MIXED,
      { path: '/again/{n}?chance=40&status=503' },
      { path: '/odd/{n}?delay=30', abortAfterMs: 20 },
      { path: '/both/same', weight: 2 },
      { path: '/quiet/same' },
      { path: '/six/same', weight: 2 },
      ...Object.keys(PROTOCOLS).map((name) => ({ path: `/${name}/{n}` })),
    ],
    // A request on a connection that a worker closes at its end would fail.
    load: { keepalive: false },
    traffic: async ({ front: nginx }, seconds) => {
      const all = Promise.all([
        sendHttp2(scene, seconds),
        saturate(scene, { connections: 20, seconds, path: '/a/same', front: scene.fronts[0]! }),
      ]);
      await delay(1_000);
      nginx.signal('reload');
      await all;
    },
    byTrace: 0.9,
  }),
};

function luaAsks(address: string): string {
  const [host, port] = address.split(':');
  return `local s = ngx.socket.tcp(); assert(s:connect("${host}", ${port})); s:send("GET /a/lua HTTP/1.1\\r\\nHost: lab\\r\\n\\r\\n"); s:receive("*l"); s:setkeepalive(1000, 20);`;
}

/** The module of `js_import`. */
export function njsModule(scene: Scene): string {
  return `
async function fetched(r) { const got = await ngx.fetch('http://${scene.service('a').address}/a/fetched'); r.return(got.status === 200 ? 204 : 500); }
async function subrequest(r) { const got = await r.subrequest('/a/sub'); r.return(200, got.responseText); }
export default { fetched, subrequest };
`;
}

/** 20 connections, ten streams at a time on each. One that nginx closes, as after a reload, is followed by another. */
async function sendHttp2(scene: Scene, seconds: number): Promise<void> {
  const script = `
    const { connect } = require('node:http2');
    const until = Date.now() + ${seconds * 1000};
    const one = () => new Promise((resolve) => {
      const session = connect('http://${scene.fronts[0]!.ip}:8081');
      session.on('error', () => {}).on('close', resolve);
      let left = 5000, open = 0;
      const next = () => {
        if (Date.now() > until) left = 0;
        while (left > 0 && open < 10 && !session.closed && !session.destroyed) {
          left--; open++;
          const stream = session.request({ ':path': '/a/same' });
          stream.resume();
          stream.on('error', () => {});
          stream.on('close', () => { open--; next(); });
        }
        if (open === 0) session.close();
      };
      next();
    });
    const all = async () => { while (Date.now() < until) await one(); };
    Promise.all(Array.from({ length: 20 }, all)).then(() => process.exit(0));`;
  await collect(scene, scene.client, process.execPath, ['-e', script]);
}
