/** The answers of one Service: from when on they are all known, and what happens at the limit. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Answers } from '../../src/join/index/answers.ts';

interface Connection {
  backend: object;
  closeTo: number;
  latest: { to: number } | undefined;
}

const POD = {};
const OTHER = {};

function closed(backend: object, at: number): Connection {
  return { backend, closeTo: at, latest: { to: at - 1 } };
}

/** A line that was written and read at `at`, after a quiet moment at `quiet`. */
function ready(answers: Answers<Connection>, at: number, quiet: number): boolean {
  return answers.isReadyFor(at, at, { before: quiet, after: quiet + 1 });
}

function podsAt(answers: Answers<Connection>): readonly object[] | undefined {
  return answers.ofOnePod(undefined)?.map(({ connection }) => connection.backend);
}

test('nothing is concluded from a quiet moment before which answers may be missing', () => {
  const answers = new Answers<Connection>(100);
  assert.equal(ready(answers, 100, 99), false);
  assert.equal(answers.since, Infinity);
  assert.equal(ready(answers, 102, 100), true);
  assert.equal(answers.since, 100);
});

test('an attempt that failed at the moment from which on answers are known counts', () => {
  const answers = new Answers<Connection>(0);
  answers.endedWithout(50);
  ready(answers, 60, 50);
  assert.equal(answers.someFailed, true);
  ready(answers, 70, 51);
  answers.add(closed(POD, 60), 60, 60, undefined);
  ready(answers, 80, 51);
  ready(answers, 90, 61);
  assert.equal(answers.someFailed, false);
});

test('a line can have an answer that began at the time of its reading', () => {
  const answers = new Answers<Connection>(0);
  ready(answers, 2, 0);
  answers.add(closed(POD, 9), 9, 9, undefined);
  answers.add(closed(OTHER, 10), 10, 10, undefined);
  assert.equal(ready(answers, 10, 0), true);
  assert.equal(podsAt(answers), undefined);
  assert.equal(answers.count, 2);
});

for (const [name, read] of [
  ['that lines can have had', 4_000],
  ['that began after the last reading', 0],
] as const)
  test(`with too many answers, most of them ${name}, all are forgotten until the next quiet moment`, () => {
    const answers = new Answers<Connection>(0);
    ready(answers, 2, 0);
    let kept = 0;
    while (answers.add(closed(POD, 10 + kept), 10 + kept, 10 + kept, undefined)) {
      kept++;
      if (kept === read) ready(answers, 10 + kept, 0);
      assert.ok(kept < 5_000, 'no limit');
    }
    assert.equal(kept, 4_096);
    assert.equal(answers.since, Infinity);
    assert.equal(answers.count, 0);
    assert.equal(ready(answers, 20_000, 4_000), false);
    assert.equal(ready(answers, 20_000, 10_000), true);
  });

test('answers that were spent make room, once enough of them are', () => {
  const answers = new Answers<Connection>(0);
  ready(answers, 2, 0);
  const add = (at: number): boolean => answers.add(closed(at % 2 ? POD : OTHER, at), at, at, undefined);
  for (let at = 10; at < 4_106; at++) assert.ok(add(at));
  ready(answers, 4_106, 0);
  for (let n = 0; n < 1_025; n++) assert.ok(answers.spend(n % 2 ? POD : OTHER, undefined));
  for (let at = 4_106; at < 4_106 + 1_024; at++) assert.ok(add(at), `${at}`);
});
