import { readdirSync, readFileSync } from 'node:fs';
import { posix } from 'node:path';

/** The test files that import each file, directly or through others. */
export class RelatedTests {
  readonly #root: string;
  readonly #imports = new Map<string, readonly string[]>();
  readonly #tests: readonly string[];

  constructor(root: string) {
    this.#root = root;
    this.#tests = readdirSync(`${root}/test/unit`)
      .filter((name) => name.endsWith('.test.ts'))
      .map((name) => `test/unit/${name}`)
      .sort();
  }

  /** `own`: they name the file or import it themselves. `direct`: through what tests share. `indirect`: through other sources. */
  of(file: string): { own: string[]; direct: string[]; indirect: string[] } {
    const name = posix.basename(file, '.ts');
    const isOwn = (test: string): boolean =>
      posix.basename(test).startsWith(`${name}.`) || this.#importsOf(test).includes(file);
    const own = this.#tests.filter((test) => isOwn(test) && this.#reaches(test, file));
    const direct = this.#tests.filter((test) => !own.includes(test) && this.#isDirect(test, file));
    const known = new Set([...own, ...direct]);
    const indirect = this.#tests.filter((test) => !known.has(test) && this.#reaches(test, file));
    return { own, direct, indirect };
  }

  /** The test imports the file, itself or through what it shares with other tests. */
  #isDirect(from: string, file: string): boolean {
    return this.#importsOf(from).some(
      (to) => to === file || (to.startsWith('test/') && this.#isDirect(to, file)),
    );
  }

  #reaches(from: string, file: string, visited = new Set<string>()): boolean {
    if (from === file) return true;
    if (visited.has(from)) return false;
    visited.add(from);
    return this.#importsOf(from).some((to) => this.#reaches(to, file, visited));
  }

  #importsOf(file: string): readonly string[] {
    let found = this.#imports.get(file);
    if (!found) {
      const text = readFileSync(`${this.#root}/${file}`, 'utf8');
      // Types alone run nothing.
      const paths = [
        ...text.matchAll(/(?:^import (?!type)[^;]*?from |^export [^;]*?from |import\()\s*'(\.[^']+\.ts)'/gm),
      ];
      found = paths.map(([, path]) => posix.join(posix.dirname(file), path!));
      this.#imports.set(file, found);
    }
    return found;
  }
}
