import { mayBe } from './candidates.ts';
import type { TappedRequest } from './index/connection.ts';
import type { Query } from './query.ts';

/**
 * For each attempt, in nginx's order, the requests that at least one valid assignment gives it. An assignment is valid if
 * it keeps the order of the wire, gives a request to every attempt that was certainly sent, and none to attempts that were
 * certainly not sent. `seen` is in the order of the wire.
 */
export function orderedAssignments(
  queries: readonly Query[],
  seen: readonly TappedRequest[],
): (readonly TappedRequest[])[] {
  const n = queries.length;
  const m = seen.length;
  const fit = (i: number, j: number): boolean => mayBe(seen[j]!, queries[i]!);
  const sent = queries.map(({ carried }) => carried);
  // before[i][j]: attempts < i can all be accounted for with requests < j. after[i][j]: attempts >= i with requests >= j.
  const before = grid(n, m);
  const after = grid(n, m);
  for (let i = 0; i <= n; i++) {
    for (let j = 0; j <= m; j++) {
      before[i]![j] =
        i === 0 ||
        (sent[i - 1] !== 'yes' && before[i - 1]![j]!) ||
        (j > 0 &&
          (before[i]![j - 1]! || (sent[i - 1] !== 'no' && before[i - 1]![j - 1]! && fit(i - 1, j - 1))));
    }
  }
  for (let i = n; i >= 0; i--) {
    for (let j = m; j >= 0; j--) {
      after[i]![j] =
        i === n ||
        (sent[i] !== 'yes' && after[i + 1]![j]!) ||
        (j < m && (after[i]![j + 1]! || (sent[i] !== 'no' && after[i + 1]![j + 1]! && fit(i, j))));
    }
  }
  return queries.map((_, i) =>
    seen.filter((_request, j) => sent[i] !== 'no' && before[i]![j]! && after[i + 1]![j + 1]! && fit(i, j)),
  );
}

function grid(n: number, m: number): boolean[][] {
  return Array.from({ length: n + 1 }, () => new Array<boolean>(m + 1).fill(false));
}
