import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DoctorOptions } from '../../src/doctor/command.ts';
import { runDoctor } from './run-doctor.ts';

const doctor = (files: Readonly<Record<string, string>>, options: Partial<DoctorOptions> = {}) =>
  runDoctor(files, { input: 'nginx.conf', ...options }, { somewhere: ['nginx.conf'] });

const LOG = `log_format main '$time_iso8601 "$request" $upstream_addr $request_time $request_id';
access_log /logs/a.log main;
`;

/** An http block around `body`, with everything that the log needs. */
function http(body: string): Record<string, string> {
  return { 'nginx.conf': `events {}\nhttp {\n${LOG}${body}\n}\n` };
}

test('the report names the location, the reason and the exact line to add', async () => {
  const server = `server {
    listen 8080;
    server_name a.test;
    location /x/ {
        proxy_set_header Host $host;
        proxy_pass http://x:80;
    }
}`;
  const { code, out, err } = await doctor(http(server));
  assert.equal(code, 1);
  assert.equal(err, '');
  assert.equal(
    out,
    `nginx.conf: 1 server, 1 proxying location: 1 request-window

server a.test (listen 8080)  nginx.conf:5
  /x/  -> http://x:80  request-window
      X-Request-ID is not sent: this location's own proxy_set_header lines (nginx.conf:9) replace all inherited ones
      resolved only where all requests of its time went to one pod; $upstream_status in the log decides in quiet traffic, add it

Change
  nginx.conf:9
    + proxy_set_header X-Request-ID $request_id;
  after that: 1 exact (request-id); "--fix" prints this as a patch

Then start
  realpod sidecar --access-log /logs/a.log --log-format '$time_iso8601 "$request" $upstream_addr $request_time $request_id'

ConfigMap for the sidecar
  apiVersion: v1
  kind: ConfigMap
  metadata:
    name: realpod
  data:
    REALPOD_LOG_FORMAT: '$time_iso8601 "$request" $upstream_addr $request_time $request_id'
    REALPOD_ACCESS_LOG: '/logs/a.log'
`,
  );
});

test('the patch goes to stdout alone and says how to apply it', async () => {
  const { code, out, err } = await doctor(http('server { location / { proxy_pass http://x; } }'), {
    fix: true,
  });
  assert.equal(code, 0);
  assert.equal(
    out,
    `# apply with: patch -p0 < this-file   or: git apply -p0 this-file
--- nginx.conf
+++ nginx.conf
@@ -1,5 +1,6 @@
 events {}
 http {
+proxy_set_header X-Request-ID $request_id;
 log_format main '$time_iso8601 "$request" $upstream_addr $request_time $request_id';
 access_log /logs/a.log main;
 server { location / { proxy_pass http://x; } }
`,
  );
  assert.equal(err, 'realpod doctor: with this patch: 1 exact (request-id)\n');
});

test('colours appear only when asked for', async () => {
  const files = http(
    'proxy_set_header X-Request-ID $request_id; server { location / { proxy_pass http://x; } }',
  );
  const { code, out } = await doctor(files);
  assert.equal(code, 0);
  assert.ok(!out.includes('\x1b'));
  assert.ok((await doctor(files, { color: true })).out.includes('\x1b[32mexact (request-id)\x1b[0m'));
});

const BAD: readonly (readonly [string, Record<string, string>, string, RegExp])[] = [
  ['a file that is not there', {}, 'gone.conf', /gone\.conf: cannot be read/],
  ['a directory', {}, 'somewhere', /somewhere is a directory; give the main nginx\.conf/],
  ['empty stdin', { '-': ' \n' }, '-', /stdin is empty; use: nginx -T \| realpod doctor/],
  [
    'a broken file',
    { 'nginx.conf': 'http {' },
    'nginx.conf',
    /nginx\.conf:1: the block "http" is never closed/,
  ],
  ['text that is no nginx configuration', { '-': 'a: b;\n' }, '-', /no http, stream or server block/],
];

for (const [what, files, input, message] of BAD) {
  test(`bad input ends with 2 and one line: ${what}`, async () => {
    const { code, out, err } = await doctor(files, { input });
    assert.equal(code, 2);
    assert.equal(out, '');
    assert.match(err, message);
    assert.equal(err.split('\n').length, 2, err);
  });
}

test('what was not read is named, and no location is called exact over it', async () => {
  const text = `events {} http { ${LOG} include sites/*.conf;
    proxy_set_header X-Request-ID $request_id;
    server { location / { include proxy.conf; proxy_pass http://x; } location /y { proxy_pass http://y; } } }`;
  const { code, out } = await doctor({ '-': text }, { input: '-' });
  assert.equal(code, 1);
  assert.match(out, /\/ +-> http:\/\/x +unknown\n +include proxy\.conf was not read and may change this/);
  assert.match(out, /\/y +-> http:\/\/y +exact/);
  assert.match(out, /Not read\n {2}sites\/\*\.conf: give the output of "nginx -T"/);
  assert.equal((await doctor({ '-': text }, { input: '-', fix: true })).out, '');
});

