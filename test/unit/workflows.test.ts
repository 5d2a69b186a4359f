/** What the workflows promise: no test skips itself there unseen, and a failing night is an issue. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { skipBecause } from '../required.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

interface Step {
  if?: string;
  run?: string;
}
interface Job {
  steps: Step[];
  strategy?: { matrix: { include?: { run: string }[]; suite?: string[] } };
}
const workflow = (name: string) =>
  parse(read(`.github/workflows/${name}`)) as { env?: Record<string, string>; jobs: Record<string, Job> };

test('a test that skips itself asks whether it may', () => {
  const unasked: string[] = [];
  for (const folder of ['unit', 'model', 'lab', 'page'])
    for (const name of readdirSync(join(root, 'test', folder)).filter((each) => each.endsWith('.test.ts'))) {
      const text = read(`test/${folder}/${name}`);
      // As an option of a test, and as a call in one.
      const skips = /\bskip\b *[:,}]|\.(?:skip|todo)\(|\bconst skip =/.test(text);
      const asks = /\bskipBecause\(|\blabCanRun\(/.test(text.replace(/^import .*$/gm, ''));
      if (skips && !asks) unasked.push(`${folder}/${name}`);
    }
  assert.deepEqual(unasked, []);
});

test('in CI a skip is an error, and elsewhere a reason', (context) => {
  const { CI, REALPOD_LAB } = process.env;
  context.after(() => {
    for (const [name, value] of Object.entries({ CI, REALPOD_LAB }))
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
  });
  delete process.env.CI;
  delete process.env.REALPOD_LAB;
  assert.equal(skipBecause('no root'), 'no root');
  process.env.CI = 'true';
  assert.throws(() => skipBecause('no root'), /nothing may be skipped here, but: no root/);
  delete process.env.CI;
  process.env.REALPOD_LAB = 'required';
  assert.throws(() => skipBecause('no root'));
});

test('every script that a workflow runs is there, and ci and nightly demand that nothing is skipped', () => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
  for (const name of readdirSync(join(root, '.github/workflows'))) {
    const text = read(`.github/workflows/${name}`);
    for (const [, script] of text.matchAll(/npm run (?:--silent )?([a-z][a-z:-]*)/g))
      assert.ok(scripts[script!], `${name}: npm run ${script}`);
    for (const { strategy } of Object.values(workflow(name).jobs))
      for (const suite of strategy?.matrix.suite ?? []) assert.ok(scripts[suite], `${name}: ${suite}`);
  }
  for (const name of ['ci.yml', 'nightly.yml']) {
    const { CI, REALPOD_LAB } = workflow(name).env ?? {};
    assert.deepEqual([CI, REALPOD_LAB], ['true', 'required'], name);
  }
});

test('each night every random search has a new seed, and its failure opens an issue', () => {
  const { jobs } = workflow('nightly.yml');
  const text = read('.github/workflows/nightly.yml');
  const runs = Object.values(jobs).flatMap(
    ({ strategy }) => strategy?.matrix.include?.map(({ run }) => run) ?? [],
  );
  for (const script of ['test:unit', 'fuzz', 'chaos', 'mutate'])
    assert.ok(
      runs.some((run) => run.includes(`npm run ${script}`)),
      script,
    );
  assert.match(text, /REALPOD_SEED=/);
  for (const { steps } of Object.values(jobs)) {
    const last = steps.at(-1)!;
    assert.equal(last.if, 'failure()');
    assert.match(last.run ?? '', /gh issue create/);
  }
});
