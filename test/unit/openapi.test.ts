import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { ERRORS } from '../../src/http/errors.ts';
import type { Schema } from '../../src/http/sidecar/schemas.ts';
import { servedDemo } from './serve-app.ts';

interface Document {
  openapi: string;
  info: { version: string };
  paths: Record<
    string,
    {
      get: {
        summary: string;
        parameters: { name: string; in: string; schema: Schema }[];
        responses: Record<string, { description: string; content: Record<string, { schema: Schema }> }>;
      };
    }
  >;
}

const HTTP = new URL('../../src/http/', import.meta.url);
const SIDECAR = new URL('sidecar/', HTTP);
const apiText = readFileSync(new URL('../../docs/api.md', import.meta.url), 'utf8');

async function document(): Promise<Document> {
  return (await servedDemo().app.inject({ url: '/openapi.json' })).json();
}

/** What of `value` the schema does not describe. */
function* differences(value: unknown, schema: Schema, path: string): Generator<string> {
  const types = typeof schema.type === 'string' ? [schema.type] : (schema.type ?? []);
  const type = value === null ? 'null' : Array.isArray(value) ? 'array' : typeof value;
  const fits = types.some((t) => t === type || (t === 'integer' && Number.isInteger(value)));
  if (!fits) yield `${path}: ${JSON.stringify(value)} is not ${types.join(' or ')}`;
  if (schema.enum && !schema.enum.includes(value as string))
    yield `${path}: ${value} is none of ${schema.enum}`;
  if (Array.isArray(value)) {
    for (const [i, item] of value.entries()) yield* differences(item, schema.items!, `${path}[${i}]`);
  } else if (type === 'object') {
    const object = value as Record<string, unknown>;
    for (const name of schema.required ?? []) if (!(name in object)) yield `${path}.${name} is missing`;
    for (const [name, item] of Object.entries(object)) {
      const known =
        schema.properties?.[name] ??
        (typeof schema.additionalProperties === 'object' ? schema.additionalProperties : undefined);
      if (known) yield* differences(item, known, `${path}.${name}`);
      else if (schema.additionalProperties !== true) yield `${path}.${name} is not described`;
    }
  }
}

test('every answer is as the description says', async () => {
  const { app } = servedDemo();
  const { paths } = await document();
  const sport = (await app.inject({ url: '/lines?limit=1' })).json().lines[0].attempts[0].sport;
  const id = (await app.inject({ url: '/lines?limit=1' })).json().lines[0].id;
  for (const [url, status] of [
    ['/lines', 200],
    ['/pods', 200],
    ['/pods?series=true', 200],
    ['/status', 200],
    ['/healthz', 200],
    ['/readyz', 200],
    [`/lookup?port=${sport}`, 200],
    [`/lookup?request_id=${id}`, 200],
    ['/lookup?port=1', 404],
    ['/lookup?port=x', 400],
    ['/lines?limit=x', 400],
  ] as const) {
    const response = await app.inject({ url });
    assert.equal(response.statusCode, status, url);
    const described = paths[url.split('?')[0]!]!.get.responses[status];
    assert.ok(described, `${status} of ${url}`);
    const { schema } = described.content['application/json']!;
    assert.deepEqual([...differences(response.json(), schema, url)], []);
  }
});

test('every route is described, and API.md names the same ones', async () => {
  const { app } = servedDemo();
  const { paths, openapi, info } = await document();
  assert.match(openapi, /^3\.1\./);
  assert.match(info.version, /^\d+\.\d+\.\d+$/);
  const inText = [...apiText.matchAll(/^\| `(\/[^`]*)` \|/gm)].map(([, path]) => path);
  assert.deepEqual(Object.keys(paths).sort(), inText.sort());
  for (const path of Object.keys(paths)) assert.ok(app.hasRoute({ method: 'GET', url: path }), path);
  for (const [path, { get }] of Object.entries(paths)) {
    assert.notEqual(get.summary, '', path);
    for (const { name } of get.parameters)
      assert.match(apiText, new RegExp(`\`${name}(=N)?\``), `${path} ${name}`);
  }
});

test('code, description and API.md agree on the errors', async () => {
  const used = new Set<string>();
  const files = [
    ...readdirSync(SIDECAR).map((file) => `sidecar/${file}`),
    'app.ts',
    'metrics.ts',
    'server.ts',
  ];
  for (const file of files.filter((file) => file.endsWith('.ts'))) {
    const text = readFileSync(new URL(file, HTTP), 'utf8');
    for (const [, code] of text.matchAll(/\bfailure\(\s*'([a-z-]+)'/g)) used.add(code!);
    assert.doesNotMatch(text, /new HttpError\(/, `${file} gives an error that is not in the catalogue`);
  }
  assert.deepEqual([...used].sort(), Object.keys(ERRORS).sort());

  const inText = [...apiText.matchAll(/^\| `([a-z-]+)` \| (\d+) \| (.+) \|$/gm)].map(([, ...row]) => row);
  assert.deepEqual(
    inText,
    Object.entries(ERRORS).map(([code, { status, when }]) => [code, String(status), when]),
  );

  const described = new Set<string>(['no-such-route']);
  for (const { get } of Object.values((await document()).paths)) {
    for (const [status, { content }] of Object.entries(get.responses)) {
      const codes = content['application/json']?.schema.properties?.error?.properties?.code?.enum ?? [];
      for (const code of codes) {
        described.add(code);
        assert.equal(String(ERRORS[code as keyof typeof ERRORS].status), status);
      }
    }
  }
  assert.deepEqual([...described].sort(), Object.keys(ERRORS).sort());
});

test('every error has a code, a message and a next step, and none shows the inside', async () => {
  const { app, errors, index } = servedDemo();
  for (const url of [
    '/nothing',
    '/lookup?port=1',
    '/lookup?request_id=x',
    '/lines?limit=-1',
    '/page/none.js',
  ]) {
    const { error } = (await app.inject({ url })).json();
    assert.deepEqual(Object.keys(error), ['code', 'message', 'next'], url);
    for (const text of Object.values(error)) assert.ok(text, url);
  }
  index.onPort = () => {
    throw new Error('secret');
  };
  const response = await app.inject({ url: '/lookup?port=1' });
  assert.equal(response.statusCode, 500);
  assert.equal(response.json().error.code, 'internal');
  assert.doesNotMatch(response.payload, /secret/);
  assert.ok(errors.includes('secret'), 'the log has the reason');
});
