/** Inputs of the kinds that people paste first. Each names the public text that it is modelled on. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import type { DoctorOptions } from '../../src/doctor/command.ts';
import { runDoctor } from './run-doctor.ts';

const doctor = (text: string, options: Partial<DoctorOptions> = {}) =>
  runDoctor({ '-': text, given: text }, { input: '-', ...options });

/** What `patch` makes of a unified diff of one file without fuzz. */
function patched(text: string, diff: string): string {
  const old = text.split('\n');
  const made: string[] = [];
  let at = 0;
  for (const line of diff.split('\n')) {
    const hunk = /^@@ -(\d+)/.exec(line);
    if (hunk) {
      while (at < Number(hunk[1]) - 1) made.push(old[at++]!);
    } else if (/^[ -]/.test(line) && !line.startsWith('---')) {
      assert.equal(old[at++], line.slice(1));
      if (line.startsWith(' ')) made.push(line.slice(1));
    } else if (line.startsWith('+') && !line.startsWith('+++')) {
      made.push(line.slice(1));
    }
  }
  return [...made, ...old.slice(at)].join('\n');
}

const FORMAT = `log_format full '$remote_addr [$time_local] "$request" $upstream_addr $request_id';`;
const conf = (server: string, log = 'access_log /var/log/nginx/access.log full;'): string =>
  `events {}\nhttp {\n  ${FORMAT}\n  ${log}\n  proxy_set_header X-Request-ID $request_id;\n  server { listen 80; ${server} }\n}\n`;
const PROXY = 'location / { proxy_pass http://web.shop.svc; }';

// Static-file blocks of aaPanel, and `access_log /dev/null combined;` as in bbs servers that log nothing.
test('a log to /dev/null is no log: never exact, never followed, never changed', async () => {
  const block = await doctor(
    conf(`${PROXY} location /img/ { access_log /dev/null; proxy_pass http://img.shop.svc; }`),
  );
  assert.equal(block.code, 0);
  assert.match(block.out, /\/img\/ .*not applicable\n\s+access_log off or \/dev\/null here/);
  assert.doesNotMatch(block.out, /--access-log \/dev\/null|Change/);
  const whole = await doctor(conf(PROXY, 'access_log /dev/null combined;'));
  assert.equal(whole.code, 1);
  assert.match(whole.out, /1 nothing[\s\S]*no access log \(off or \/dev\/null\)/);
  assert.equal((await doctor(conf(PROXY, 'access_log /dev/null full;'), { fix: true })).out, '');
});

test('other devices are no files to follow either', async () => {
  const { out } = await doctor(conf(PROXY, 'access_log /dev/tty full;'));
  assert.match(out, /access_log \/dev\/tty is a device, not a file/);
  assert.match((await doctor(conf(PROXY, 'access_log /dev/shm/a.log full;'))).out, /1 exact/);
});

