import assert from 'node:assert/strict';
import { test } from 'node:test';
import { passedOnTo } from '../../src/doctor/passed-on.ts';
import { modelOf } from '../../src/doctor/scope.ts';
import { assemble, fromDump, fromText } from '../../src/doctor/sources.ts';
import { type GivenNames, takeFrom } from '../../src/doctor/taken.ts';

const NOTHING: GivenNames = {
  accessLog: undefined,
  requestIdField: undefined,
  requestIdHeader: undefined,
  logFormat: undefined,
};
const LOG = '/var/log/nginx/access.log';

/** A configuration whose http block holds `http` and one server with `server`. */
const conf = (server: string, http = ''): string => `
events {}
http {
  log_format main '$remote_addr "$request" $upstream_addr';
  log_format full escape=json '{"a":"$upstream_addr","i":"$request_id"}';
  access_log ${LOG} main;
  ${http}
  server { listen 80; ${server} }
}`;
const take = (text: string, given: Partial<GivenNames> = {}) => {
  const { model: _, ...taken } = takeFrom(fromText(text, 'nginx.conf'), { ...NOTHING, ...given });
  return taken;
};
const passed = (text: string, address = '10.96.0.7:80', log = LOG) =>
  passedOnTo(modelOf(assemble(fromText(text, 'nginx.conf')))!, log)(address);
const PROXY = 'location / { proxy_pass http://10.96.0.7; }';
const ALL = { target: true, userAgent: true, referer: true, allLogged: true };
const NONE = { target: false, userAgent: false, referer: false, allLogged: false };

test('log, format and id are taken from where the proxying locations write', () => {
  assert.deepEqual(take(conf(PROXY)), {
    accessLog: LOG,
    logFormat: '$remote_addr "$request" $upstream_addr',
    formatName: 'main',
    requestIdField: 'request_id',
    requestIdHeader: 'X-Request-ID',
    idIsSent: false,
    otherLogs: [],
  });
});

test('the log that says most wins, and the header that carries the id is found', () => {
  const text = conf(`
    access_log /logs/full.log full;
    set $trace $request_id;
    location / { proxy_set_header X-Trace $trace; proxy_set_header Host $host; proxy_pass http://web; }
    location /plain/ { access_log ${LOG} main; proxy_pass http://web; }`);
  assert.deepEqual(take(text), {
    accessLog: '/logs/full.log',
    logFormat: 'escape=json {"a":"$upstream_addr","i":"$request_id"}',
    formatName: 'full',
    requestIdField: 'trace',
    requestIdHeader: 'X-Trace',
    idIsSent: true,
    otherLogs: [LOG],
  });
});

test('what is given wins over what the configuration says', () => {
  const text = conf(`
    location / { proxy_set_header X-Request-ID $request_id; proxy_pass http://web; }
    location /full/ { access_log /logs/full.log full; proxy_pass http://web; }`);
  assert.equal(take(text, { accessLog: LOG }).formatName, 'main');
  const given = take(text, { accessLog: '/mnt/a.log', logFormat: '$upstream_addr', requestIdField: 'rid' });
  assert.equal(given.accessLog, '/mnt/a.log');
  assert.equal(given.logFormat, '$upstream_addr');
  assert.equal(given.requestIdField, 'rid');
  assert.equal(given.idIsSent, false);
  // A path that the configuration does not have, and two formats: which one is it?
  assert.throws(() => take(text, { accessLog: '/mnt/a.log' }), /several formats; give --log-format/);
  assert.equal(take(conf(PROXY), { accessLog: '/mnt/a.log' }).formatName, 'main');
});

test('a configuration whose log cannot be followed is refused with what to do', () => {
  assert.throws(
    () => take(conf(`access_log /dev/stdout main; ${PROXY}`)),
    /no proxying location has a log in a file/,
  );
  assert.throws(() => take('apiVersion: v1;'), /no http, stream or server block/);
});

test('the output of nginx -T is read as nginx does', () => {
  const dump = `# configuration file /etc/nginx/nginx.conf:\n${conf('include /etc/nginx/l.conf;')}\n# configuration file /etc/nginx/l.conf:\n${PROXY}\n`;
  assert.equal(takeFrom(fromDump(dump), NOTHING).formatName, 'main');
});

test('a plain proxy passes everything on, and logs all of it', () => {
  assert.deepEqual(passed(conf(PROXY)), ALL);
  // A name may be any address with its port.
  assert.deepEqual(passed(conf('location / { proxy_pass http://web; }')), ALL);
  assert.deepEqual(passed(conf('location / { proxy_pass http://web:8080; }')), NONE);
  assert.deepEqual(passed(conf(PROXY), '10.96.0.8:80'), NONE);
  assert.deepEqual(
    passed(conf('location / { proxy_pass http://ups; }', 'upstream ups { server 10.96.0.7; keepalive 16; }')),
    ALL,
  );
});

