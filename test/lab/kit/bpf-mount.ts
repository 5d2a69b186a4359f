import { existsSync, mkdirSync, readFileSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sh } from './shell.ts';

/** A run's own bpf file system, for what it pins: mounted at the first call, gone with `removeBpfMount(prefix)`. */
export function bpfMount(prefix: string): string {
  const path = pathOf(prefix);
  if (!isMounted(path)) {
    mkdirSync(path, { recursive: true });
    sh(`mount -t bpf bpf ${path}`);
  }
  return path;
}

/** Whatever is pinned in it goes, too. */
export function removeBpfMount(prefix: string): void {
  const path = pathOf(prefix);
  if (isMounted(path)) sh(`umount ${path}`);
  if (existsSync(path)) rmdirSync(path);
}

function pathOf(prefix: string): string {
  return join(tmpdir(), `${prefix}-bpf`);
}

function isMounted(path: string): boolean {
  return readFileSync('/proc/mounts', 'utf8').includes(` ${path} bpf `);
}
