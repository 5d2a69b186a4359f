import { closeSync, constants, openSync, renameSync, rmSync } from 'node:fs';
import type { OnNotice } from './sink-options.ts';

/** A file that this process creates once it reads the helper's feed: nginx's start waits for it (k8s/sidecar). */
export class ReadyFile {
  readonly #path: string | undefined;
  readonly #notice: OnNotice;
  #done = false;

  /** Removes the file of an earlier process. Without a path nothing is written. */
  constructor(path: string | undefined, notice: OnNotice) {
    this.#path = path;
    this.#notice = notice;
    if (path !== undefined) this.#attempt(() => rmSync(path, { force: true }));
  }

  /** Cheap to call often: only the first call writes. */
  write(): void {
    const path = this.#path;
    if (this.#done || path === undefined) return;
    this.#done = true;
    this.#attempt(() => {
      // Others may write to the directory too: a link of theirs is replaced, never written through.
      const beside = `${path}.new`;
      const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;
      rmSync(beside, { force: true });
      closeSync(openSync(beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o644));
      renameSync(beside, path);
    });
  }

  #attempt(step: () => void): void {
    try {
      step();
    } catch (error) {
      this.#done = true;
      this.#notice(
        'warn',
        `--ready-file ${this.#path}: ${(error as Error).message}; nothing else depends on it`,
      );
    }
  }
}
