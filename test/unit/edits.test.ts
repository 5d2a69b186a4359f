import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Edits } from '../../src/rewrite/edits.ts';

/** Texts of all lengths beside those of the spans they replace; `inserted`: added after all others, by `insert`. */
const edit = fc.record({
  gap: fc.nat(9),
  length: fc.integer({ min: 1, max: 30 }),
  text: fc.string({ unit: 'grapheme-ascii', maxLength: 90 }),
  inserted: fc.boolean(),
});

test('a block with edits is what the same replacements make of its text', () => {
  fc.assert(
    fc.property(fc.array(edit, { maxLength: 12 }), fc.nat(20), fc.nat(20), (drawn, before, after) => {
      let at = before;
      const spans = drawn.map(({ gap, length, text, inserted }) => {
        const start = at + gap;
        at = start + length;
        return { start, end: at, text, inserted };
      });
      const block = Buffer.from(Array.from({ length: at + after }, (_, i) => 65 + (i % 26)));
      const edits = new Edits();
      // From a block before this one nothing is left.
      edits.add(0, 1, 'x'.repeat(99));
      edits.clear();
      for (const { start, end, text, inserted } of spans) if (!inserted) edits.add(start, end, text);
      for (const { start, end, text, inserted } of spans) if (inserted) edits.insert(start, end, text);
      let expected = '';
      let read = before;
      for (const { start, end, text } of spans) {
        expected += block.toString('latin1', read, start) + text;
        read = end;
      }
      expected += block.toString('latin1', read, at + after);
      const untouched = Buffer.from(block);
      assert.equal(edits.apply(block, before, at + after).toString('latin1'), expected);
      assert.deepEqual(block, untouched);
    }),
  );
});