test('a file for conf.d is taken as a part of http, and an unknown format is said to be unknown', async () => {
  const { code, out } = await doctor({
    'nginx.conf': 'server { access_log /l main; location / { proxy_pass http://x; } }',
  });
  assert.equal(code, 1);
  assert.match(out, /unknown\n +log format "main" is not in the files read/);
});

test('a chosen id field is used as it is', async () => {
  const files = http(
    'server { proxy_set_header X-Request-ID $request_id; location / { proxy_pass http://x; } }',
  );
  const { code, out } = await doctor(files, { requestIdField: 'http_x_request_id' });
  assert.equal(code, 1);
  assert.match(
    out,
    /\$http_x_request_id is only what the client sent: often absent, and anyone can repeat it/,
  );
});

test('another header name is looked for and added', async () => {
  const files = http(
    'server { proxy_set_header X-Request-ID $request_id; location / { proxy_pass http://x; } }',
  );
  const { out } = await doctor(files, { requestIdHeader: 'X-Trace', fix: true });
  assert.match(
    out,
    /^\+server \{ proxy_set_header X-Trace \$request_id; proxy_set_header X-Request-ID \$request_id;/m,
  );
});

test('bytes that are not UTF-8 come through the patch unchanged', async () => {
  const { out } = await doctor(http('# caf\xe9 \xff\nserver { location / { proxy_pass http://x; } }'), {
    fix: true,
  });
  assert.match(out, /^ # caf\xe9 \xff$/m);
});

test('lines added to a CRLF file end in CRLF, and a missing last newline stays missing', async () => {
  const text = `events {}\nhttp {\n${LOG}server { location / { proxy_pass http://x; } } }`.replaceAll(
    '\n',
    '\r\n',
  );
  const { out } = await doctor({ 'nginx.conf': text }, { fix: true });
  assert.match(out, /^\+proxy_set_header X-Request-ID \$request_id;\r$/m);
  assert.match(out, / } }\n\\ No newline at end of file\n$/);
});

test('HTTP/2 to the backend is exact where the directive of its kind sends the id', async () => {
  const text = `events {}
http {
  log_format main '[$time_local] $upstream_addr $request_id';
  access_log /var/log/nginx/access.log main;
  server {
    proxy_set_header X-Request-ID $request_id;
    location /rpc.A/ { grpc_set_header X-Request-ID $request_id; grpc_pass a:50051; }
    location /rpc.B/ { grpc_pass grpc://b:50051; }
    location /rpc.C/ {
      grpc_set_header X-Foo 1;
      grpc_pass grpcs://c:50051;
    }
    location / { proxy_http_version 2; proxy_pass http://web; }
  }
}
`;
  const { out } = await doctor({ 'nginx.conf': text });
  assert.match(out, /\/rpc\.A\/ .* exact/);
  assert.match(out, /\/rpc\.B\/ .* sole-backend\n.*X-Request-ID is not sent\n.*HTTP\/2 .* nothing else\n/);
  assert.match(out, /\/rpc\.C\/ .* sole-backend\n.*TLS to the backend/);
  assert.match(out, /web +exact/);
  assert.match(out, /HTTP\/2 to the backend: where bodies are longer/);
  const patch = (await doctor({ 'nginx.conf': text }, { fix: true })).out;
  assert.deepEqual(patch.match(/^\+.*/gm), [
    '+++ nginx.conf',
    '+  grpc_set_header X-Request-ID $request_id;',
  ]);
});

const REASONS: readonly (readonly [string, string, string, RegExp])[] = [
  [
    'TLS to the backend',
    'proxy_pass https://x;',
    'sole-backend',
    /TLS to the backend: the request id cannot/,
  ],
  ['a scheme in a variable', 'proxy_pass $scheme://x;', 'sole-backend', /the scheme is a variable/],
  [
    'another source address',
    'proxy_bind $remote_addr transparent; proxy_pass http://x;',
    'nothing',
    /proxy_bind/,
  ],
  ['slices', 'slice 1m; proxy_pass http://x;', 'sole-backend', /one id goes to the Service in many requests/],
  ['no access log', 'proxy_pass http://x;', 'nothing', /no access log/],
];

for (const [what, body, grade, reason] of REASONS) {
  test(`${what} makes it less than exact`, async () => {
    const log = what === 'no access log' ? 'access_log off;' : '';
    const files = http(`server { ${log} proxy_set_header X-Request-ID $request_id; location / { ${body} } }`);
    const { code, out } = await doctor(files);
    assert.equal(code, 1);
    assert.match(out, new RegExp(`-> .*  ${grade}\n`));
    assert.match(out, reason);
  });
}

