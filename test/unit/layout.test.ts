import assert from 'node:assert/strict';
import { test } from 'node:test';
import { arrowsUp, sharedPackages } from '../docs/layout.ts';

test('every import between two places of src/ goes to a lower layer', () => {
  assert.deepEqual(arrowsUp(), []);
});

test('each outside package is imported by one file', () => {
  assert.deepEqual(sharedPackages(), []);
});
