import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fuzz, regressions, shares } from '../fuzz/fuzz.ts';
import { TARGETS } from '../fuzz/targets.ts';
import { testSeed } from '../model/seed.ts';

const INPUTS = Number(process.env.REALPOD_FUZZ_INPUTS ?? 40_000);
const SEED = testSeed();

for (const [i, target] of TARGETS.entries()) {
  test(`${target.name}: any bytes give a result or a reason, and what was found once stays mended`, () => {
    for (const { target: name, was, hex } of regressions())
      if (name === target.name) assert.doesNotThrow(() => target.run(Buffer.from(hex, 'hex')), was);
    const finding = fuzz(target, shares(INPUTS)[i]!, SEED + i);
    const shown = finding && JSON.stringify(finding.input.toString('latin1'));
    assert.equal(finding, undefined, `REALPOD_SEED=${SEED}: ${finding?.error.message}: ${shown}`);
  });
}

/** CPU time of a parser for its inputs, each repeated to `bytes` (ms); the least of three. */
function cost(run: (input: Buffer) => void, piece: Buffer, bytes: number): number {
  const input = Buffer.alloc(bytes, piece);
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 3; round++) {
    const begun = process.cpuUsage();
    run(input);
    const { user, system } = process.cpuUsage(begun);
    least = Math.min(least, (user + system) / 1000);
  }
  return least;
}

test('sixteen times the input takes no more than some forty times the work, whatever is repeated', () => {
  const LONG = 120_000;
  for (const target of TARGETS) {
    // Their inputs are small by nature: a configuration, a Deployment, a program of the test's own.
    if (['nginx configuration', 'YAML', 'join'].includes(target.name)) continue;
    const pieces = [...target.corpus.slice(0, 4), ...target.words.map((word) => Buffer.from(word, 'latin1'))];
    for (const piece of pieces) {
      if (piece.length === 0) continue;
      const short = cost(target.run, piece, LONG / 16);
      const long = cost(target.run, piece, LONG);
      // 60 ms for what a busy machine adds; quadratic work would take 256 times.
      assert.ok(
        long < 40 * short + 60,
        `${target.name}: ${short} ms for ${LONG / 16} bytes, ${long} ms for ${LONG}, repeating ${JSON.stringify(piece.toString('latin1').slice(0, 60))}`,
      );
    }
  }
});
