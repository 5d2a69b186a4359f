/**
 * Response times in counted buckets: exact below 8 ms, then four to an octave, so that a quantile is at most an eighth
 * off. No bucket is finer than nginx's whole milliseconds.
 */
const EXACT = 8;
const FIRST_OCTAVE = 3;
const LAST_OCTAVE = 20;
export const LATENCY_BUCKETS = EXACT + (LAST_OCTAVE - FIRST_OCTAVE + 1) * 4;

/** The bucket of a time in ms; times above half an hour are in the last. */
export function latencyBucket(ms: number): number {
  if (ms < EXACT) return ms > 0 ? ms | 0 : 0;
  if (ms >= 2 ** (LAST_OCTAVE + 1)) return LATENCY_BUCKETS - 1;
  const octave = 31 - Math.clz32(ms);
  return EXACT + (octave - FIRST_OCTAVE) * 4 + ((ms >> (octave - 2)) & 3);
}

/** The smallest time of a bucket, ms. */
export function bucketStart(bucket: number): number {
  if (bucket < EXACT) return bucket;
  const octave = FIRST_OCTAVE + ((bucket - EXACT) >> 2);
  return (4 + ((bucket - EXACT) & 3)) * 2 ** (octave - 2);
}

/** The quantile `q` (0 to 1) of the counted times, ms; null if there are none. */
export function quantile(counts: ArrayLike<number>, q: number): number | null {
  let total = 0;
  for (let b = 0; b < counts.length; b++) total += counts[b]!;
  if (total === 0) return null;
  const rank = Math.max(1, Math.ceil(q * total));
  let before = 0;
  for (let b = 0; b < counts.length; b++) {
    const here = counts[b]!;
    if (before + here >= rank) {
      if (b < EXACT) return b;
      const start = bucketStart(b);
      return Math.round(start + ((rank - before - 0.5) / here) * (bucketStart(b + 1) - start));
    }
    before += here;
  }
  return null;
}

/** How many of the counted times lie in buckets that begin at `ms` or later. */
export function countFrom(counts: ArrayLike<number>, ms: number): number {
  let count = 0;
  for (let b = counts.length - 1; b >= 0 && bucketStart(b) >= ms; b--) count += counts[b]!;
  return count;
}

/** Upper bounds of the Prometheus histogram, seconds. */
export const SECONDS_BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10] as const;

const INDEX_BY_MS = new Uint8Array(10_001);
for (let ms = 0, bound = 0; ms < INDEX_BY_MS.length; ms++) {
  if (ms > SECONDS_BOUNDS[bound]! * 1000) bound++;
  INDEX_BY_MS[ms] = bound;
}

/** Index into SECONDS_BOUNDS of the first bound that `ms` (whole) does not exceed; its length where it exceeds all. */
export function secondsBucket(ms: number): number {
  return ms < INDEX_BY_MS.length ? INDEX_BY_MS[ms]! : SECONDS_BOUNDS.length;
}
