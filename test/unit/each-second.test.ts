import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { untilLook } from '../../src/each-second.ts';

test('what is looked at once a second has its moment 10 ms before the full second, and never two in a row', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 1_900_000_000_000 }), (now) => {
      const wait = untilLook(now);
      assert.equal((now + wait) % 1_000, 990);
      assert.ok(wait > 10 && wait <= 1_010, `${wait}`);
      assert.ok(untilLook(now + wait) >= 980, 'the next one is a second later');
    }),
  );
  assert.deepEqual([0, 979, 980, 989, 990, 999].map(untilLook), [990, 11, 1_010, 1_001, 1_000, 991]);
});
