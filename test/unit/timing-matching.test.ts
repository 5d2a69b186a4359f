import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { possibleEdges } from '../../src/inferred/matching.ts';

/** Every way to give each left vertex a right one of its own, by trying all. */
function assignments(edges: readonly (readonly number[])[]): number[][] {
  const found: number[][] = [];
  const chosen: number[] = [];
  const choose = (): void => {
    if (chosen.length === edges.length) {
      found.push([...chosen]);
      return;
    }
    for (const right of edges[chosen.length]!) {
      if (chosen.includes(right)) continue;
      chosen.push(right);
      choose();
      chosen.pop();
    }
  };
  choose();
  return found;
}

const graphs = fc
  .record({ rights: fc.integer({ min: 1, max: 6 }), lefts: fc.integer({ min: 1, max: 6 }) })
  .chain(({ rights, lefts }) =>
    fc.record({
      rights: fc.constant(rights),
      edges: fc.array(fc.subarray([...Array(rights).keys()]), { minLength: lefts, maxLength: lefts }),
    }),
  );

test('exactly the edges of all possible assignments are left', () => {
  fc.assert(
    fc.property(graphs, ({ rights, edges }) => {
      const all = assignments(edges);
      const result = possibleEdges(edges, rights);
      if (all.length === 0) {
        assert.ok(result.unmatched > 0);
        return;
      }
      assert.equal(result.unmatched, 0);
      edges.forEach((_, left) => {
        const wanted = [...new Set(all.map((assignment) => assignment[left]!))].sort();
        assert.deepEqual([...result.rights[left]!].sort(), wanted);
      });
    }),
    { numRuns: 3000 },
  );
});

test('as many of the wanted vertices are used as any assignment can use', () => {
  const wanting = graphs.chain((graph) =>
    fc.record({
      graph: fc.constant(graph),
      wanted: fc.array(fc.boolean(), { minLength: graph.rights, maxLength: graph.rights }),
    }),
  );
  fc.assert(
    fc.property(wanting, ({ graph: { rights, edges }, wanted }) => {
      const all = assignments(edges);
      if (all.length === 0) return;
      const unused = (used: readonly number[]) => wanted.filter((is, right) => is && !used.includes(right));
      const least = Math.min(...all.map((assignment) => unused(assignment).length));
      const { leftOver } = possibleEdges(edges, rights, wanted);
      assert.equal(leftOver.filter(Boolean).length, least);
    }),
    { numRuns: 3000 },
  );
});

test('a vertex too many casts doubt on those it competes with, and on no others', () => {
  const { doubtful, rights, unmatched } = possibleEdges([[0], [0], [1, 2], [2]], 3);
  assert.equal(unmatched, 1);
  assert.deepEqual(doubtful, [true, true, false, false]);
  assert.deepEqual(rights.slice(2), [[1], [2]]);
});

test('ten thousand vertices in a chain are matched without deep recursion', () => {
  const edges = Array.from({ length: 10_000 }, (_, i) => [i, i + 1]);
  edges.push([0]);
  const { rights, unmatched } = possibleEdges(edges, 10_001);
  assert.equal(unmatched, 0);
  assert.deepEqual(rights[9_999], [10_000]);
});
