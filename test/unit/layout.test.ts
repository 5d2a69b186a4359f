import assert from 'node:assert/strict';
import { test } from 'node:test';
import { arrowsUp } from '../docs/layout.ts';

test('every import between two places of src/ goes to a lower layer', () => {
  assert.deepEqual(arrowsUp(), []);
});
