/**
 * Which edges of a bipartite graph can be part of the truth, when the truth is known to give every left vertex a right
 * vertex of its own: those that lie in some maximum matching (Hopcroft and Karp 1973; Dulmage and Mendelsohn 1958).
 */
export interface Possible {
  /** By left vertex: the right vertices that some matching of all left vertices gives it. Empty where `doubtful`. */
  rights: number[][];
  /**
   * Left vertices that cannot all be matched: one of them, or of those whose mates they could take, contradicts the
   * assumption. None of these gets a result.
   */
  doubtful: boolean[];
  /** Number of left vertices without a mate: 0 if the assumption is possible. */
  unmatched: number;
  /** Right vertices of `wanted` that no matching uses together with the others of these. */
  leftOver: boolean[];
}

const NONE = -1;

/**
 * `edges[left]` lists the right vertices, each in 0..rightCount-1 and once; `wanted[right]`: it should be used, where that
 * is possible. O(edges × √vertices): `wanted` vertices beyond `WANTED_WORK` stay free.
 */
export function possibleEdges(
  edges: readonly (readonly number[])[],
  rightCount: number,
  wanted: readonly boolean[] = [],
): Possible {
  const leftCount = edges.length;
  const mateOfRight = new Int32Array(rightCount).fill(NONE);
  const mateOfLeft = maximumMatching(edges, mateOfRight);
  const byRight: number[][] = Array.from({ length: rightCount }, () => []);
  edges.forEach((rights, left) => {
    for (const right of rights) byRight[right]!.push(left);
  });
  useWanted(wanted, byRight, mateOfLeft, mateOfRight);
  const doubtful = reachableFromUnmatched(edges, mateOfLeft, mateOfRight);
  const canBeFree = freeable(byRight, mateOfLeft, mateOfRight);
  const component = components(edges, mateOfLeft, mateOfRight);
  const rights: number[][] = [];
  let unmatched = 0;
  for (let left = 0; left < leftCount; left++) {
    const mate = mateOfLeft[left]!;
    if (mate === NONE) unmatched++;
    rights.push(
      doubtful[left]
        ? []
        : edges[left]!.filter(
            (right) =>
              right === mate || canBeFree[right] || component[mateOfRight[right]!] === component[left],
          ),
    );
  }
  const leftOver = Array.from(mateOfRight, (left, right) => left === NONE && wanted[right] === true);
  return { rights, doubtful, unmatched, leftOver };
}

/** Fills `mateOfRight` and returns the mates of the left vertices. */
function maximumMatching(edges: readonly (readonly number[])[], mateOfRight: Int32Array): Int32Array {
  const mateOfLeft = new Int32Array(edges.length).fill(NONE);
  // In the order of time, the first free vertex for each is nearly maximum already.
  edges.forEach((rights, left) => {
    for (const right of rights) {
      if (mateOfRight[right] !== NONE) continue;
      mateOfRight[right] = left;
      mateOfLeft[left] = right;
      return;
    }
  });
  const level = new Int32Array(edges.length);
  const next = new Int32Array(edges.length);
  while (layer(edges, mateOfLeft, mateOfRight, level)) {
    next.fill(0);
    for (let left = 0; left < edges.length; left++) {
      if (mateOfLeft[left] === NONE) augment(left, edges, mateOfLeft, mateOfRight, level, next);
    }
  }
  return mateOfLeft;
}

/** Breadth-first levels from the unmatched left vertices; whether a free right vertex was met. */
function layer(
  edges: readonly (readonly number[])[],
  mateOfLeft: Int32Array,
  mateOfRight: Int32Array,
  level: Int32Array,
): boolean {
  const queue: number[] = [];
  let found = false;
  for (let left = 0; left < edges.length; left++) {
    level[left] = mateOfLeft[left] === NONE ? 0 : NONE;
    if (level[left] === 0) queue.push(left);
  }
  for (let at = 0; at < queue.length; at++) {
    const left = queue[at]!;
    for (const right of edges[left]!) {
      const mate = mateOfRight[right]!;
      if (mate === NONE) found = true;
      else if (level[mate] === NONE) {
        level[mate] = level[left]! + 1;
        queue.push(mate);
      }
    }
  }
  return found;
}

/** One augmenting path along the levels, depth first. `next` remembers, by left vertex, the edges tried in this phase. */
function augment(
  start: number,
  edges: readonly (readonly number[])[],
  mateOfLeft: Int32Array,
  mateOfRight: Int32Array,
  level: Int32Array,
  next: Int32Array,
): void {
  const path = [start];
  while (path.length > 0) {
    const left = path[path.length - 1]!;
    const right = edges[left]![next[left]!];
    if (right === undefined) {
      path.pop();
      const before = path[path.length - 1];
      if (before !== undefined) next[before]!++;
      continue;
    }
    const mate = mateOfRight[right]!;
    if (mate === NONE) {
      for (const each of path) {
        const taken = edges[each]![next[each]!]!;
        mateOfRight[taken] = each;
        mateOfLeft[each] = taken;
        next[each]!++;
      }
      return;
    }
    if (level[mate] === level[left]! + 1) path.push(mate);
    else next[left]!++;
  }
}

