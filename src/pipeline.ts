import { setImmediate as nextTurn } from 'node:timers/promises';
import { CatchUp } from './catch-up.ts';
import type { Follower, LogBlock } from './follow/follower.ts';
import type { LogPosition } from './follow/position.ts';
import type { ClientFinder } from './join/clients/client-finder.ts';
import type { Deduction } from './join/deduction.ts';
import type { FlowIndex } from './join/index/flow-index.ts';
import { type BlockLine, type PendingBlock, PendingBlocks, type PendingLimits } from './join/pending.ts';
import type { Client } from './model/client.ts';
import { isKnown } from './model/client.ts';
import type { ParsedLine, UnparsedReason } from './model/line.ts';
import { type Evidence, isResolved, type Reason } from './model/outcome.ts';
import type { Style } from './rewrite/style.ts';
import { WatermarkPoller } from './watermark-poller.ts';

const NEWLINE = 0x0a;

/** Interval at which lines that wait for a lost feed check whether it is still expected back (ms). */
const LOOK_FOR_FEED_MS = 50;
/**
 * Attempts in a row that an id or a port named, after which lines may be gathered, but for a lone other one: when others are
 * read is evidence, and later means more candidates.
 */
const NAMED_IN_A_ROW = 256;
const TIMELESS: ReadonlySet<Evidence> = new Set(['request-id', 'source-port']);
/** A clock that is this much behind its last reading, or the feed's watermark, was set back (ms). */
const ROLLBACK_MS = 10;

export type Parse = (bytes: Buffer, start: number, end: number) => ParsedLine | UnparsedReason;

export type FeedState = 'read' | 'returning' | 'away';

export interface PipelineParts {
  follower: Pick<Follower, 'next' | 'hasten' | 'gather' | 'lookNow'>;
  parse: Parse;
  index: FlowIndex;
  /** With `--evidence inferred`. */
  timing?: Deduction | undefined;
  style: Style;
  /** Finds the real clients; undefined where the output does not show them. */
  clients?: Pick<ClientFinder, 'find' | 'counters' | 'table' | 'onClockRollback'> | undefined;
  /** `end`: the position behind them; undefined if they are the beginning of a block. */
  write(chunks: readonly Buffer[], end: LogPosition | undefined): Promise<void>;
  /** Requests a watermark of this moment from the feed. */
  requestTick(): void;
  /** `returning`: the feed was lost a moment ago and is expected back. Default: `read`. */
  feedState?(): FeedState;
  /** Gets the lines as they leave, for the recent lines, the pods' figures and the page. */
  onSettled(block: PendingBlock<unknown>): void;
  limits: PendingLimits & {
    /** Bytes of settled lines that are not written yet. Beyond, the log is not read. */
    maxUnwrittenBytes: number;
  };
  /** How long the feed may gather records (ms). */
  batchMs: number;
  clock(): number;
}

/** Every line lands in exactly one of `lines`, every attempt in exactly one of `evidence` and `reasons`. */
export interface PipelineCounters {
  lines: Record<'enriched' | 'unchanged' | UnparsedReason, number>;
  evidence: Partial<Record<Evidence, number>>;
  reasons: Partial<Record<Reason, number>>;
  /** Times that the clock was set back. */
  clockSetBack: number;
}

/** follow → parse → join → rewrite → write, for one log. */
export class Pipeline {
  readonly counters: PipelineCounters = {
    lines: { enriched: 0, unchanged: 0, empty: 0, format: 0, 'too-long': 0 },
    evidence: {},
    reasons: {},
    clockSetBack: 0,
  };
  readonly pending: PendingBlocks<LogPosition | undefined>;
  readonly #parts: PipelineParts;
  #unwritten = 0;
  #writing: Promise<void> = Promise.resolve();
  #failed: unknown;
  #wake: (() => void) | undefined;
  #timer: NodeJS.Timeout | undefined;
  #goOn: NodeJS.Immediate | undefined;
  readonly #poller: WatermarkPoller;
  readonly #catchUp: CatchUp;
  /** The follower has ended. */
  #ending = false;
  /** Attempts that an id or a port named, since the last one that was settled by times. */
  #namedInARow = 0;
  #gathers = false;
  /** The last reading of the clock, ms since the epoch. */
  #now = -Infinity;

