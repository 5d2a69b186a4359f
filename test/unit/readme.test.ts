import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { EVIDENCE, REASONS } from '../../src/model/outcome.ts';
import { GENERATED, README, regenerate } from '../docs/readme.ts';

const text = readFileSync(README, 'utf8');
const doc = (name: string): string => readFileSync(new URL(`../../docs/${name}`, import.meta.url), 'utf8');

test('the README is one screen and a half', () => {
  assert.ok(Buffer.byteLength(text) <= 9 * 1024, `${Buffer.byteLength(text)} bytes`);
});

test('the generated tables are those of this code (npm run docs makes them anew)', () => {
  for (const path of GENERATED) {
    const made = readFileSync(path, 'utf8');
    assert.equal(made, regenerate(made), path);
  }
});

test('every npm script that the README names is there', () => {
  const { scripts } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    scripts: Record<string, string>;
  };
  for (const [, name] of text.matchAll(/npm (?:run )?(start|test|[a-z]+:[a-z]+|docs|bench|soak)\b/g)) {
    assert.ok(name! in scripts, `npm script ${name}`);
  }
});

test('every reason, and every evidence that is found, is explained', () => {
  const evidence = doc('evidence.md');
  const concepts = doc('concepts.md');
  for (const name of EVIDENCE) if (name !== 'timing') assert.ok(evidence.includes(`\`${name}\``), name);
  for (const name of REASONS) assert.ok(concepts.includes(`| \`${name}\` |`), name);
});

/** The rows of "What can go wrong": metrics and log lines that it names, without labels. */
function troubles(): { metrics: string[]; said: string[] }[] {
  const [, section = ''] = doc('operations.md').split('\n## What can go wrong\n');
  const rows = section
    .split('\n## ')[0]!
    .split('\n')
    .filter((line) => line.startsWith('| '));
  return rows.slice(2).map((row) => {
    const [, , metric = '', line = ''] = row.slice(2).split(' | ');
    const quoted = (cell: string): string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, what]) => what!);
    return {
      metrics: quoted(metric).map((name) => name.replace(/\{.*/, '')),
      said: line.startsWith('kernel:') ? [] : quoted(line),
    };
  });
}

/** All string literals of the code, with an ellipsis for what is filled in. */
const code = readdirSync(new URL('../../src/', import.meta.url), { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts'))
  .map((path) => readFileSync(new URL(`../../src/${path}`, import.meta.url), 'utf8'))
  .join('\n')
  .replaceAll(/\$\{[^}]*\}/g, '…');

test('every metric and every log line of "What can go wrong" is in the code', () => {
  const rows = troubles();
  assert.ok(rows.length > 15, `${rows.length} rows`);
  const metrics = rows.flatMap((row) => row.metrics);
  const said = rows.flatMap((row) => row.said);
  assert.ok(metrics.length > 20 && said.length > 8, JSON.stringify({ metrics, said }));
  for (const name of metrics) {
    // Of the kernel's own.
    if (name.startsWith('nf_')) continue;
    assert.ok(code.includes(`'${name}'`), `no metric ${name}`);
  }
  for (const line of said) assert.ok(code.includes(line), `nobody says ${line}`);
});
