/** Narrows the opening times of connections by the order of their events. */
import type { TimedAttempt } from './timed-attempt.ts';
import type { TimedFlow } from './timed-flow.ts';

/** Attempts counted together. With fewer the result is wider, never too narrow. */
const COUNTED_TOGETHER = 32;
const MOST_ROUNDS = 8;

/**
 * Narrows `from` and `to` of connections that were read together and so have one span of time for all.
 *
 * Attempts that all began after L need as many connections opened after L; where c of them were connected by x, the c-th
 * connection that can have been opened after L was opened by x, as the c connections they had are among those from the
 * first such on. Likewise backwards. `flows` are in their order, and each attempt has had one of its own among them.
 */
export function narrowByOrder(
  flows: readonly TimedFlow[],
  attempts: readonly TimedAttempt[],
  grainMs: number,
): void {
  if (flows.length === 0) return;
  const byBegin = [...attempts].sort((a, b) => a.lo - b.lo);
  const byEnd = [...attempts].sort((a, b) => a.openBy - b.openBy);
  for (let round = 0; round < MOST_ROUNDS; round++) {
    const before = keepOrder(flows);
    narrowEnds(flows, byBegin, grainMs);
    narrowBeginnings(flows, byEnd, grainMs);
    if (keepOrder(flows) === before) return;
  }
}

/** Each was opened after the one before it. Returns the sum of all spans, which falls with every narrowing. */
function keepOrder(flows: readonly TimedFlow[]): number {
  let sum = 0;
  for (let i = 1; i < flows.length; i++) flows[i]!.from = Math.max(flows[i]!.from, flows[i - 1]!.from);
  for (let i = flows.length - 2; i >= 0; i--) flows[i]!.to = Math.min(flows[i]!.to, flows[i + 1]!.to);
  for (const flow of flows) sum += flow.to - flow.from;
  return sum;
}

function narrowEnds(flows: readonly TimedFlow[], byBegin: readonly TimedAttempt[], grainMs: number): void {
  let first = 0;
  for (let i = 0; i < byBegin.length; i++) {
    while (first < flows.length && flows[first]!.to < byBegin[i]!.lo) first++;
    const connected: number[] = [];
    for (let j = i; j < byBegin.length && j < i + COUNTED_TOGETHER; j++)
      connected.push(byBegin[j]!.openBy + grainMs);
    connected.sort((a, b) => a - b);
    for (let c = 0; c < connected.length && first + c < flows.length; c++) {
      const flow = flows[first + c]!;
      flow.to = Math.min(flow.to, connected[c]!);
    }
  }
}

function narrowBeginnings(
  flows: readonly TimedFlow[],
  byEnd: readonly TimedAttempt[],
  grainMs: number,
): void {
  let last = flows.length - 1;
  for (let i = byEnd.length - 1; i >= 0; i--) {
    while (last >= 0 && flows[last]!.from > byEnd[i]!.openBy + grainMs) last--;
    const begun: number[] = [];
    for (let j = i; j >= 0 && j > i - COUNTED_TOGETHER; j--) begun.push(byEnd[j]!.lo);
    begun.sort((a, b) => b - a);
    for (let c = 0; c < begun.length && last - c >= 0; c++) {
      const flow = flows[last - c]!;
      flow.from = Math.max(flow.from, begun[c]!);
    }
  }
}
