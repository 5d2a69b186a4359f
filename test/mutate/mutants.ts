/** One small change of a source file. */
export interface Mutant {
  file: string;
  /** Of the change, from 1. */
  line: number;
  at: number;
  before: string;
  after: string;
}

/** Comments, strings, templates and regular expressions, which are left alone. */
const SKIPPED =
  /\/\*[\s\S]*?\*\/|\/\/[^\n]*|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`|(?<=[(,=:] ?)\/(?:[^/\\\n]|\\.)+\/[a-z]*/g;

/** What is changed, and into what. The formatter puts spaces around operators and none into types. */
const CHANGES: readonly [RegExp, readonly string[]][] = [
  [/ <= /g, [' < ']],
  [/ < /g, [' <= ', ' >= ']],
  [/ >= /g, [' > ']],
  [/ > /g, [' >= ', ' <= ']],
  [/ === /g, [' !== ']],
  [/ !== /g, [' === ']],
  [/ && /g, [' || ']],
  [/ \|\| /g, [' && ']],
  [/ \+ (?!=)/g, [' - ']],
  [/ - /g, [' + ']],
  [/ \+= /g, [' -= ']],
  [/Math\.max\(/g, ['Math.min(']],
  [/Math\.min\(/g, ['Math.max(']],
  [/(?<=[ ([])-Infinity\b/g, ['Infinity']],
  [/(?<=[ ([])Infinity\b/g, ['-Infinity']],
  [/(?<=[ (])true(?=[;,) ])/g, ['false']],
  [/(?<=[ (])false(?=[;,) ])/g, ['true']],
  [/(?<=[ (])!(?=[a-z(])/g, ['']],
  [/\bbreak;/g, [';']],
  [/\bcontinue;/g, [';']],
  [/^ +(?:this\.)?#?[a-zA-Z.]+(?:\([^\n]*\)| (?:\|\|=|=|&&=) [^\n]+);$/gm, ['']],
];

/** All mutants of a file's text, in the order of the file. */
export function mutantsOf(file: string, text: string): Mutant[] {
  const blank = (part: string): string => part.replace(/[^\n]/g, '\u0000');
  const code = text.replace(SKIPPED, blank).replace(/^import [\s\S]*?;$/gm, blank);
  const mutants: Mutant[] = [];
  for (const [pattern, replacements] of CHANGES) {
    for (const { 0: found, index } of code.matchAll(pattern)) {
      const line = text.slice(0, index).split('\n').length;
      const before = text.slice(index, index + found.length);
      for (const after of replacements) mutants.push({ file, line, at: index, before, after });
    }
  }
  return mutants.sort((a, b) => a.at - b.at);
}

export function apply(text: string, { at, before, after }: Mutant): string {
  return text.slice(0, at) + after + text.slice(at + before.length);
}
