import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Unread } from '../../src/http/helper/unread.ts';

const MB = 1024 * 1024;

test('a reader that leaves more than 8 MB unread is too far behind', () => {
  const unread = new Unread();
  assert.equal(unread.isTooMuch(100, 0, 1), false);
  assert.equal(unread.isTooMuch(8 * MB, 8 * MB, 1), false);
  assert.equal(unread.isTooMuch(1, 8 * MB + 1, 1), true);
});

test('many readers share what may be unread', () => {
  const unread = new Unread();
  assert.equal(unread.isTooMuch(100, 0, 128), false);
  assert.equal(unread.isTooMuch(2 * MB, 2 * MB, 64), false);
  assert.equal(unread.isTooMuch(100, MB + 1, 128), true);
});

test('the beginning of a reader that resumes does not count while it is read', () => {
  const unread = new Unread();
  assert.equal(unread.isTooMuch(40 * MB, 40 * MB, 1), false);
  // Nothing was read yet.
  assert.equal(unread.isTooMuch(8 * MB, 48 * MB, 1), false);
  // Half of the beginning was read: what came behind it is 8 MB still.
  assert.equal(unread.isTooMuch(0, 28 * MB, 1), false);
  assert.equal(unread.isTooMuch(1, 28 * MB + 1, 1), true);
});

test('a beginning that was read makes no more room', () => {
  const unread = new Unread();
  unread.isTooMuch(40 * MB, 40 * MB, 1);
  assert.equal(unread.isTooMuch(7 * MB, 7 * MB, 1), false);
  assert.equal(unread.isTooMuch(2 * MB, 9 * MB, 1), true);
});
