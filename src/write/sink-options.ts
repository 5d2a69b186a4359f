import { statSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import type { LogPosition } from '../follow/position.ts';
import { rotatedKind } from '../follow/rotation.ts';
import type { ResumePoint } from '../model/resume-point.ts';

/** `info`: worth knowing; `warn`: nothing lost; `error`: lines are, or may be, missing. `text` is one line for people. */
export type OnNotice = (level: 'info' | 'warn' | 'error', text: string) => void;

export interface SinkOptions {
  /** File paths, or '-' for stdout. */
  outputs: readonly string[];
  /** State file. Undefined: no checkpoint (stdout only); a restart reads the log from its beginning. */
  state?: string | undefined;
  /** The access log; a checkpoint of another one is not used. */
  log: string;
  onNotice?: OnNotice;
  /** The feed's resume point for a later process; called at each checkpoint. */
  feed?: () => ResumePoint | undefined;
  /** Called after each checkpoint (without a state file: each write) with the consumed position, for the reclaimer. */
  onCheckpoint?: (position: LogPosition) => void;
  /** Wall clock, ms since the epoch. */
  clock?: () => number;
  /** Waits before a failed write is tried again. */
  delay?: (ms: number) => Promise<void>;
}

/** Plain counters since the start, for the metrics. */
export interface SinkStats {
  bytes: number;
  writes: number;
  /** Writes that failed and were tried again. */
  retries: number;
  /** 1 while an output is blocked (disk full, read-only, …). */
  stalled: number;
  reopens: number;
  checkpoints: number;
  checkpointFailures: number;
  /** Bytes cut from outputs at the start: written after the last checkpoint, written again. */
  cutBytes: number;
}

/** `message` is one line that says what to do. `EPIPE`: stdout's reader is gone. `CLOSED`: closed before all was written. `OPEN`: a bad output or state path. */
export class SinkError extends Error {
  readonly code: 'EPIPE' | 'CLOSED' | 'OPEN';

  constructor(code: 'EPIPE' | 'CLOSED' | 'OPEN', message: string) {
    super(message);
    this.code = code;
  }
}

/** Throws SinkError OPEN for a path that must not be an output or a state file. */
export function checkPaths({ outputs, state, log }: SinkOptions): void {
  const seen = new Set<string>([resolve(log)]);
  for (const path of outputs) {
    const full = path === '-' ? path : resolve(path);
    if (full === resolve(log) || sameInode(full, log))
      throw new SinkError('OPEN', `--output ${path} is the access log itself; name another file`);
    if (dirname(full) === dirname(resolve(log)) && rotatedKind(basename(log), basename(full)) !== undefined) {
      throw new SinkError('OPEN', `--output ${path} has the name of a rotated access log; name another file`);
    }
    if (seen.has(full)) throw new SinkError('OPEN', `--output ${path} is given twice`);
    seen.add(full);
  }
  if (state !== undefined && seen.has(resolve(state)))
    throw new SinkError('OPEN', `--state ${state} is the log or an output; name another file`);
}

function sameInode(a: string, b: string): boolean {
  if (a === '-') return false;
  const one = statSync(a, { bigint: true, throwIfNoEntry: false });
  const other = statSync(b, { bigint: true, throwIfNoEntry: false });
  return one !== undefined && other !== undefined && one.ino === other.ino && one.dev === other.dev;
}
