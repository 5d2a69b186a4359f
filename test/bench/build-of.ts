/** Builds another commit of this repository, to compare it with this tree. */
import { execFileSync } from 'node:child_process';
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

export function git(...args: string[]): string {
  return execFileSync('git', ['-C', ROOT, ...args], { encoding: 'utf8' }).trim();
}

/** Compiles the tree into its `dist`, with the packages of this one. */
export function build(tree: string): void {
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
  execFileSync(process.execPath, [tsc, '-p', 'tsconfig.build.json'], { cwd: tree, stdio: 'inherit' });
}

/** The `dist` of a commit, below `dir`; `remove` when it is no longer needed. */
export function buildOf(ref: string, dir: string): { dist: string; remove(): void } {
  const tree = join(dir, 'base');
  const remove = (): void => {
    try {
      git('worktree', 'remove', '--force', tree);
    } catch {
      git('worktree', 'prune');
    }
  };
  try {
    git('worktree', 'add', '--quiet', '--detach', tree, ref);
    symlinkSync(join(ROOT, 'node_modules'), join(tree, 'node_modules'));
    build(tree);
  } catch (error) {
    remove();
    throw error;
  }
  return { dist: join(tree, 'dist'), remove };
}