/** Edges that `useWanted` may follow for each edge of the graph. */
const WANTED_WORK = 8;

/** Moves mates along alternating paths so that as many wanted vertices as possible have a mate. The number of mates stays. */
function useWanted(
  wanted: readonly boolean[],
  byRight: readonly (readonly number[])[],
  mateOfLeft: Int32Array,
  mateOfRight: Int32Array,
): void {
  const seen = new Int32Array(mateOfLeft.length).fill(NONE);
  const before = new Int32Array(byRight.length);
  let work = 0;
  for (const lefts of byRight) work += lefts.length * WANTED_WORK;
  for (let start = 0; start < byRight.length; start++) {
    if (!wanted[start] || mateOfRight[start] !== NONE) continue;
    // Those that are left seem to be left over, so that less is named.
    if (work <= 0) return;
    const queue = [start];
    let end = NONE;
    for (let at = 0; at < queue.length && end === NONE; at++) {
      for (const left of byRight[queue[at]!]!) {
        work--;
        const right = mateOfLeft[left]!;
        if (seen[left] === start || right === NONE) continue;
        seen[left] = start;
        before[right] = queue[at]!;
        if (!wanted[right]) {
          end = right;
          break;
        }
        queue.push(right);
      }
    }
    if (end === NONE) continue;
    // From the unwanted end back to the start, each mate moves to the vertex before.
    let right = end;
    let left = mateOfRight[right]!;
    mateOfRight[right] = NONE;
    while (right !== start) {
      right = before[right]!;
      const displaced = mateOfRight[right]!;
      mateOfRight[right] = left;
      mateOfLeft[left] = right;
      left = displaced;
    }
  }
}

/** Left vertices on an alternating path from an unmatched one. */
function reachableFromUnmatched(
  edges: readonly (readonly number[])[],
  mateOfLeft: Int32Array,
  mateOfRight: Int32Array,
): boolean[] {
  const reached = edges.map((_, left) => mateOfLeft[left] === NONE);
  const queue: number[] = [];
  reached.forEach((is, left) => {
    if (is) queue.push(left);
  });
  for (let at = 0; at < queue.length; at++) {
    for (const right of edges[queue[at]!]!) {
      const mate = mateOfRight[right]!;
      if (mate === NONE || reached[mate]) continue;
      reached[mate] = true;
      queue.push(mate);
    }
  }
  return reached;
}

/** Right vertices that are free, or become so when their mates move on along an alternating path. */
function freeable(
  byRight: readonly (readonly number[])[],
  mateOfLeft: Int32Array,
  mateOfRight: Int32Array,
): boolean[] {
  const free = byRight.map((_, right) => mateOfRight[right] === NONE);
  const queue: number[] = [];
  free.forEach((is, right) => {
    if (is) queue.push(right);
  });
  for (let at = 0; at < queue.length; at++) {
    for (const left of byRight[queue[at]!]!) {
      const right = mateOfLeft[left]!;
      if (right === NONE || free[right]) continue;
      free[right] = true;
      queue.push(right);
    }
  }
  return free;
}

/** Strongly connected components of the left vertices, where one leads to the mates of the vertices it could take (Tarjan). */
function components(
  edges: readonly (readonly number[])[],
  mateOfLeft: Int32Array,
  mateOfRight: Int32Array,
): Int32Array {
  const count = edges.length;
  const component = new Int32Array(count).fill(NONE);
  const order = new Int32Array(count).fill(NONE);
  const low = new Int32Array(count);
  const next = new Int32Array(count);
  const stack: number[] = [];
  const path: number[] = [];
  let visited = 0;
  const enter = (left: number): void => {
    order[left] = low[left] = visited++;
    stack.push(left);
    path.push(left);
  };
  for (let root = 0; root < count; root++) {
    if (order[root] !== NONE || mateOfLeft[root] === NONE) continue;
    enter(root);
    while (path.length > 0) {
      const left = path[path.length - 1]!;
      const right = edges[left]![next[left]!];
      if (right !== undefined) {
        next[left]!++;
        const mate = mateOfRight[right]!;
        if (mate === NONE) continue;
        if (order[mate] === NONE) enter(mate);
        else if (component[mate] === NONE) low[left] = Math.min(low[left]!, order[mate]!);
        continue;
      }
      path.pop();
      const before = path[path.length - 1];
      if (before !== undefined) low[before] = Math.min(low[before]!, low[left]!);
      if (low[left] !== order[left]) continue;
      for (let member = stack.pop()!; ; member = stack.pop()!) {
        component[member] = left;
        if (member === left) break;
      }
    }
  }
  return component;
}
