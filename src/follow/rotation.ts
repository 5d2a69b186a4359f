import { closeSync, openSync, readdirSync, readSync, statSync } from 'node:fs';
import { basename, dirname, extname, join } from 'node:path';
import { gunzipHead } from './gzip-content.ts';
import { beginsAs, type FilePosition, HEAD_BYTES } from './position.ts';

/** A regular file in the log's directory. Sizes in bytes, times in ms since the epoch. */
export interface Listed {
  path: string;
  dev: string;
  ino: string;
  size: number;
  mtime: number;
  /** Birth time of the inode; undefined where the file system has none. */
  birth: number | undefined;
  compressed: boolean;
}

/** The suffix that a log rotator adds to the name, or inserts before its extension: `.1`, `-20251204`, `.2025-12-04_07.27`, `.old`. */
const SUFFIX = /^(?:[._-]\d[\d._:TZ-]*|\.old)$/;
const UNREADABLE = /\.(?:bz2|xz|zst|lz4)$/;
/** Compressed bytes that are read to get the first bytes of the content. */
const GZIP_HEAD_BYTES = 16 * 1024;

/** How `name` is stored if it is a rotator's name for an older `base` (`access.log` → `access.log.1`, `access-20251204.log.gz`). */
export function rotatedKind(base: string, name: string): 'plain' | 'gzip' | 'unreadable' | undefined {
  const stored = name.endsWith('.gz') ? 'gzip' : UNREADABLE.test(name) ? 'unreadable' : 'plain';
  const plain = stored === 'plain' ? name : name.slice(0, name.lastIndexOf('.'));
  if (plain.startsWith(base)) return SUFFIX.test(plain.slice(base.length)) ? stored : undefined;
  const ext = extname(base);
  const stem = base.slice(0, base.length - ext.length);
  if (ext === '' || !plain.startsWith(stem) || !plain.endsWith(ext)) return undefined;
  return SUFFIX.test(plain.slice(stem.length, plain.length - ext.length)) ? stored : undefined;
}

/** The file at `path`, or undefined. */
export function statFile(path: string): Listed | undefined {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  if (!stat?.isFile()) return undefined;
  return {
    path,
    dev: String(stat.dev),
    ino: String(stat.ino),
    size: Number(stat.size),
    mtime: msFromNs(stat.mtimeNs),
    birth: stat.birthtimeNs > 0n ? msFromNs(stat.birthtimeNs) : undefined,
    compressed: false,
  };
}

/**
 * A file's time in ms. Every time that is compared comes from here: `mtimeMs` of a stat without `bigint` is rounded in
 * another way, so that two files of one time would differ by some 200 ns.
 */
export function msFromNs(ns: bigint): number {
  return Number(ns) / 1e6;
}

/** The rotated files of the log at `path`, oldest first; and names that only another tool could read. */
export function listRotated(path: string): { files: Listed[]; unreadable: string[] } {
  const base = basename(path);
  const names = new Set(readNames(path));
  const files: Listed[] = [];
  const unreadable: string[] = [];
  for (const name of names) {
    const kind = rotatedKind(base, name);
    if (kind === undefined) continue;
    // During compression both files exist, and the compressed one is incomplete.
    if (kind !== 'plain' && names.has(name.slice(0, name.lastIndexOf('.')))) continue;
    if (kind === 'unreadable') unreadable.push(join(dirname(path), name));
    const file = kind === 'unreadable' ? undefined : statFile(join(dirname(path), name));
    if (file) files.push({ ...file, compressed: kind === 'gzip' });
  }
  return { files: oldestFirst(files), unreadable };
}

/**
 * Plain files by birth (a renamed file keeps it), compressed ones before the first plain file that was written
 * to after them (gzip and logrotate keep the time of the last write). Within one tick of the file clock
 * (4 ms) the inode's number decides. Names decide nothing: some rotators give `.1` to the youngest file, others to the oldest.
 */
export function oldestFirst(files: readonly Listed[]): Listed[] {
  const plain = files
    .filter((file) => !file.compressed)
    .sort((a, b) => born(a) - born(b) || a.mtime - b.mtime || Number(a.ino) - Number(b.ino));
  const compressed = files.filter((file) => file.compressed).sort((a, b) => a.mtime - b.mtime);
  const order: Listed[] = [];
  let next = 0;
  for (const file of plain) {
    while (next < compressed.length && compressed[next]!.mtime <= file.mtime) order.push(compressed[next++]!);
    order.push(file);
  }
  return order.concat(compressed.slice(next));
}

/** The latest time at which the content of `file` can have begun, from its birth and last write. */
export function born(file: Listed): number {
  return file.compressed ? file.mtime : (file.birth ?? file.mtime);
}

/** The file of `position` under any name: by inode, else (copied or compressed) by its first bytes. */
export function findFile(path: string, position: FilePosition): Listed | undefined {
  for (const name of readNames(path)) {
    const file = statFile(join(dirname(path), name));
    if (file?.ino !== position.ino) continue;
    const found = { ...file, compressed: name.endsWith('.gz') };
    // Nothing was read of it, so there is only its inode, and another file can have that number now: the name must match too.
    const named = name === basename(path) || rotatedKind(basename(path), name) === 'plain';
    if (position.offset === 0 ? named && file.dev === position.dev : holds(found, position)) return found;
  }
  return listRotated(path).files.find((file) => holds(file, position));
}

export function sameFile(
  a: { dev: string; ino: string },
  b: { dev: string; ino: string } | undefined,
): boolean {
  return b !== undefined && a.ino === b.ino && a.dev === b.dev;
}

/** Whether the shorter one is the beginning of the other: the same content, one of them perhaps read or copied earlier. */
export function sameBeginning(a: Buffer, b: Buffer): boolean {
  const length = Math.min(a.length, b.length);
  return length > 0 && a.compare(b, 0, length, 0, length) === 0;
}

/** Whether `file` begins with the content of `position` and reaches as far. */
export function holds(file: Listed, position: FilePosition): boolean {
  return (file.compressed || file.size >= position.offset) && beginsAs(readHead(file), position);
}

/** The first bytes of a file's content; empty if it cannot be read. */
export function readHead(file: Listed): Buffer {
  let fd: number;
  try {
    fd = openSync(file.path, 'r');
  } catch {
    return Buffer.alloc(0);
  }
  try {
    const raw = Buffer.allocUnsafe(file.compressed ? GZIP_HEAD_BYTES : HEAD_BYTES);
    const bytes = raw.subarray(0, readSync(fd, raw, 0, raw.length, 0));
    return file.compressed ? gunzipHead(bytes).subarray(0, HEAD_BYTES) : bytes;
  } catch {
    return Buffer.alloc(0);
  } finally {
    closeSync(fd);
  }
}

function readNames(path: string): string[] {
  try {
    return readdirSync(dirname(path));
  } catch {
    return [];
  }
}
