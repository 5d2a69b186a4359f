import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { processIo } from '../../src/doctor/command.ts';
import {
  allExact,
  type Diagnosis,
  type Finding,
  type Grade,
  isExact,
  serverNames,
} from '../../src/doctor/finding.ts';
import { examine, fix } from '../../src/doctor/fix.ts';
import { words } from '../../src/doctor/scope.ts';
import { type ConfFiles, fromDisk, fromDump } from '../../src/doctor/sources.ts';

const ROOT = new URL('../fixtures/nginx-conf/', import.meta.url).pathname;
const NAMES = { field: 'request_id', header: 'X-Request-ID' };

interface Case {
  about: string;
  /** `server location` → grade, in the order of the file. */
  before: readonly (readonly [string, Grade])[];
  /** Those that stay less than exact with the patch. */
  stays?: Readonly<Record<string, Grade>>;
  field?: string;
  localPortField?: string;
}

const NA = 'not-applicable';
const CASES: Readonly<Record<string, Case>> = {
  'image-default': { about: 'a fresh image proxies nothing', before: [] },
  'image-proxy': { about: 'the image format lacks address and id', before: [['localhost /test', 'nothing']] },
  article: { about: "the article's format has the address alone", before: [['_ /', 'sole-backend']] },
  exact: { about: 'nothing is missing', before: [['_ /', 'exact']] },
  'default-log': { about: 'no access_log means combined', before: [['_ /', 'nothing']] },
  'spa-api': {
    about: 'static files, an API, a health check that is not logged',
    before: [
      ['shop.example.com /api/', 'nothing'],
      ['shop.example.com = /healthz', NA],
    ],
  },
  'auth-request': {
    about: 'a location loses the id by a header of its own; auth goes elsewhere',
    before: [
      ['portal.example.com = /_auth', NA],
      ['portal.example.com /app/', 'request-window'],
      ['portal.example.com /docs/', 'exact'],
    ],
  },
  mirror: {
    about: 'a mirror to the same Service repeats the id',
    before: [
      ['same.example.com /', 'sole-backend'],
      ['same.example.com = /shadow', NA],
      ['other.example.com /', 'exact'],
      ['other.example.com = /shadow', NA],
      ['open.example.com /', 'sole-backend'],
      ['open.example.com = /shadow', 'exact'],
    ],
    stays: { 'open.example.com /': 'sole-backend' },
  },
  microservices: {
    about: 'one of many locations replaces the inherited headers',
    before: [
      ['api.example.com /cart/', 'exact'],
      ['api.example.com /users/', 'exact'],
      ['api.example.com ^~ /search/', 'exact'],
      ['api.example.com /orders/', 'request-window'],
      ['api.example.com ~ ^/v[12]/(?<rest>.*)$', 'exact'],
      ['api.example.com /uploads/', 'exact'],
    ],
  },
  websocket: {
    about: 'one location has headers, the other none',
    before: [
      ['_ /socket/', 'request-window'],
      ['_ /', 'request-window'],
    ],
  },
  grpc: {
    about: 'HTTP/2 to the backend shows the id, TLS hides it',
    before: [
      ['_ /catalog.Catalog/', 'sole-backend'],
      ['_ /billing.Billing/', 'sole-backend'],
      ['_ /', 'exact'],
    ],
    stays: { '_ /billing.Billing/': 'sole-backend' },
  },
  php: {
    about: 'FastCGI has no header to see, a socket no Service',
    before: [
      ['_ ~ \\.php$', 'sole-backend'],
      ['_ ~ ^/(status|ping)$', NA],
    ],
    stays: { '_ ~ \\.php$': 'sole-backend' },
  },
  'json-logs': {
    about: 'JSON formats in single and double quotes',
    before: [
      ['a.example.com /', 'request-window'],
      ['b.example.com /', 'sole-backend'],
    ],
  },
  'request-id-map': {
    about: 'the id is a map variable, in the log too',
    before: [
      ['_ /', 'exact'],
      ['_ /reports/', 'request-window'],
    ],
    field: 'req_id',
  },
  'client-id': {
    about: 'another value is sent than the one logged',
    before: [
      ['_ /given/', 'request-window'],
      ['_ /serial/', 'request-window'],
      ['_ /removed/', 'request-window'],
      // The same Service gets requests without an id from another location.
      ['_ /alias/', 'request-window'],
    ],
  },
  includes: {
    about: 'a snippet replaces the inherited id, and what it sends without one casts doubt on the others',
    before: [
      ['a.example.com /', 'request-window'],
      ['b.example.com /', 'request-window'],
      ['b.example.com /plain/', 'request-window'],
    ],
  },
  inheritance: {
    about: 'servers, nested locations, if, limit_except, access_log off',
    before: [
      ['good.example.com /', 'exact'],
      ['hidden.example.com /outer/', 'request-window'],
      ['hidden.example.com /outer/ > /outer/inner/', 'exact'],
      ['combined.example.com /', 'nothing'],
      ['branch.example.com / > ($request_method = POST)', NA],
      ['branch.example.com /', 'exact'],
      ['silent.example.com /', 'nothing'],
      ['silent.example.com /logged/', 'exact'],
    ],
    stays: { 'silent.example.com /': 'nothing' },
  },
  ingress: {
    about: 'the generated file of an ingress controller',
    before: [
      ['shop.example.com ~* ^/api(/|$)(.{0,64})', 'exact'],
      ['shop.example.com /', 'exact'],
    ],
    field: 'req_id',
  },
  'ingress-lua': { about: 'Lua blocks full of braces and quotes', before: [['_ /', 'exact']] },
  'tls-upstream': {
    about: 'TLS, loopback, variables, proxy_bind, slice',
    before: [
      ['secure.example.com /', 'sole-backend'],
      ['secure.example.com /plain/', 'exact'],
      ['secure.example.com /sidecar/', NA],
      ['secure.example.com /any/', 'sole-backend'],
      ['secure.example.com /pick/', 'exact'],
      ['secure.example.com /away/', 'nothing'],
      ['secure.example.com /video/', 'sole-backend'],
    ],
    stays: {
      'secure.example.com /': 'sole-backend',
      'secure.example.com /any/': 'sole-backend',
      'secure.example.com /away/': 'nothing',
      'secure.example.com /video/': 'sole-backend',
    },
  },
  'log-destinations': {
    about: 'stdout, syslog, gzip, a variable path, two logs, escape=none',
    before: [
      ['stdout.example.com /', 'nothing'],
      ['syslog.example.com /', 'nothing'],
      ['gzip.example.com /', 'nothing'],
      ['variable.example.com /', 'nothing'],
      ['two.example.com /', 'exact'],
      ['raw.example.com /', 'sole-backend'],
    ],
  },
  'local-port': {
    about: 'the local port settles TLS too',
    before: [['_ /', 'source-port']],
    localPortField: 'upstream_local_port',
  },
  stream: {
    about: 'TCP has no id, UDP is not followed',
    before: [
      ['_', 'sole-backend'],
      ['_', 'nothing'],
    ],
    stays: { _: 'sole-backend' },
  },
};

