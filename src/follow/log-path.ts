import { lstatSync, readlinkSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { FollowError } from './log-block.ts';

/** Throws FollowError unless `path` is a regular file or not there yet. */
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
