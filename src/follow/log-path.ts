import { lstatSync, readlinkSync, realpathSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { FollowError } from './log-block.ts';

/** Throws FollowError unless `path` is a regular file or does not exist. */
export function refuseNonFile(path: string): void {
  const link = lstatSync(path, { throwIfNoEntry: false });
  if (!link) return;
  const target = link.isSymbolicLink() ? readlinkSync(path) : undefined;
  const mount = `mount a volume (emptyDir) over ${dirname(path)} in nginx's container and in this one, so that nginx writes a file there`;
  if (target !== undefined && /^\/(?:dev|proc)\//.test(target))
    throw new FollowError(`${path} is a link to ${target}, not a file: ${mount}`);
  const stat = statSync(path, { throwIfNoEntry: false });
  if (!stat || stat.isFile()) return;
  if (stat.isDirectory()) throw new FollowError(`${path} is a directory: name the log file in it`);
  throw new FollowError(`${path} is a ${stat.isFIFO() ? 'pipe' : 'device or socket'}, not a file: ${mount}`);
}

/** Mode bit: writable for everybody, as an emptyDir is. */
const OTHERS_WRITE = 0o002;

/**
 * Throws EACCES where `path`, which is open as `fd`, is a link out of a directory that everybody may write to: the author
 * of the link would choose which file this process reads or writes, its own token among them.
 */
export function refuseLinkOut(fd: number, path: string): void {
  const directory = dirname(path);
  if ((statSync(directory).mode & OTHERS_WRITE) === 0) return;
  // Through the descriptor, as the path may lead elsewhere by now. A deleted file's name has a suffix, its directory has none.
  const opened = dirname(readlinkSync(`/proc/self/fd/${fd}`));
  if (opened === realpathSync(directory)) return;
  throw Object.assign(new Error(`it is a link out of ${directory}, which everybody may write to`), {
    code: 'EACCES',
  });
}