test('an unlogged location that sends no id to the same Service is found, and given the id', async () => {
  const body = `server {
    location /a/ { proxy_set_header X-Request-ID $request_id; proxy_pass http://x; }
    location = /health { access_log off; proxy_set_header Host h; proxy_pass http://x; }
  }`;
  const { out } = await doctor(http(body));
  assert.match(out, /nginx\.conf:7 sends requests without an id to the same Service/);
  const patched = await doctor(http(body), { fix: true });
  assert.match(
    patched.out,
    /^\+ +location = \/health \{ access_log off; proxy_set_header X-Request-ID \$request_id; proxy_set_header Host h;/m,
  );
  assert.equal(patched.code, 0);
});

const NOTES: readonly (readonly [string, string, RegExp])[] = [
  ['a buffer without flush', 'access_log /l main buffer=32k;', /buffer=32k without flush=/],
  ['conditional logging', 'access_log /l main if=$x;', /if= leaves requests out of the log/],
  [
    'several logs',
    'access_log /l main; access_log /m combined;',
    /several access_logs apply at .* \/l \("main"\)/,
  ],
  ['SSI', 'ssi on;', /ssi on: subrequests send the same id again/],
  [
    'a long header before the id',
    'proxy_set_header C $http_cookie; proxy_set_header X-Request-ID $request_id;',
    /put X-Request-ID first or raise --tap-snaplen/,
  ],
  ['long request lines', 'large_client_header_buffers 4 64k;', /--tap-snaplen 1024/],
  ['logged subrequests', 'log_subrequest on;', /one id is in several lines/],
];

for (const [what, directives, note] of NOTES) {
  test(`noted without changing the grade: ${what}`, async () => {
    const id = directives.includes('X-Request-ID') ? '' : 'proxy_set_header X-Request-ID $request_id;';
    const { code, out } = await doctor(
      http(`server { ${id} ${directives} location / { proxy_pass http://x; } }`),
    );
    assert.equal(code, 0);
    assert.match(out.slice(out.indexOf('Notes')), note);
  });
}

test('a format that the sidecar would refuse is not called exact', async () => {
  const text = `events {} http { log_format j escape=json '{"a":"\\\\x","u":"$upstream_addr","i":"$request_id"}';
    access_log /l j; proxy_set_header X-Request-ID $request_id; server { location / { proxy_pass http://x; } } }`;
  const { code, out } = await doctor({ 'nginx.conf': text });
  assert.equal(code, 1);
  assert.match(out, /nothing\n +log format "j" cannot be read: .*backslash/);
});

test('with escape=none a client can forge lines, so neither the id nor the port is trusted', async () => {
  const text = `events {} http { log_format raw escape=none '$msec "$request" $upstream_addr $port $request_time $request_id';
    access_log /l raw; proxy_set_header X-Request-ID $request_id; server { location / { proxy_pass http://x; } } }`;
  const { out } = await doctor({ 'nginx.conf': text }, { localPortField: 'port' });
  assert.match(out, /request-window\n +log format "raw" has escape=none: a client can forge lines/);
  const patch = await doctor({ 'nginx.conf': text }, { fix: true });
  assert.match(patch.out, /^\+.*log_format raw escape=default '/m);
  assert.equal(patch.code, 0);
});

test('a mirror that gets headers of its own keeps those it had', async () => {
  const body = `proxy_set_header Host $host;
proxy_set_header X-Request-ID $request_id;
server {
    location / { mirror /m; proxy_pass http://x; }
    location = /m {
        internal;
        proxy_pass http://x;
    }
}`;
  const { out, code } = await doctor(http(body), { fix: true });
  assert.equal(code, 0);
  assert.match(
    out,
    /internal;\n\+ +proxy_set_header X-Request-ID "\$\{request_id\}-mirror";\n\+ +proxy_set_header Host \$host;\n +proxy_pass/,
  );
});

test('a location that cannot become exact is not touched', async () => {
  const { out, code } = await doctor(http('server { location / { slice 1m; proxy_pass http://x; } }'), {
    fix: true,
  });
  assert.equal(out, '');
  assert.equal(code, 1);
});

test('stdout in combined becomes a file in a format that says enough', async () => {
  const text = `events {}
http {
    access_log /dev/stdout;
    server { location / { proxy_pass http://x; } }
}
`;
  const { out, code } = await doctor({ 'nginx.conf': text }, { fix: true });
  assert.equal(code, 0);
  assert.match(
    out,
    /\+ {4}log_format realpod '.* "\$upstream_addr" \$request_id \$msec \$request_time "\$upstream_status"';\n(\+.*\n)*- {4}access_log \/dev\/stdout;\n\+ {4}access_log \/var\/log\/nginx\/access\.log realpod;/,
  );
});

test('servers that were not read keep the result from being all exact', async () => {
  const files = http(
    'include /elsewhere/sites.conf; proxy_set_header X-Request-ID $request_id; server { location / { proxy_pass http://x; } }',
  );
  const result = await doctor(files);
  assert.equal(result.code, 1);
  assert.match(result.out, /1 exact/);
});
