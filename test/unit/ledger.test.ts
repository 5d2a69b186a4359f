/** The answers that lines can have had, by content. `answers.test.ts` has them behind the rule. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Answer, Ledgers } from '../../src/join/index/ledger.ts';

interface Pod {
  backend: object;
}

const A = { name: 'a' };
const B = { name: 'b' };
const answerOf = (backend: object, to = 0): Answer<Pod> => ({
  from: to,
  to,
  connection: { backend },
  request: undefined,
});

test('whether a line can have had an answer is told for contents of each depth', () => {
  for (const place of [[], [1], [1, 2]]) {
    const ledgers = new Ledgers<Pod>();
    ledgers.add(answerOf(A), place);
    ledgers.add(answerOf(A), place);
    assert.equal(ledgers.spend(B, place), false, 'none of that pod');
    assert.deepEqual([ledgers.spend(A, place), ledgers.spend(undefined, place)], [true, true]);
    assert.deepEqual([ledgers.spend(A, place), ledgers.isEmpty], [false, true]);
  }
});

test('where contents are no longer told apart, what was spent of each pod stays spent', () => {
  const ledgers = new Ledgers<Pod>();
  for (const place of [[1], [2]]) {
    ledgers.add(answerOf(A), place);
    ledgers.add(answerOf(A), place);
    ledgers.add(answerOf(B), place);
    assert.equal(ledgers.spend(A, place), true);
  }
  assert.equal(ledgers.ofOnePod([]), undefined);
  assert.equal(ledgers.count, 4);
  assert.equal(ledgers.spend(A, []), true);
  assert.equal(ledgers.ofOnePod([]), undefined, 'one of its four is left');
  assert.equal(ledgers.spend(A, []), true);
  assert.deepEqual(
    ledgers.ofOnePod([])?.map(({ connection }) => connection.backend),
    [B, B],
  );
});

test('spent answers of unknown pods stay spent, too', () => {
  const ledgers = new Ledgers<Pod>();
  for (const place of [[1], [2]]) {
    ledgers.add(answerOf(A), place);
    ledgers.add(answerOf(B), place);
    assert.equal(ledgers.spend(undefined, place), true);
  }
  assert.equal(ledgers.ofOnePod([]), undefined);
  assert.equal(ledgers.spend(undefined, []), true);
  assert.equal(ledgers.isEmpty, false, 'one of the four is left');
  assert.equal(ledgers.spend(undefined, []), true);
  assert.equal(ledgers.isEmpty, true);
});

const overBy =
  (t: number) =>
  ({ to }: Answer<Pod>): boolean =>
    to <= t;

test('of the answers that are over, as many as can be are those that were spent of the pod', () => {
  const ledgers = new Ledgers<Pod>();
  for (const to of [1, 2, 3]) ledgers.add(answerOf(A, to), [7]);
  ledgers.add(answerOf(B, 3), [7]);
  ledgers.spend(A, [7]);
  ledgers.drop(overBy(1));
  assert.equal(ledgers.count, 3);
  assert.equal(ledgers.ofOnePod([7]), undefined);
  for (const left of [2, 1]) {
    ledgers.spend(undefined, [7]);
    assert.equal(ledgers.isEmpty, false, `${left} may be left`);
  }
  ledgers.spend(undefined, [7]);
  assert.equal(ledgers.isEmpty, true);
});

test('they may also be those that were spent of unknown pods', () => {
  const ledgers = new Ledgers<Pod>();
  for (const to of [1, 2]) ledgers.add(answerOf(A, to), []);
  ledgers.add(answerOf(B, 2), []);
  ledgers.spend(undefined, []);
  ledgers.drop(overBy(1));
  ledgers.spend(undefined, []);
  assert.equal(ledgers.isEmpty, false);
  ledgers.spend(undefined, []);
  assert.equal(ledgers.isEmpty, true);
});

test('a pod whose answers are all over is none of those that remain', () => {
  const ledgers = new Ledgers<Pod>();
  ledgers.add(answerOf(A, 1), []);
  ledgers.add(answerOf(B, 2), []);
  ledgers.drop(overBy(1));
  assert.equal(ledgers.ofOnePod([])?.length, 1);
});

test('what is left after a moment of quiet can be spent one by one', () => {
  const ledgers = new Ledgers<Pod>();
  for (const to of [1, 2, 3, 4]) ledgers.add(answerOf(A, to), []);
  ledgers.add(answerOf(B, 4), []);
  ledgers.spend(A, []);
  ledgers.spend(A, []);
  ledgers.drop(overBy(1));
  assert.equal(ledgers.count, 3, 'two of A, one of B');
  ledgers.drop(overBy(2));
  assert.equal(ledgers.count, 3);
  ledgers.spend(A, []);
  assert.equal(ledgers.ofOnePod([]), undefined, 'one of A is left');
  ledgers.spend(A, []);
  assert.deepEqual(
    ledgers.ofOnePod([])?.map(({ connection }) => connection.backend),
    [B],
  );
});

test('where it is no longer known how many are spent, all of unknown pods may be left', () => {
  const ledgers = new Ledgers<Pod>();
  ledgers.add(answerOf(A), [1]);
  ledgers.add(answerOf(B), [1]);
  ledgers.spend(undefined, [1]);
  ledgers.forgetSpent();
  ledgers.spend(undefined, [1]);
  assert.equal(ledgers.isEmpty, false);
});