  constructor(parts: PipelineParts) {
    this.#parts = parts;
    this.pending = new PendingBlocks(parts.index, parts.limits, parts.timing);
    this.#poller = new WatermarkPoller({
      request: () => parts.requestTick(),
      batchMs: parts.batchMs,
      waitingSince: () => (this.pending.needsWatermark ? this.pending.since : undefined),
      clock: () => parts.clock(),
    });
    this.#catchUp = new CatchUp({
      lookNow: () => parts.follower.lookNow(),
      requestTick: () => parts.requestTick(),
      clock: () => parts.clock(),
    });
  }

  /** Reads the log and the feed now, for an answer about this moment; resolves when both are joined, or after `atMostMs`. */
  async catchUp(atMostMs: number): Promise<void> {
    if (this.#feedState === 'read') await this.#catchUp.wait(atMostMs);
  }

  get timing(): Deduction | undefined {
    return this.#parts.timing;
  }

  get clients(): PipelineParts['clients'] {
    return this.#parts.clients;
  }

  get unwrittenBytes(): number {
    return this.#unwritten;
  }

  /** Runs until the follower ends; resolves when every line has been written. Rejects when an output fails for good. */
  async run(): Promise<void> {
    const { follower, clock, limits } = this.#parts;
    try {
      for (;;) {
        const block = await follower.next();
        if (!block) break;
        this.#accept(block);
        this.settle();
        // A backlog is read and written without a wait, so signals, the feed and look-ups run here.
        await nextTurn();
        while (this.pending.unfinished && this.#failed === undefined) await this.#progress();
        while (
          (this.#unwritten > limits.maxUnwrittenBytes || this.#feedIsSlower) &&
          this.#failed === undefined
        )
          await this.#progress();
        if (this.#failed !== undefined) throw this.#failed;
      }
      this.#poller.end();
      this.#ending = true;
      while (this.pending.blocks > 0 && this.#failed === undefined) {
        const left = (this.pending.deadline ?? 0) - clock();
        // Without a feed no more evidence arrives for them.
        if (left > 0 && this.#feedState === 'read') await this.#progress();
        else {
          this.settle();
          await nextTurn();
        }
      }
      await this.#writing;
      if (this.#failed !== undefined) throw this.#failed;
    } finally {
      clearTimeout(this.#timer);
      clearImmediate(this.#goOn);
      this.#poller.close();
    }
  }

  /** Call it when the watermark has moved. */
  advance(): void {
    const { index, clock, follower } = this.#parts;
    const { watermark } = index.coverage;
    const now = clock();
    index.feedClock.observe(watermark, now);
    this.settle();
    follower.hasten(now - watermark);
  }

  /** Joins, rewrites and writes every block whose evidence is complete. */
  settle(): void {
    // Goes on in its turn: each chunk of the feed would take a turn of its own.
    if (this.#goOn !== undefined) return;
    const now = this.#parts.clock();
    this.#checkClock(now);
    const settled = this.pending.take(this.#patience(now));
    if (settled.length > 0) this.#poller.resetBackOff();
    for (const block of settled) this.#emit(block);
    if (this.pending.unfinished) {
      this.#goOn ??= setImmediate(() => {
        this.#goOn = undefined;
        this.settle();
      });
    } else {
      this.#schedule();
      this.#catchUp.arrived(this.#parts.index.coverage.watermark, this.pending.since);
    }
    this.#wake?.();
  }

  get #feedState(): FeedState {
    return this.#parts.feedState?.() ?? 'read';
  }

  /**
   * Many lines wait for a feed that is a little late. To read more would push the oldest out as they are, and in the file they
   * wait as well; but not where the feed is later than a line may wait.
   */
  get #feedIsSlower(): boolean {
    const { index, limits, clock } = this.#parts;
    return (
      this.pending.bytes > limits.maxBytes / 2 &&
      this.pending.needsWatermark &&
      this.#feedState === 'read' &&
      clock() - index.coverage.watermark < limits.maxWaitMs
    );
  }

  /** The time to compare deadlines with; while the feed is expected back, none has passed. */
  #patience(now: number): number {
    const state = this.#feedState;
    if (state === 'read') return now;
    if (this.#ending) return Infinity;
    return state === 'returning' ? -Infinity : now;
  }

  /**
   * The helper reports a clock that was set back only with its next reading. Until then a line would be compared with events
   * from the first time that the clock showed its values.
   */
  #checkClock(now: number): void {
    const { index, timing, clients } = this.#parts;
    const latest = Math.max(this.#now, index.coverage.watermark);
    this.#now = now;
    if (latest <= now + ROLLBACK_MS) return;
    this.counters.clockSetBack++;
    index.onClockRollback(now);
    clients?.onClockRollback(now);
    timing?.apply({ kind: 'gap', source: 'conntrack', t: now, seq: 0 });
    this.pending.expire();
  }

  #accept({ bytes, readAt, oversized, end, at }: LogBlock): void {
    // The clock truncates to milliseconds: an event of the last one may belong to these lines.
    const knownAt = readAt + 1 + this.#parts.index.feedClock.aheadMs;
    if (oversized) {
      const whole = bytes[bytes.length - 1] === NEWLINE;
      const piece = { start: 0, end: whole ? bytes.length - 1 : bytes.length, parsed: 'too-long' } as const;
      this.pending.push(bytes, knownAt, [piece], end);
      return;
    }
    const lines: BlockLine[] = [];
    for (let start = 0; start < bytes.length; ) {
      const newline = bytes.indexOf(NEWLINE, start);
      const lineEnd = newline < 0 ? bytes.length : newline;
      const parsed = lineEnd === start ? 'empty' : this.#parts.parse(bytes, start, lineEnd);
      lines.push({ start, end: lineEnd, parsed });
      start = lineEnd + 1;
    }
    this.pending.push(bytes, knownAt, lines, end, at);
  }

  #emit(block: PendingBlock<LogPosition | undefined>): void {
    this.#count(block);
    this.#parts.onSettled(block);
    const { style, clients } = this.#parts;
    const found = clients && block.lines.map((line) => clients.find(block.bytes, line, block.readAt));
    if (found?.some((client) => client !== undefined && isByTimes(client))) {
      this.#namedInARow = 0;
      this.#gathers = false;
    }
    this.#parts.follower.gather(this.#gathers);
    const chunks = style.render(block.bytes, block.lines, block.outcomes, found);
    // Keep only the bytes until they are written: parsed lines are many times their size.
    const end = block.tag;
    const size = block.bytes.length;
    this.#unwritten += size;
    this.#writing = this.#writing
      .then(() => (this.#failed === undefined ? this.#parts.write(chunks, end) : undefined))
      .catch((error: unknown) => {
        this.#failed ??= error;
      })
      .finally(() => {
        this.#unwritten -= size;
        this.#wake?.();
      });
  }

  #count(block: PendingBlock<LogPosition | undefined>): void {
    const { lines: results, evidence, reasons } = this.counters;
    for (let i = 0; i < block.lines.length; i++) {
      const { parsed } = block.lines[i]!;
      if (typeof parsed === 'string') {
        results[parsed]++;
        continue;
      }
      let enriched = false;
      for (const outcome of block.outcomes[i]!) {
        if (isResolved(outcome)) {
          enriched = true;
          evidence[outcome.evidence] = (evidence[outcome.evidence] ?? 0) + 1;
          this.#settledByTimes(!TIMELESS.has(outcome.evidence));
        } else {
          if (outcome.reason === 'ambiguous') this.#settledByTimes(true);
          reasons[outcome.reason] = (reasons[outcome.reason] ?? 0) + 1;
        }
      }
      results[enriched ? 'enriched' : 'unchanged']++;
    }
  }

  #settledByTimes(byTimes: boolean): void {
    if (!byTimes) {
      if (++this.#namedInARow >= NAMED_IN_A_ROW) this.#gathers = true;
      return;
    }
    if (this.#namedInARow < NAMED_IN_A_ROW) this.#gathers = false;
    this.#namedInARow = 0;
  }

  #schedule(): void {
    this.#poller.schedule();
    const { deadline } = this.pending;
    if (deadline === undefined) return;
    const { clock, limits } = this.#parts;
    if (this.#timer === undefined) {
      const least = this.#feedState === 'returning' ? LOOK_FOR_FEED_MS : 1;
      this.#timer = setTimeout(
        () => {
          this.#timer = undefined;
          this.settle();
        },
        Math.min(Math.max(least, deadline - clock()), Math.max(least, limits.maxWaitMs)),
      );
    }
  }

  /** Resolves when something was written or settled. */
  #progress(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = undefined;
        resolve();
      };
    });
  }
}

/** Whether the client was looked for among all that were connected at the time. */
function isByTimes(client: Client): boolean {
  return isKnown(client) ? client.evidence === 'address' : client.reason === 'ambiguous';
}
