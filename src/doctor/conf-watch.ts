/** Whether nginx's configuration is still the one that was read: a reload may have changed what nginx passes on. */
import { statSync } from 'node:fs';
import { disk, loadFile } from './load.ts';

/** All files are read again after this time (ms): one may have come that an `include` names. */
const READ_AGAIN_MS = 1_000;

export class ConfWatch {
  readonly #path: string;
  readonly #texts: ReadonlyMap<string, string>;
  readonly #files: readonly string[];
  readonly #stamps: string;
  #readAt = -Infinity;
  #changed = false;

  /** `path`: of the file that was read, with the texts of it and its includes. */
  constructor(path: string, texts: ReadonlyMap<string, string>) {
    this.#path = path;
    this.#texts = texts;
    // What `nginx -T` wrote holds the texts of files that may be elsewhere.
    this.#files = [...new Set([path, ...(texts.has(path) ? texts.keys() : [])])];
    this.#stamps = this.#stamp();
  }

  /** Once false, always false. `now`: ms since any fixed moment. */
  isUnchanged(now: number): boolean {
    if (this.#changed) return false;
    this.#changed = this.#stamp() !== this.#stamps;
    if (!this.#changed && now - this.#readAt >= READ_AGAIN_MS) {
      this.#readAt = now;
      this.#changed = !this.#readsTheSame();
    }
    return !this.#changed;
  }

  #stamp(): string {
    return this.#files
      .map((file) => {
        const stat = statSync(file, { throwIfNoEntry: false });
        return stat ? `${stat.ino} ${stat.mtimeMs} ${stat.size}` : '-';
      })
      .join();
  }

  #readsTheSame(): boolean {
    try {
      const { texts } = loadFile(this.#path, disk);
      return (
        texts.size === this.#texts.size && [...texts].every(([file, text]) => this.#texts.get(file) === text)
      );
    } catch {
      return false;
    }
  }
}
