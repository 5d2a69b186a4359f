import { renameSync } from 'node:fs';
import { resolve } from 'node:path';
import { canResume } from '../follow/log-directory.ts';
import { beginning } from '../follow/position.ts';
import { type Checkpoint, readCheckpoint } from './checkpoint.ts';
import { cutBack } from './cut-back.ts';
import { Output } from './output.ts';
import { Sink } from './sink.ts';
import { checkPaths, type OnNotice, SinkError, type SinkOptions, type SinkStats } from './sink-options.ts';

/** Error codes of a place that this process may not write to, such as a log volume of root's. */
const NOT_OURS = new Set(['EACCES', 'EPERM', 'EROFS']);
const WITHOUT =
  'going on without a checkpoint: after a restart the log is read from its beginning, and its lines come again. Make the directory writable for this user, or name another place with --state';

/**
 * Opens the outputs, cuts them back to the last checkpoint, and determines where to resume the log.
 * Rejects with SinkError OPEN for a path that cannot be an output or a state file.
 */
export async function openSink(options: SinkOptions): Promise<Sink> {
  const notice = options.onNotice ?? (() => {});
  checkPaths(options);
  const stats: SinkStats = {
    bytes: 0,
    writes: 0,
    retries: 0,
    stalled: 0,
    reopens: 0,
    checkpoints: 0,
    checkpointFailures: 0,
    cutBytes: 0,
  };
  const outputs: Output[] = [];
  for (const path of options.outputs) {
    try {
      outputs.push(await Output.open(path));
    } catch (error) {
      for (const output of outputs) output.close();
      throw new SinkError('OPEN', `--output ${path}: cannot be opened (${(error as Error).message})`);
    }
  }
  const loaded = loadCheckpoint(options, notice);
  const checkpoint = loaded === 'not ours' ? undefined : loaded;
  const source = checkpoint?.source ?? beginning((options.clock ?? Date.now)());
  const midLine = source.midLine || source.older.some((older) => older.midLine);
  // Nothing is cut if the log cannot be resumed at the checkpoint (deleted or truncated meanwhile): it could not be written again.
  const again = canResume(options.log, source);
  for (const output of outputs) {
    const known = again ? checkpoint?.outputs.find((one) => one.path === output.path) : undefined;
    const { cut, doubt } = known ? cutBack(output, known) : { cut: 0 };
    stats.cutBytes += cut;
    if (doubt !== undefined) notice('warn', doubt);
    if (!output.endsWhole && !midLine) {
      notice('warn', `${output.path}: ends in the middle of a line; a newline is added`);
      await output.put([Buffer.from('\n')]);
    }
  }
  const state = loaded === 'not ours' ? undefined : options.state;
  const sink = new Sink({ ...options, state }, outputs, { source, feed: checkpoint?.feed }, stats);
  const code = sink.checkpoint();
  if (code !== undefined && NOT_OURS.has(code)) {
    sink.dropCheckpoint();
    notice('warn', `--state ${state}: cannot be written (${code}); ${WITHOUT}`);
  } else if (code !== undefined && code !== 'ENOSPC' && code !== 'EDQUOT') {
    await sink.close();
    throw new SinkError(
      'OPEN',
      `--state ${options.state}: cannot be written (${code}); name a file in a writable directory`,
    );
  }
  return sink;
}

/** An unusable checkpoint is renamed and kept, and the log is read from its beginning: lines may come twice, none is lost. */
function loadCheckpoint({ state, log }: SinkOptions, notice: OnNotice): Checkpoint | 'not ours' | undefined {
  if (state === undefined) return undefined;
  const read = readCheckpoint(state, resolve(log));
  if ('none' in read) return undefined;
  if (!('unusable' in read)) return read;
  try {
    renameSync(state, `${state}.unusable`);
  } catch (error) {
    if (NOT_OURS.has((error as NodeJS.ErrnoException).code ?? '')) {
      notice('warn', `--state ${state} ${read.unusable} and cannot be set aside; ${WITHOUT}`);
      return 'not ours';
    }
    throw new SinkError(
      'OPEN',
      `--state ${state} ${read.unusable} and cannot be set aside (${(error as Error).message})`,
    );
  }
  notice(
    'warn',
    `--state ${state} ${read.unusable}. Set aside as ${state}.unusable; reading the log from its beginning, so lines may be in the output twice`,
  );
  return undefined;
}