function label(finding: Finding): string {
  const inner = finding.route.chain.slice(2).map((s) => words(s.node!.args));
  return `${serverNames(finding.route.server)} ${inner.join(' > ')}`.trim();
}

function grades(diagnosis: Diagnosis): [string, Grade][] {
  return diagnosis.findings.map((f) => [label(f), f.grade]);
}

function withTexts(sources: ConfFiles, changed: ReadonlyMap<string, string>): ConfFiles {
  return { ...sources, texts: new Map([...sources.texts, ...changed]) };
}

/** A second, plain implementation of what `patch -p0` does. */
function applied(sources: ConfFiles, patch: string): ConfFiles {
  const texts = new Map<string, string>();
  for (const part of patch.split(/^--- .*\n\+\+\+ /m).slice(1)) {
    const [name, ...rows] = part.split('\n');
    const path = [...sources.texts.keys()].find((p) => p.replace(/^\/+/, '') === name)!;
    const old = sources.texts.get(path)!.split('\n');
    const out: string[] = [];
    let at = 0;
    for (const row of rows) {
      const hunk = /^@@ -(\d+),/.exec(row);
      if (hunk) {
        const start = Number(hunk[1]) - 1;
        out.push(...old.slice(at, start));
        at = start;
      } else if (row[0] === ' ' || row[0] === '-') {
        assert.equal(old[at++], row.slice(1), 'the patch fits the file');
        if (row[0] === ' ') out.push(row.slice(1));
      } else if (row[0] === '+') {
        out.push(row.slice(1));
      }
    }
    texts.set(path, [...out, ...old.slice(at)].join('\n'));
  }
  return withTexts(sources, texts);
}

test('every configuration among the fixtures has its expected grades', () => {
  const directories = readdirSync(ROOT, { withFileTypes: true }).filter((d) => d.isDirectory());
  assert.deepEqual(directories.map((d) => d.name).sort(), Object.keys(CASES).sort());
});

for (const [name, expected] of Object.entries(CASES)) {
  const names = { ...NAMES, ...(expected.localPortField ? { localPortField: expected.localPortField } : {}) };
  const sources = fromDisk(`${ROOT}${name}/nginx.conf`, processIo);

  test(`${name}: ${expected.about}`, () => {
    const diagnosis = examine(sources, names, false);
    assert.deepEqual(grades(diagnosis), expected.before);
    assert.deepEqual(diagnosis.model.unread, []);
    assert.equal(diagnosis.names.field, expected.field ?? 'request_id');
  });

  test(`${name}: the patch makes exact what can be, and a second one is empty`, () => {
    const proposed = fix(sources, names, false);
    const patched = applied(sources, proposed.patch);
    const after = examine(patched, names, false);
    assert.deepEqual(grades(after), grades(proposed.after));
    for (const f of after.findings) {
      const stays = expected.stays?.[label(f)];
      if (stays === undefined) assert.ok(isExact(f.grade) || f.grade === NA, `${label(f)}: ${f.grade}`);
    }
    const less = after.findings.filter((f) => !isExact(f.grade) && f.grade !== NA).map(label);
    assert.deepEqual([...new Set(less)], Object.keys(expected.stays ?? {}));
    assert.equal(allExact(after), expected.stays === undefined);
    assert.equal(fix(patched, names, false).patch, '');
  });

  test(`${name}: what is exact already is left alone`, () => {
    if (expected.before.every(([, v]) => v === 'exact' || v === 'source-port' || v === NA)) {
      assert.equal(fix(sources, names, false).patch, '');
    }
  });
}

test('a dump of nginx -T is read as its files are', () => {
  const sources = fromDump(readFileSync(`${ROOT}includes.dump`, 'latin1'));
  assert.deepEqual(grades(examine(sources, NAMES, false)), CASES.includes!.before);
  const { patch } = fix(sources, NAMES, false);
  assert.match(
    patch,
    /^--- etc\/nginx\/sites\/a\.conf\n\+\+\+ etc\/nginx\/sites\/a\.conf\n@@ -4,6 \+4,7 @@\n/,
  );
  assert.ok(allExact(examine(applied(sources, patch), NAMES, false)));
});
