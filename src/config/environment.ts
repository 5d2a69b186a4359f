import { type Command, environmentName } from './option.ts';

/** Variables that Kubernetes sets in every container for a Service whose name begins with `realpod`. */
const SERVICE_LINK =
  /^REALPOD(_[A-Z0-9_]+)?_(SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$/;
/** A name with more changed letters than this, or than a third of its letters, is not suggested. */
const FAR = 4;

/** One line for each variable `REALPOD_…` that no command reads, with the nearest one that exists. */
export function unknownVariables(env: NodeJS.ProcessEnv, commands: readonly Command[]): string[] {
  const known = new Set(commands.flatMap(({ options }) => Object.keys(options).map(environmentName)));
  return Object.keys(env)
    .filter((name) => name.startsWith('REALPOD_') && !known.has(name) && !SERVICE_LINK.test(name))
    .sort()
    .map((name) => `${name} is no option and is ignored${didYouMean(name, [...known])}`);
}

/** `; did you mean NAME?`, or nothing where no name is near. */
export function didYouMean(name: string, known: readonly string[]): string {
  const near = nearest(name, known);
  return near === undefined ? '' : `; did you mean ${near}?`;
}

/** The name that needs the fewest changed letters; undefined where each needs too many. */
function nearest(name: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  let least = Math.min(FAR, Math.ceil(name.length / 3)) + 1;
  for (const candidate of known) {
    const changes = distance(name, candidate);
    if (changes < least) [best, least] = [candidate, changes];
  }
  return best;
}

/** Levenshtein distance. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
