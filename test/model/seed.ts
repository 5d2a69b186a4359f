/**
 * The seed of this run: the same each time, so that a failure belongs to the commit. REALPOD_SEED is a number, or `random`
 * for a new one (a nightly run). Tests print it when they fail.
 */
export function testSeed(): number {
  const asked = process.env.REALPOD_SEED;
  if (asked === undefined || asked === '') return 1;
  if (asked === 'random') return Math.floor(Math.random() * 1_000_000_000);
  const seed = Number(asked);
  if (!Number.isSafeInteger(seed)) throw new Error(`REALPOD_SEED is ${asked}; give an integer or random`);
  return seed;
}
