import { resolve } from 'node:path';
import type { LogPosition } from '../follow/position.ts';
import type { ResumePoint } from '../model/resume-point.ts';
import { type Checkpoint, saved, writeCheckpoint } from './checkpoint.ts';
import type { Output, OutputMark } from './output.ts';
import { SinkError, type SinkOptions, type SinkStats } from './sink-options.ts';

export * from './sink-options.ts';

/** Usual time between checkpoints (ms) with stdout or a pipe: after a SIGKILL it gets the lines since the last one a second time. */
const STREAM_CHECKPOINT_MS = 200;
/** With files alone, which are cut back then, and none gets a line twice. */
const FILE_CHECKPOINT_MS = 1_000;
/** Checkpoints take at most this share of the time: some file systems (ext4) write a file to disk before they replace another by it. */
const CHECKPOINT_SHARE = 1 / 100;
/** How long a checkpoint that is due is left to the next write, of the next batch (ms): it then costs no wake-up of its own. */
const WITH_NEXT_WRITE_MS = 125;
const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 5000;
const FULL_PIPE_MS = 5;
const REPORT_EVERY_MS = 60_000;
/** How long `close` waits for a blocked write (a stdout pipe without a reader). */
const CLOSE_MS = 2000;

/** The enriched log: one stream of bytes into all outputs, and the checkpoint that ties it to the source. */
export class Sink {
  /** Where to resume the log: the last checkpoint's position, or the beginning. */
  readonly resume: LogPosition;
  /** Where to resume the helper's feed, if the last checkpoint has it. */
  readonly resumeFeed: ResumePoint | undefined;
  readonly stats: SinkStats;
  readonly #options: SinkOptions;
  readonly #log: string;
  readonly #clock: () => number;
  #outputs: Output[];
  #queue: Promise<unknown> = Promise.resolve();
  #closing = false;
  /** Bytes were written that the next checkpoint does not cover yet. */
  #midBlock = false;
  #reopenWanted: (() => void)[] = [];
  #wake: (() => void) | undefined;
  /** The position of the next checkpoint. */
  #commit: { source: LogPosition; marks: OutputMark[] };
  #dirty = true;
  #checkpointed = Number.NEGATIVE_INFINITY;
  /** How long the last checkpoint took (ms). */
  #took = 0;
  #state: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #reported = new Map<string, number>();

  constructor(
    options: SinkOptions,
    outputs: Output[],
    { source: resume, feed }: Pick<Checkpoint, 'source' | 'feed'>,
    stats: SinkStats,
  ) {
    this.#options = options;
    this.#state = options.state;
    this.resumeFeed = feed;
    this.#log = resolve(options.log);
    this.#clock = options.clock ?? Date.now;
    this.#outputs = outputs;
    this.resume = resume;
    this.stats = stats;
    this.#commit = { source: resume, marks: this.#marks() };
  }

  /**
   * Writes `chunks` to every output, in the order of the calls; resolves when all have taken all of it.
   *
   * `end`: the position behind these bytes. Pass it with the last write of each block; a write must not extend past the end
   * of a block. After a crash, what was written after the last `end` is cut off and written again.
   *
   * Rejects with SinkError: EPIPE when the last output is gone, CLOSED when closed while an output is blocked.
   */
  write(chunks: readonly Buffer[], end?: LogPosition): Promise<void> {
    return this.#enqueue(async () => {
      for (const output of [...this.#outputs]) await this.#writeTo(output, chunks);
      this.stats.writes++;
      for (const chunk of chunks) this.stats.bytes += chunk.length;
      this.#midBlock = end === undefined && this.#state !== undefined;
      if (end) this.#committed(end);
      if (end && this.#reopenWanted.length > 0) await this.#reopen();
    });
  }

  /**
   * Reopens file outputs by their path, after logrotate has renamed them. It does so at the end of a block, between two
   * checkpoints, so that a crash repeats nothing. An output that cannot be opened stays in its old file.
   */
  reopen(): Promise<void> {
    return new Promise((done, failed) => {
      this.#enqueue(async () => {
        this.#reopenWanted.push(done);
        if (!this.#midBlock) await this.#reopen();
      }).catch(failed);
    });
  }

