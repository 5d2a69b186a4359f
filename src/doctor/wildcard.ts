/** The shell patterns of glob(3) in nginx's `include`: `*`, `?` and `[…]` within one path segment. */

export function isPattern(path: string): boolean {
  return /[*?[]/.test(path);
}

/** Length of the bracket expression at `at`, and whether it matches `c`; 0 if it is not a bracket expression. */
function bracket(pattern: string, at: number, c: string): { length: number; match: boolean } {
  const negated = pattern[at + 1] === '!' || pattern[at + 1] === '^';
  const first = at + (negated ? 2 : 1);
  const end = pattern.indexOf(']', first + 1);
  if (end < 0) return { length: 0, match: false };
  let match = false;
  for (let i = first; i < end; i++) {
    if (pattern[i + 1] === '-' && i + 2 < end) {
      match ||= pattern[i]! <= c && c <= pattern[i + 2]!;
      i += 2;
    } else {
      match ||= pattern[i] === c;
    }
  }
  return { length: end + 1 - at, match: match !== negated };
}

/** Whether one path segment matches. A leading dot needs a dot in the pattern. */
export function fitsSegment(pattern: string, name: string): boolean {
  if (name.startsWith('.') && !pattern.startsWith('.')) return false;
  let p = 0;
  let n = 0;
  let star = -1;
  let starName = 0;
  while (n < name.length) {
    const c = pattern[p];
    const set = c === '[' ? bracket(pattern, p, name[n]!) : undefined;
    if (c === '*') {
      star = p++;
      starName = n;
    } else if (set && set.length > 0 ? set.match : c === '?' || c === name[n]) {
      p += set && set.length > 0 ? set.length : 1;
      n++;
    } else if (star >= 0) {
      p = star + 1;
      n = ++starName;
    } else {
      return false;
    }
  }
  while (pattern[p] === '*') p++;
  return p === pattern.length;
}

/** Whether a whole path matches a whole pattern, segment by segment. */
export function fitsPath(pattern: string, path: string): boolean {
  const patterns = pattern.split('/');
  const names = path.split('/');
  return patterns.length === names.length && patterns.every((p, i) => fitsSegment(p, names[i]!));
}
