import { readdirSync, readlinkSync } from 'node:fs';

/** How many of this process's open descriptors lead to a file in `dir`, renamed and deleted ones included. */
export function descriptorsIn(dir: string): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(`${dir}/`);
    } catch {
      // The listing's own descriptor.
      return false;
    }
  }).length;
}