test('what is set, rewritten or not understood is not passed on', () => {
  const changed: [string, Partial<typeof ALL>][] = [
    ['location / { proxy_set_header User-Agent x; proxy_pass http://10.96.0.7; }', { userAgent: false }],
    ['location / { proxy_set_header referer ""; proxy_pass http://10.96.0.7; }', { referer: false }],
    ['location / { proxy_pass http://10.96.0.7/; }', { target: false }],
    ['location / { proxy_pass http://10.96.0.7/api?x; }', { target: false }],
    ['location / { proxy_pass http://10.96.0.7$request_uri; }', { target: false }],
    [`rewrite ^/a /b; ${PROXY}`, { target: false }],
    ['location / { try_files $uri @app; } location @app { proxy_pass http://10.96.0.7; }', { target: false }],
    [`error_page 404 /404.html; ${PROXY}`, { target: false }],
    [`error_page 500 502 /50x.html; location = /50x.html { root html; } ${PROXY}`, {}],
    ['location /api/ { proxy_pass http://10.96.0.7; }', {}],
    ['location /api/ { proxy_pass http://10.96.0.7; } location / { return 404; }', {}],
    [`set $args ""; ${PROXY}`, NONE],
    [`access_log off; ${PROXY}`, { allLogged: false }],
    [`access_log ${LOG} main if=$loggable; ${PROXY}`, { allLogged: false }],
    [`${PROXY} location /q/ { access_log off; proxy_pass http://10.96.0.7; }`, { allLogged: false }],
    ['location / { proxy_pass https://10.96.0.7:80; }', NONE],
    ['location / { grpc_pass 10.96.0.7:80; }', NONE],
    [`location / { mirror /m; proxy_pass http://10.96.0.7; }`, NONE],
    [`access_by_lua_block { ngx.req.set_uri("/x") } ${PROXY}`, NONE],
    [`location / { more_set_input_headers "A: b"; proxy_pass http://10.96.0.7; }`, NONE],
    [`include unread.conf; ${PROXY}`, NONE],
  ];
  for (const [server, but] of changed) {
    assert.deepEqual(passed(conf(server)), { ...ALL, ...but }, server);
  }
  assert.deepEqual(passed(conf(PROXY), '10.96.0.7:80', '/other.log'), { ...ALL, allLogged: false });
  assert.deepEqual(passed(`${conf(PROXY)} stream { server { listen 81; proxy_pass 10.96.0.7:80; } }`), NONE);
  assert.deepEqual(passed(conf(PROXY, 'include mime.types;')), ALL);
});

test('a target is not passed on where `index` may send a directory’s request to a location that proxies', () => {
  const pass = '{ proxy_pass http://10.96.0.7; }';
  const target = (server: string, http = ''): boolean => passed(conf(server, http)).target;
  for (const [server, unchanged] of [
    [`location /a/ ${pass} location /b/ ${pass}`, true],
    [`location /a ${pass}`, true],
    // `/` is a directory, and its file is `/index.html`.
    [`location /in ${pass}`, false],
    [`location = /index.html ${pass}`, false],
    [`location = /index ${pass}`, true],
    [`location ~ \\.html$ ${pass}`, false],
    [`location ~ \\.html$ ${pass} location / { return 404; }`, true],
    [`location /a/ ${pass} location = /a/ { root html; }`, false],
    [`location /a/ ${pass} location = /a { root html; }`, true],
    [`location / ${pass} location /static/ { root html; }`, true],
    [`location / ${pass} location ~* \\.(js|css)$ { root html; }`, true],
    [`location / ${pass} location ~ ^/files { root html; }`, false],
    [`location / ${pass} location ~ /\\.ht { deny all; }`, true],
    [`location / { if ($arg_x) ${pass} }`, false],
    [`index home.html; location /a/ho ${pass}`, false],
    [`index sub/x.html; location /sub/ ${pass}`, false],
    [`index /app; location /app ${pass}`, false],
  ] as const)
    assert.equal(target(server), unchanged, server);
  assert.equal(target(`location /a/ho ${pass}`, 'index home.html;'), false);
});

test('an address is the same however it is spelled, and a location that may lead there counts', () => {
  const two = (
    other: string,
  ): string => `location / { return 404; } location /a { proxy_pass http://10.96.0.7; }
    location /b/ { proxy_pass http://${other}/b/; }`;
  for (const other of ['10.96.00.7', '10.96.0.7:0080', 'web', 'web:80'])
    assert.equal(passed(conf(two(other))).target, false, other);
  for (const other of ['10.96.0.8', 'web:81', '[fd00::1]'])
    assert.equal(passed(conf(two(other))).target, true, other);
  const six = `location / { return 404; } location /a { proxy_pass http://[fd00::1]; } location /b { proxy_pass http://[FD00:0::1]/b; }`;
  assert.equal(passed(conf(six), '[fd00::1]:80').target, false);
});
