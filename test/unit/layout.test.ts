import assert from 'node:assert/strict';
import { test } from 'node:test';
import { arrowsUp, importersOf, sharedPackages } from '../docs/layout.ts';

test('every import between two places of src/ goes to a lower layer', () => {
  assert.deepEqual(arrowsUp(), []);
});

test('the rules know nothing of what is deduced: src/inferred has one way in', () => {
  assert.deepEqual(importersOf('inferred'), ['join/deduction.ts']);
});

test('each outside package is imported by one file', () => {
  assert.deepEqual(sharedPackages(), []);
});
