import { createHash } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { type LogPosition, parseLogPosition } from '../follow/position.ts';
import { parseResumePoint, type ResumePoint } from '../model/resume-point.ts';
import type { OutputMark } from './output.ts';

const VERSION = 1;
const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDONLY, O_WRONLY } = constants;

/** A file output in a checkpoint. `tail`: hash of the bytes before `length`. */
export interface SavedOutput {
  path: string;
  dev: string;
  ino: string;
  length: number;
  tail: string;
}

/** The outputs, up to their lengths, contain exactly the log up to `source`. */
export interface Checkpoint {
  /** The log's absolute path. */
  log: string;
  source: LogPosition;
  outputs: readonly SavedOutput[];
  /** Where to resume the helper's feed. */
  feed?: ResumePoint | undefined;
}

export function hashTail(tail: Buffer): string {
  return createHash('sha256').update(tail).digest('hex').slice(0, 32);
}

export function saved(mark: OutputMark): SavedOutput {
  return { ...mark, tail: hashTail(mark.tail) };
}

/**
 * Replaces the state file in one step (write beside it, rename), so that a process killed at any instant leaves the old or
 * the new one. It is not synced to disk: a crash of the machine is not covered, and would cost a disk flush each time.
 * Throws the system's error, then the old one still stands.
 */
export function writeCheckpoint(path: string, checkpoint: Checkpoint): void {
  const beside = `${path}.new`;
  const text = Buffer.from(`${JSON.stringify({ realpod: 'checkpoint', version: VERSION, ...checkpoint })}\n`);
  const fd = openNew(beside);
  try {
    let done = 0;
    while (done < text.length) done += writeSync(fd, text, done);
  } catch (error) {
    closeSync(fd);
    unlinkSync(beside);
    throw error;
  }
  closeSync(fd);
  renameSync(beside, path);
}

/** Others may write to the directory too: what is there, such as a link of theirs, is replaced, never written through. */
function openNew(path: string): number {
  const flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
  try {
    return openSync(path, flags, 0o644);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    unlinkSync(path);
    return openSync(path, flags, 0o644);
  }
}

/** The checkpoint at `path` for `log`; `none` at a first start; else why it is unusable, as the end of a sentence. */
export function readCheckpoint(
  path: string,
  log: string,
): Checkpoint | { none: true } | { unusable: string } {
  let text: string;
  try {
    const fd = openSync(path, O_RDONLY | O_NOFOLLOW);
    try {
      if (!fstatSync(fd).isFile()) return { unusable: 'is not a regular file' };
      text = readFileSync(fd, 'utf8');
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return code === 'ENOENT' ? { none: true } : { unusable: `cannot be read (${message})` };
  }
  let value: Record<string, unknown>;
  try {
    value = Object(JSON.parse(text)) as Record<string, unknown>;
  } catch {
    return { unusable: 'is damaged (not JSON)' };
  }
  if (value.realpod !== 'checkpoint') return { unusable: 'is no checkpoint of realpod' };
  if (typeof value.version === 'number' && value.version > VERSION) {
    return {
      unusable: `was written by a newer realpod (format ${value.version}, this one knows ${VERSION})`,
    };
  }
  const source = parseLogPosition(value.source);
  const outputs = Array.isArray(value.outputs) ? value.outputs : undefined;
  if (typeof value.log !== 'string' || !source || !outputs?.every(isSavedOutput)) {
    return { unusable: 'is damaged (a field is missing or wrong)' };
  }
  if (value.log !== log) return { unusable: `belongs to another log, ${value.log}` };
  return { log, source, outputs, feed: parseResumePoint(value.feed) };
}

function isSavedOutput(value: unknown): value is SavedOutput {
  const { path, dev, ino, length, tail } = Object(value) as Record<string, unknown>;
  if (![path, dev, ino, tail].every((field) => typeof field === 'string')) return false;
  return typeof length === 'number' && Number.isSafeInteger(length) && length >= 0;
}