// envsubst templates of the official image; jinja2 as in mturnaviotov/k8s-aws nginx.tpl and lsj3210/dev_go server.tpl;
// a chart's template as in hiero-explorer; erb as chef and puppet write it.
test('a template is refused with the placeholder and what renders it', async () => {
  const templates: [string, RegExp][] = [
    [
      `server {\n listen \${WEB_PORT};\n \${MORE}\n location / { proxy_pass http://a; } }`,
      /:2: \$\{WEB_PORT\} .*envsubst/,
    ],
    [
      'server {\n listen 80;\n location / { proxy_pass http://$API_HOST; } }',
      /:3: .*API_HOST|:3: \$API_HOST/,
    ],
    [
      'upstream b_{{ item.name }} {\n server {{ item.name }}:8080;\n}\nserver { listen 80; }',
      /:1: \{\{ item\.name \}\}/,
    ],
    [
      '{% for up in ups %}\nupstream {{up.Name}} { least_conn; }\n{% endfor %}',
      /is a placeholder of a template/,
    ],
    ['server {\n listen <%= @port %>;\n}', /:2: <%= @port %> .*erb/],
    [
      'server { listen 80;\n server_name {{ .Values.host | quote }};\n}',
      /:2: \{\{ \.Values\.host .*helm template/,
    ],
    ['[[ range service "web" ]]\nserver { listen 80; }\n[[ end ]]', /:1: \[\[ range .*nomad/],
    ['upstream web {\n server [[ .Address ]]:[[.Port]];\n}', /:2: \[\[ \.Address \]\] .*consul-template/],
    [`server {\n server_name ~^(.+)\\.\${local.domain}$;\n}`, /:2: \$\{local\.domain\} .*terraform/],
    ['upstream web {\n%{ for a in hosts ~}\n server a;\n%{ endfor ~}\n}', /:2: %\{ for .*terraform/],
    ['server {\n root @prefix@/html;\n}', /:2: @prefix@ .*configure/],
  ];
  for (const [text, message] of templates) {
    const { code, out, err } = await doctor(text);
    assert.equal(code, 2, text);
    assert.equal(out, '');
    assert.match(err, message);
    assert.match(err, /render it first/);
    assert.equal(err.trimEnd().split('\n').length, 1);
  }
});

test('another kind of file is named, with what to give instead', async () => {
  const files: [string, RegExp][] = [
    ['#!/usr/bin/env bash\ncat > nginx.conf <<EOF\nevents {}\nEOF\n', /a shell script, .*nginx -T/],
    ['# proxy\nARG V=1\nFROM nginx:1.25\nCOPY nginx.conf /etc/nginx/\n', /a Dockerfile, .*copies/],
    ['# Proxy\n\n```nginx\nserver { listen 80; }\n```\n', /Markdown, .*the block/],
    ['services:\n  web:\n    image: nginx\n', /a Compose file, .*mounts/],
    ['<VirtualHost *:80>\n  ProxyPass / http://web/\n</VirtualHost>\n', /of Apache, /],
    ['global\n  daemon\nfrontend web\n  bind *:80\n', /of HAProxy, /],
  ];
  for (const [text, message] of files) {
    const { code, out, err } = await doctor(text);
    assert.equal(code, 2, text);
    assert.equal(out, '');
    assert.match(err, message);
    assert.match(err, /not an nginx configuration/);
    assert.equal(err.trimEnd().split('\n').length, 1);
  }
  assert.match((await doctor(conf(`# services:\n ${PROXY}`))).out, /1 proxying location/);
});

test('what only looks like a placeholder is read: nginx variables in capitals, Lua tables, comments', async () => {
  const texts = [
    conf(`set $TARGET_HOST web; location / { proxy_pass http://$TARGET_HOST; }`),
    conf(
      `location / { proxy_set_header A "\${HTTP_X_FOO}"; proxy_set_header X-Request-ID $request_id; proxy_pass http://web; }`,
    ),
    conf(`location /l { content_by_lua_block { local t = {{1, 2}, {3}} } } ${PROXY}`),
    conf(`# {{ a }} \${NOT_SET}\n ${PROXY}`),
    conf(
      `location ~ ^/[[:alpha:]_]+/[[:digit:]]+$ { return 204; } location ~ "^/[[a]]+" { return 204; } ${PROXY}`,
    ),
    conf(`error_page 502 @down; location @down { return 503; } # a@b@c #{ x }\n ${PROXY}`),
  ];
  for (const text of texts) assert.match((await doctor(text)).out, /1 proxying location/, text);
});

const MANIFEST = `# the proxy before the model server
apiVersion: v1
kind: ConfigMap
metadata:
  name: nginx-config   # mounted at /etc/nginx/conf.d
data:
  default.conf: |
    server {
      listen 80;

      location /v1/ {
        proxy_pass http://vllm-inference:8000;
        proxy_set_header Host $host;
      }
    }
  startup.sh: |
    #!/bin/bash
    exec nginx -g 'daemon off;'
  ssl-session-timeout: "0"
---
apiVersion: v1
kind: Service
metadata:
  name: api-gateway
spec:
  ports:
  - port: 80
`;

// A ConfigMap with default.conf beside its Service, as in guides to vLLM behind nginx.
test('a ConfigMap is read as what it is, and its patch keeps order, comments and YAML', async () => {
  const { code, out } = await doctor(MANIFEST);
  assert.equal(code, 1);
  assert.match(out, /^configmap\.yaml\[default\.conf\]: 1 server, 1 proxying location/);
  const fixed = await doctor(MANIFEST, { fix: true, input: 'given' });
  assert.equal(fixed.code, 0, fixed.err);
  assert.match(fixed.out, /^--- given\n\+\+\+ given\n@@ /m);
  const text = patched(MANIFEST, fixed.out.replace(/^#.*\n/, ''));
  const [map] = parseAllDocuments(text).map((document) => {
    assert.deepEqual(document.errors, []);
    return document.toJS() as { data: Record<string, string> };
  });
  assert.match(map!.data['default.conf']!, /\n {4}proxy_set_header X-Request-ID \$request_id;\n/);
  assert.equal(map!.data['startup.sh'], "#!/bin/bash\nexec nginx -g 'daemon off;'\n");
  const kept = text.split('\n').filter((line) => MANIFEST.split('\n').includes(line));
  assert.deepEqual(kept, MANIFEST.split('\n'));
  assert.match((await doctor(text)).out, /1 exact/);
});

// `kubectl get configmap -o yaml`: keys in alphabetical order, and a List where several are asked for.
test('the order of kubectl, lists, and files that include each other are read', async () => {
  const list = `apiVersion: v1
items:
- apiVersion: v1
  data:
    nginx.conf: |-
      events {}
      http {
        include /etc/nginx/conf.d/*.conf;
        server { listen 80; location / { proxy_pass http://a; } }
      }
    web.conf: |
      server { listen 81; location / { proxy_pass http://b; } }
  kind: ConfigMap
  metadata:
    name: conf
kind: List
`;
  const { out } = await doctor(list);
  assert.match(out, /2 servers, 2 proxying locations/);
  assert.match(out, /configmap\.yaml\[web\.conf\]:1/);
});

test('Kubernetes objects that hold no readable configuration are refused in one line that says what to give', async () => {
  const head = 'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\ndata:\n';
  const objects: [string, RegExp][] = [
    [
      'apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n',
      /a Kubernetes Deployment, not an nginx conf/,
    ],
    ['{"apiVersion":"v1","kind":"ConfigMap","data":{}}', /in JSON; use: kubectl get configmap/],
    // kubectl writes a file with a blank before a line's end like this.
    [
      `${head}  default.conf: "server { \\n listen 80;\\n}\\n"\n`,
      /default\.conf is not a literal block .*jsonpath/,
    ],
    [`${head}  default.conf: >\n    server { }\n`, /folded block/],
    [
      `${head}  a.conf: |\n    server { }\n  b.conf: |\n    server { }\n`,
      /several configurations .*\(a\.conf, b\.conf\)/,
    ],
    [`${head}  level: debug\n`, /a ConfigMap without a file/],
    [`${head}  default.conf: |\n    server { listen {{ .Values.port }}; }\n`, /render it first/],
  ];
  for (const [text, message] of objects) {
    for (const fix of [false, true]) {
      const { code, out, err } = await doctor(text, { fix });
      assert.deepEqual([code, out], [2, ''], text);
      assert.match(err, message);
      assert.equal(err.trimEnd().split('\n').length, 1);
    }
  }
});

// `access_log logs/access.log main;` as in Tinywan/lua-nginx-redis and kong's tests.
test('a relative log path is said to be one, or resolved by the prefix of nginx -V', async () => {
  const text = conf(PROXY, 'access_log logs/access.log full;');
  const alone = await doctor(text);
  assert.match(alone.out, /--access-log PREFIX\/logs\/access\.log/);
  assert.match(alone.out, /REALPOD_ACCESS_LOG: 'PREFIX\/logs\/access\.log'/);
  assert.match(alone.out, /relative to nginx's prefix, which is not known here; \(nginx -V; nginx -T\)/);
  const version =
    'nginx version: openresty/1.25.3.1\nbuilt by gcc 12.2.1 \nbuilt with OpenSSL 3.0.12\nTLS SNI support enabled\nconfigure arguments: --prefix=/usr/local/openresty/nginx --with-pcre-jit\n';
  const dump = `${version}nginx: the configuration file /u/nginx.conf syntax is ok\n# configuration file /u/nginx.conf:\n${text}\n`;
  const known = await doctor(dump);
  assert.match(known.out, /--access-log \/usr\/local\/openresty\/nginx\/logs\/access\.log/);
  assert.match(known.out, /in OpenResty's image access\.log is a link to stdout/);
  assert.doesNotMatch(known.out, /PREFIX|not known here/);
});

test('log directories whose log is a link to stdout in the image are named with the image', async () => {
  for (const [path, image] of [
    ['/var/log/angie/access.log', "Angie's image"],
    ['/opt/bitnami/nginx/logs/access.log', "bitnami's nginx image"],
    ['/var/log/nginx/access.log', 'the official nginx image'],
  ]) {
    const { out } = await doctor(conf(PROXY, `access_log ${path} full;`));
    assert.ok(out.includes(`in ${image} access.log is a link to stdout: mount a volume over`), path);
  }
});

// openresty/lua-nginx-module's README: ngx.location.capture of an internal location.
test('a location that only Lua or njs can reach by subrequest is not exact', async () => {
  const inner =
    'location /_backend/ { internal; proxy_set_header X-Request-ID $request_id; proxy_pass http://web; }';
  const captured = await doctor(
    conf(
      `location /api/ { content_by_lua_block { local r = ngx.location.capture("/_backend" .. ngx.var.uri) ngx.print(r.body) } } ${inner}`,
    ),
  );
  assert.match(captured.out, /\/_backend\/ .*not applicable\n.*ngx\.location\.capture/);
  // ngx.exec redirects inside nginx: that is logged.
  const redirected = await doctor(
    conf(`location /api/ { content_by_lua_block { ngx.exec("/_backend/x") } } ${inner}`),
  );
  assert.match(redirected.out, /1 exact/);
  for (const script of ['content_by_lua_file api.lua;', 'js_content main.api;']) {
    const unseen = await doctor(conf(`location /api/ { ${script} } ${inner}`));
    assert.equal(unseen.code, 1);
    assert.match(unseen.out, /\/_backend\/ .*unknown\n.*internal, and only (content_by_lua_file|js_content)/);
  }
});

test('a format that has to be extended also gets the times and the status of each attempt', async () => {
  const json = `log_format j escape=json '{"ip":"$remote_addr","took":"$request_time"}'; access_log /l j;`;
  const { out } = await doctor(conf(PROXY, json));
  assert.match(
    out,
    /"took":"\$request_time","upstream_addr":"\$upstream_addr","request_id":"\$request_id","msec":"\$msec","upstream_status":"\$upstream_status"\}/,
  );
  // A format that says enough is nobody's to change.
  assert.doesNotMatch((await doctor(conf(PROXY))).out, /\+ .*\$msec/);
});

test('lines of which no location is exact still get the options of a sidecar', async () => {
  const { out } = await doctor(conf('location / { grpc_pass grpc://orders:80; }', 'access_log /l full;'));
  assert.match(out, /REALPOD_LOG_FORMAT: '\$remote_addr .*'\n {4}REALPOD_ACCESS_LOG: '\/l'/);
});

test('each other log is named below the ConfigMap', async () => {
  const body = `${PROXY} location /b/ { access_log /m full; proxy_pass http://b; }`;
  const { out } = await doctor(conf(body, 'access_log /l full;'));
  assert.match(out, /# A sidecar follows one log; not this: \/m\n/);
});

test('only-answer is named where the log has no id, and the wire can be read', async () => {
  const timed = "log_format t '$remote_addr [$time_local] $upstream_addr'; access_log /l t;";
  assert.match(
    (await doctor(conf(PROXY, timed))).out,
    /only-answer names lines whose requests do not overlap/,
  );
  const grpc = await doctor(conf('location / { grpc_pass grpc://orders:80; }', timed));
  assert.doesNotMatch(grpc.out, /only-answer/);
});
