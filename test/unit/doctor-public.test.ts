/**
 * Configurations as public repositories have them, written anew and cut down (test/fixtures/public-confs): what nginx,
 * Kubernetes or the tool that fills a template in mean by each, and what doctor has to say.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { runDoctor } from './run-doctor.ts';

const FOLDER = new URL('../fixtures/public-confs/', import.meta.url);

const doctor = (text: string, options: { fix?: boolean } = {}) =>
  runDoctor({ given: text }, { input: 'given', ...options });

/** Exit code, and what the report or the refusal has to contain. */
const EXPECTED: Record<string, readonly [code: number, ...has: RegExp[]]> = {
  'metrics-store-configmap.yaml': [
    1,
    /2 proxying locations: 2 nothing/,
    /\/dev\/stderr is stderr, not a file/,
    /after that: 2 exact \(request-id\)/,
  ],
  'error-tracker.conf': [
    1,
    /3 proxying locations: 3 nothing/,
    /~ \^\/api\/\[1-9\]\\d\*\/ {2}-> http:\/\/relay \(relay:3000\)/,
    /after that: 3 exact \(request-id\)/,
    /"\$upstream_addr" \$request_id \$msec \$request_time "\$upstream_status"/,
  ],
  'forum-sample.conf': [
    1,
    /1 nothing, 2 not applicable/,
    /\/letter_avatar_proxy\/ {2}-> https:.* nothing\n.*lacks \$upstream_addr\n.*TLS to the backend/,
  ],
  'design-tool.conf.template': [2, /:12: \$APP_HTTP_SERVER_MAX_BODY_SIZE is a placeholder/],
  'token-introspection.conf': [1, /1 nothing, 1 unknown/, /= \/_send_introspection .* unknown\n.*js_import/],
  'srv-upstream.conf': [1, /2 servers, 1 proxying location: 1 nothing/, /after that: 1 exact/],
  'social.conf': [0, /2 not applicable/, /^(?![\s\S]*link to stdout)/],
  'registry.conf.jinja': [2, /:7: \{% if internal_tls\.enabled %\} is a placeholder of a template/],
  'registry-helm.yaml': [2, /:1: a chart's template; render it first: helm template CHART \| realpod doctor/],
  'gateway.lua': [2, /:2: \{\{worker_processes_count\}\} is a placeholder/],
  'static-configmap.yaml': [0, /0 proxying locations, nothing to resolve/],
  'line-report-mirror.conf': [
    1,
    /1 nothing, 1 not applicable/,
    /after that: 1 exact \(request-id\), 1 not applicable/,
  ],
  'edge-otel.conf': [1, /goes to syslog.*\/dev\/stdout is stdout/, /after that: 1 exact/],
  'sampled.conf': [
    1,
    /after that: 1 exact/,
    /if= leaves requests out of the log/,
    /the judged one is \/var\/log\/nginx\/access\.log/,
  ],
  'canary.conf': [1, /\$canary_upstream {2}nothing/, /after that: 1 exact/],
  'service-in-path.conf': [
    1,
    /^(?![\s\S]*the scheme is a variable)/,
    /after that: 2 exact \(request-id\)/,
    /the backend is a variable, resolved for each request/,
  ],
  'env-defaults.conf': [2, /:2: \$\{FILES_EXTERNAL_SSL_PORT:-443\} is a placeholder/],
  'm4.conf': [2, /:2: ifdef\(`ERROR_LOG' is a placeholder of a template: render it first \(m4\)/],
  'id-or-own.conf': [
    0,
    /1 exact \(request-id\)/,
    /REALPOD_REQUEST_ID_FIELD: 'reqid'/,
    /takes a client's own id/,
  ],
  'pid-msec-id.conf': [
    1,
    /X-Request-ID is sent as \$pid-\$msec-/,
    /\+ proxy_set_header X-Request-Id \$request_id;/,
  ],
};

for (const [name, [wanted, ...has]] of Object.entries(EXPECTED)) {
  test(`public configuration ${name}`, async () => {
    const { code, out, err } = await doctor(readFileSync(new URL(name, FOLDER), 'utf8'));
    assert.equal(code, wanted, out + err);
    for (const what of has) assert.match(wanted === 2 ? err : out, what);
    if (wanted === 2) assert.match(err, /^realpod doctor: [^\n]+\n$/);
  });
}

test('each of the public configurations is looked at', () => {
  assert.deepEqual(readdirSync(FOLDER).sort(), Object.keys(EXPECTED).sort());
});

test("templates in an nginx.conf's Lua, and a chart's words in a comment, are no templates", async () => {
  const conf = (text: string): string =>
    `events {}\nhttp { ${text} server { location / { proxy_pass http://a; } } }\n`;
  const lua = await doctor(conf('init_by_lua_block { local t = {{1, 2}} }'));
  assert.equal(lua.code, 1, lua.err);
  const map = `apiVersion: v1\nkind: ConfigMap\n# {{ include "labels" . }}\nmetadata: {name: a}\ndata:\n  nginx.conf: |\n${conf(
    'init_by_lua_block {\n{{1, 2}}\n}',
  ).replace(/^/gm, '    ')}\n`;
  const inMap = await doctor(map);
  assert.equal(inMap.code, 1, inMap.err);
});
