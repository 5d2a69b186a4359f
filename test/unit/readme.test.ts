import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { EVIDENCE, REASONS } from '../../src/record/outcome.ts';
import { GENERATED, README, regenerate } from '../docs/readme.ts';

const text = readFileSync(README, 'utf8');

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
  for (const name of [...EVIDENCE.filter((evidence) => evidence !== 'timing'), ...REASONS]) {
    assert.ok(text.includes(`\`${name}\``), name);
  }
});