  /** Writes the last checkpoint and closes. Does not wait for blocked outputs: their rest is written after the next start. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#wake?.();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<boolean>((done) => {
      timer = setTimeout(done, CLOSE_MS, true);
    });
    const hangs = await Promise.race([this.#queue.then(() => false), late]);
    clearTimeout(timer);
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.checkpoint();
    if (hangs) this.#notice('warn', 'an output is blocked; closing without flushing it');
    else for (const output of this.#outputs) output.close();
    this.#outputs = [];
    for (const done of this.#reopenWanted.splice(0)) done();
  }

  async #reopen(): Promise<void> {
    this.checkpoint();
    for (const output of this.#outputs) {
      try {
        await output.reopen();
      } catch (error) {
        this.#notice(
          'warn',
          `${output.name}: cannot be reopened (${(error as Error).message}); going on in the file that was open`,
        );
      }
    }
    this.stats.reopens++;
    this.#commit.marks = this.#marks();
    this.#dirty = true;
    this.checkpoint();
    for (const done of this.#reopenWanted.splice(0)) done();
  }

  #enqueue(step: () => Promise<void>): Promise<void> {
    const run = this.#queue.then(() => {
      if (this.#closing) throw new SinkError('CLOSED', 'the outputs are closed');
      return step();
    });
    this.#queue = run.catch(() => {});
    return run;
  }

  async #writeTo(output: Output, chunks: readonly Buffer[]): Promise<void> {
    let rest = chunks.filter((chunk) => chunk.length > 0);
    let retryMs = FIRST_RETRY_MS;
    while (rest.length > 0) {
      let code: string | undefined;
      try {
        rest = after(rest, await output.put(rest));
        retryMs = FIRST_RETRY_MS;
        if (this.stats.stalled > 0) this.#notice('info', `${output.name}: is writable again`);
        this.stats.stalled = 0;
        continue;
      } catch (error) {
        code = (error as NodeJS.ErrnoException).code;
      }
      if (code === 'EPIPE') return this.#drop(output);
      if (this.#closing)
        throw new SinkError('CLOSED', `${output.name}: closed while it is blocked (${code})`);
      // A non-blocking pipe that is full.
      if (code === 'EAGAIN') {
        await this.#delay(FULL_PIPE_MS);
      } else {
        this.stats.retries++;
        this.stats.stalled = 1;
        this.#complain(
          output.name,
          `${output.name}: cannot be written (${code}); nothing is lost, trying again. ${remedy(code)}`,
        );
        await this.#delay(retryMs);
        retryMs = Math.min(2 * retryMs, LAST_RETRY_MS);
      }
    }
  }

  #drop(output: Output): void {
    const others = this.#outputs.filter((other) => other !== output);
    if (others.length === 0)
      throw new SinkError('EPIPE', `${output.name}: its reader is gone, and there is no other output`);
    this.#outputs = others;
    this.#notice(
      'error',
      `${output.name}: its reader is gone; going on with ${others.map((other) => other.name).join(', ')}`,
    );
  }

  #delay(ms: number): Promise<void> {
    const { delay } = this.#options;
    if (delay) return delay(ms);
    return new Promise((done) => {
      const timer = setTimeout(done, ms);
      this.#wake = () => {
        clearTimeout(timer);
        done();
      };
    });
  }

  #committed(source: LogPosition): void {
    if (this.#state === undefined) {
      this.#options.onCheckpoint?.(source);
      return;
    }
    // A checkpoint for a new file at once: the file before it may be deleted any time, and with it that position.
    const before = this.#commit.source;
    const begun = before.ino !== source.ino || before.older !== source.older || before.offset === 0;
    this.#commit = { source, marks: this.#marks() };
    this.#dirty = true;
    const every = this.#everyMs();
    const due = this.#checkpointed + every - this.#clock();
    if (due <= 0 || begun) this.checkpoint();
    else this.#timer ??= setTimeout(() => this.checkpoint(), Math.min(due, every) + WITH_NEXT_WRITE_MS);
  }

  #everyMs(): number {
    const rarely = Math.max(STREAM_CHECKPOINT_MS, this.#took / CHECKPOINT_SHARE);
    const onlyFiles = this.#commit.marks.length === this.#outputs.length;
    return onlyFiles ? FILE_CHECKPOINT_MS : Math.min(rarely, FILE_CHECKPOINT_MS);
  }

  #marks(): OutputMark[] {
    return this.#outputs.flatMap((output) => output.mark() ?? []);
  }

  /**
   * Writes the checkpoint if the position or the outputs changed. The first one, before the first write, has the lengths of
   * the outputs, so that a crash before the next one repeats nothing. Returns the system's error code if it cannot be written.
   */
  checkpoint(): string | undefined {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const path = this.#state;
    if (!this.#dirty || path === undefined) return undefined;
    const { source, marks } = this.#commit;
    const checkpoint: Checkpoint = {
      log: this.#log,
      source,
      outputs: marks.map(saved),
      feed: this.#options.feed?.(),
    };
    this.#checkpointed = this.#clock();
    const begun = performance.now();
    try {
      writeCheckpoint(path, checkpoint);
    } catch (error) {
      this.stats.checkpointFailures++;
      const { code } = error as NodeJS.ErrnoException;
      this.#complain(
        path,
        `${path}: the checkpoint cannot be written (${code}); a restart now would read again from the last one. ${remedy(code)}`,
      );
      if (!this.#closing) this.#timer = setTimeout(() => this.checkpoint(), LAST_RETRY_MS);
      return code ?? 'unknown error';
    }
    this.#took = performance.now() - begun;
    this.#dirty = false;
    this.stats.checkpoints++;
    this.#options.onCheckpoint?.(source);
    return undefined;
  }

  /** Stops using the state file: later writes need no checkpoint. */
  dropCheckpoint(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#state = undefined;
    this.#midBlock = false;
  }

  #complain(about: string, text: string): void {
    const now = this.#clock();
    const last = this.#reported.get(about);
    if (last !== undefined && Math.abs(now - last) < REPORT_EVERY_MS) return;
    this.#reported.set(about, now);
    this.#notice('warn', text);
  }

  #notice(level: 'info' | 'warn' | 'error', text: string): void {
    this.#options.onNotice?.(level, text);
  }
}

/** The rest of `chunks` behind their first `bytes` bytes. */
function after(chunks: readonly Buffer[], bytes: number): Buffer[] {
  let skip = bytes;
  let first = 0;
  while (first < chunks.length && skip >= chunks[first]!.length) skip -= chunks[first++]!.length;
  const rest = chunks.slice(first);
  if (skip > 0) rest[0] = rest[0]!.subarray(skip);
  return rest;
}

function remedy(code: string | undefined): string {
  if (code === 'ENOSPC' || code === 'EDQUOT') return 'Free space on that volume';
  if (code === 'EROFS') return 'Mount that volume read-write';
  return 'Check that volume';
}
