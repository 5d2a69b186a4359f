import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { EVIDENCE, REASONS } from '../../src/model/outcome.ts';
import { EVIDENCE as EXPLAINED, REASON, UNPARSED } from '../../src/page/explain.ts';
import { address, ago, milliseconds, percent, podLabel, rate } from '../../src/page/format.ts';
import { servedDemo } from './serve-app.ts';

const PAGE = new URL('../../src/page/', import.meta.url);
const html = readFileSync(new URL('index.html', PAGE), 'utf8');
const files = readdirSync(PAGE);
const scripts = files
  .filter((name) => name.endsWith('.ts'))
  .map((name) => readFileSync(new URL(name, PAGE), 'utf8'));

test('the page asks for its own files only, by relative addresses, so that it works behind any prefix', () => {
  for (const [, address] of html.matchAll(/(?:src|href)="([^"]*)"/g)) {
    if (address!.startsWith('#') || address!.startsWith('data:')) continue;
    assert.doesNotMatch(address!, /^(\/|https?:)/, address);
    const file = /^page\/(.*)$/.exec(address!)?.[1];
    if (file === undefined || file.startsWith('uplot.')) continue;
    assert.ok(files.includes(file) || files.includes(file.replace(/\.js$/, '.ts')), file);
  }
  for (const script of scripts)
    assert.doesNotMatch(script, /https?:\/\/|innerHTML|insertAdjacentHTML|\beval\b/);
});

test('every element that a script asks for by id is in the page', () => {
  const ids = new Set([...html.matchAll(/\bid="([^"]+)"/g)].map(([, id]) => id));
  let asked = 0;
  for (const script of scripts) {
    for (const [, id] of script.matchAll(/byId(?:<\w+>)?\('([^']+)'\)/g)) {
      asked++;
      assert.ok(ids.has(id), id);
    }
  }
  assert.ok(asked > 10);
});

test('all of the page together is less than 45 KB on the wire', async () => {
  const { app } = servedDemo();
  const asked = ['/', '/page/uplot.js', '/page/uplot.css', '/page/page.css'];
  asked.push(...files.filter((name) => name.endsWith('.ts')).map((name) => `/page/${name.slice(0, -3)}.js`));
  let bytes = 0;
  for (const url of asked) {
    const response = await app.inject({ url, headers: { 'accept-encoding': 'gzip' } });
    assert.equal(response.statusCode, 200, url);
    assert.equal(response.headers['content-encoding'], 'gzip');
    bytes += response.rawPayload.length;
  }
  assert.ok(bytes < 45_000, `${bytes} bytes`);
});

test('every evidence and every reason is explained', () => {
  assert.deepEqual(Object.keys(EXPLAINED).sort(), [...EVIDENCE].sort());
  assert.deepEqual(Object.keys(REASON).sort(), [...REASONS].sort());
  assert.deepEqual(Object.keys(UNPARSED).sort(), ['empty', 'format', 'too-long']);
});

test('numbers are short and never hide what is not zero', () => {
  assert.deepEqual([0, 0.0004, 0.012, 0.35, 1].map(percent), ['0 %', '< 0.1 %', '1.2 %', '35 %', '100 %']);
  assert.deepEqual([0, 0.5, 12.34, 1234.5].map(rate), ['0.00', '0.50', '12.3', '1235']);
  assert.deepEqual([null, 0, 15, 12_345].map(milliseconds), ['–', '0', '15', '12.3 s']);
  assert.deepEqual(
    [0, 1_000, 59_000, 600_000].map((ms) => ago(0, ms)),
    ['now', 'now', '59 s ago', '10 min ago'],
  );
  assert.equal(address('fd00::1', 80), '[fd00::1]:80');
  assert.equal(podLabel({ pod: '', ip: '10.0.0.1', port: 80 }), '10.0.0.1:80');
});
