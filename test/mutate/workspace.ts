import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const PARTS = ['src', 'test', 'demo', 'docs', 'package.json', 'tsconfig.json'];

/** A copy of the tree with all of it compiled, where one changed file stands in for another without a compiler. */
export class Workspace {
  readonly #path: string;
  #child: ChildProcess | undefined;

  private constructor(path: string) {
    this.#path = path;
  }

  /** `extra`: further sources by their paths, compiled with the others. Types are not checked. */
  static compile(root: string, extra: ReadonlyMap<string, string>): Workspace {
    const path = mkdtempSync(join(tmpdir(), 'realpod-mutate-'));
    for (const part of PARTS) cpSync(`${root}/${part}`, `${path}/${part}`, { recursive: true });
    symlinkSync(`${root}/node_modules`, `${path}/node_modules`);
    for (const [file, text] of extra) writeFileSync(`${path}/${file}`, text);
    // The compiler leaves out of its sources what is where it writes to.
    const options = '-p . --noEmit false --outDir compiled --rootDir . --noCheck --declaration false'.split(
      ' ',
    );
    // A change may break the syntax; what is written for it then fails when it is loaded.
    spawnSync(`${root}/node_modules/.bin/tsc`, options, { cwd: path, stdio: 'ignore' });
    cpSync(`${path}/compiled`, path, { recursive: true });
    rmSync(`${path}/compiled`, { recursive: true });
    return new Workspace(path);
  }

  another(): Workspace {
    const path = mkdtempSync(join(tmpdir(), 'realpod-mutate-'));
    cpSync(this.#path, path, { recursive: true, verbatimSymlinks: true });
    return new Workspace(path);
  }

  /** Puts `source` in the place of `file`; paths of TypeScript files. Some tests load these, others what was compiled. */
  replace(file: string, source: string): void {
    for (const type of ['.ts', '.js'])
      cpSync(
        `${this.#path}/${source.replace(/\.ts$/, type)}`,
        `${this.#path}/${file.replace(/\.ts$/, type)}`,
      );
  }

  /** Whether all tests of the files pass, which run in one process. It ends with the first that does not. */
  passes(tests: readonly string[], limitMs: number): Promise<boolean> {
    if (tests.length === 0) return Promise.resolve(true);
    // All are loaded before the first test begins: hooks of one that comes later would find themselves in another's tests.
    const script = tests.map((test) => `import './${test.replace(/\.ts$/, '.js')}';`).join('\n');
    const options = ['--test-reporter=tap', '--input-type=module', '--eval', script];
    const child = spawn(process.execPath, options, {
      cwd: this.#path,
      stdio: ['ignore', 'pipe', 'ignore'],
      env: { ...process.env, REALPOD_JOIN_RUNS: '20', REALPOD_SEED: '777' },
    });
    this.#child = child;
    const limit = setTimeout(() => child.kill('SIGKILL'), limitMs);
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output = output.slice(-100) + text;
      if (/^ *not ok /m.test(output)) child.kill('SIGKILL');
    });
    return new Promise((resolve) => {
      child.on('close', (status) => {
        clearTimeout(limit);
        resolve(status === 0);
      });
    });
  }

  remove(): void {
    this.#child?.kill('SIGKILL');
    rmSync(this.#path, { recursive: true, force: true });
  }
}
