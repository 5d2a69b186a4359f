import { closeSync, fstatSync, ftruncateSync, openSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { hashTail, type SavedOutput } from './checkpoint.ts';
import { type Output, readTail } from './output.ts';

/** What happened to an output at a restart. `cut`: bytes removed, to be written again. `doubt`: what may be in the output twice, and why. */
export interface CutBack {
  cut: number;
  doubt?: string;
}

/**
 * Removes from `output` what was written after the checkpoint. Only the checkpoint's file (same inode, length and last
 * bytes) is changed, also if it was renamed in the meantime.
 */
export function cutBack(output: Output, saved: SavedOutput): CutBack {
  const mark = output.mark();
  if (!mark) return { cut: 0 };
  if (
    mark.ino === saved.ino &&
    mark.length >= saved.length &&
    hashTail(output.tailAt(saved.length)) === saved.tail
  ) {
    const cut = mark.length - saved.length;
    if (cut > 0) output.cut(saved.length);
    return { cut };
  }
  const renamed = findRenamed(saved);
  if (renamed) return { cut: cutFile(renamed, saved) };
  const again = 'the last lines before the restart may be in the output twice';
  if (mark.ino === saved.ino) {
    const how =
      mark.length < saved.length
        ? 'is shorter than at the last checkpoint'
        : 'has other content than at the last checkpoint';
    return {
      cut: 0,
      doubt: `${output.path} ${how} (somebody else changed it), so nothing is cut from it; ${again}`,
    };
  }
  return {
    cut: 0,
    doubt: `${output.path} is another file than at the last checkpoint, and that one is not beside it; ${again}`,
  };
}

function findRenamed(saved: SavedOutput): string | undefined {
  const directory = dirname(saved.path);
  for (const name of readdirSync(directory)) {
    const path = join(directory, name);
    const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
    if (stat?.isFile() && String(stat.ino) === saved.ino && path !== saved.path) return path;
  }
  return undefined;
}

function cutFile(path: string, saved: SavedOutput): number {
  const fd = openSync(path, 'r+');
  try {
    const { size } = fstatSync(fd);
    if (size < saved.length || hashTail(readTail(fd, saved.length)) !== saved.tail) return 0;
    ftruncateSync(fd, saved.length);
    return size - saved.length;
  } finally {
    closeSync(fd);
  }
}
