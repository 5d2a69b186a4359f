/** Reads a configuration: a file and its includes, or the output of `nginx -T`. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { ConfError } from './parse-conf.ts';
import { type ConfFiles, type Disk, fromDisk, fromDump, fromText, isDump } from './sources.ts';

/** Bytes stay unchanged: files may have any encoding. */
export const disk: Disk = {
  read(path) {
    try {
      if (!statSync(path).isFile()) return null;
      return readFileSync(path, 'latin1');
    } catch {
      return null;
    }
  },
  list(directory) {
    try {
      return readdirSync(directory);
    } catch {
      return null;
    }
  },
};

/** @throws ConfError */
export function loadFile(path: string, from: Disk): ConfFiles {
  if (from.list(path)) {
    throw new ConfError(`${path} is a directory; give the main nginx.conf or the output of "nginx -T"`);
  }
  const text = from.read(path);
  return text !== null && isDump(text) ? fromDump(text) : fromDisk(path, from);
}

/** @throws ConfError */
export function loadText(text: string): ConfFiles {
  if (text.trim() === '') throw new ConfError('stdin is empty; use: nginx -T | realpod doctor');
  return isDump(text) ? fromDump(text) : fromText(text, 'nginx.conf');
}
