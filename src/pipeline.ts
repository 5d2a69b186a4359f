import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Follower, LogBlock } from './follow/follower.ts';
import type { LogPosition } from './follow/position.ts';
import type { Timing } from './inferred/timing.ts';
import type { FlowIndex } from './join/index/flow-index.ts';
import { type BlockLine, type PendingBlock, PendingBlocks, type PendingLimits } from './join/pending.ts';
import type { ParsedLine, UnparsedReason } from './model/line.ts';
import { type Evidence, isResolved, type Reason } from './model/outcome.ts';
import type { Style } from './rewrite/style.ts';

const NEWLINE = 0x0a;

/** The clock was set back where it, or the feed's watermark, was this much later before (ms). */
const SET_BACK_MS = 10;
/** How long a block waits before a watermark is asked for (ms). */
const ASK_AFTER_MS = 1;
/** The same while the feed brings watermarks of its own accord more often than this (ms): to ask costs both sides more than a batch. */
const BUSY_FEED_MS = 15;
/** While none comes, it is asked for ever more rarely, up to this (ms). */
const ASK_AT_MOST_MS = 200;

export type Parse = (bytes: Buffer, start: number, end: number) => ParsedLine | UnparsedReason;

export interface PipelineParts {
  follower: Pick<Follower, 'next' | 'hasten'>;
  parse: Parse;
  index: FlowIndex;
  /** With `--evidence inferred`. */
  timing?: Timing | undefined;
  style: Style;
  /** `end`: where the source stands behind them; undefined where they are the beginning of a block. */
  write(chunks: readonly Buffer[], end: LogPosition | undefined): Promise<void>;
  /** Asks the feed for a watermark of this moment. */
  requestTick(): void;
  /** Lines as they leave, for the recent lines, the pods' figures and the page. */
  onSettled(block: PendingBlock<unknown>): void;
  limits: PendingLimits & {
    /** Bytes of settled lines that the outputs have not taken. Beyond, nothing is read. */
    maxUnwrittenBytes: number;
  };
  clock(): number;
}

/** Every line lands in exactly one of `lines`, every attempt in exactly one of `evidence` and `reasons`. */
export interface PipelineCounters {
  lines: Record<'enriched' | 'unchanged' | UnparsedReason, number>;
  evidence: Partial<Record<Evidence, number>>;
  reasons: Partial<Record<Reason, number>>;
  /** Times that the clock was seen to be set back. */
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
  readonly waiting: PendingBlocks<LogPosition | undefined>;
  readonly #parts: PipelineParts;
  #unwritten = 0;
  #writing: Promise<void> = Promise.resolve();
  #failed: unknown;
  #wake: (() => void) | undefined;
  #timer: NodeJS.Timeout | undefined;
  #asking: NodeJS.Timeout | undefined;
  #askAfter = ASK_AFTER_MS;
  /** The last watermark seen, when it came and when the one before, as far as they were not asked for (ms since the epoch). */
  #watermark = -Infinity;
  #broughtAt = -Infinity;
  #broughtBefore = -Infinity;
  #asked = false;
  #ended = false;
  /** What the clock showed last. */
  #now = -Infinity;

  constructor(parts: PipelineParts) {
    this.#parts = parts;
    this.waiting = new PendingBlocks(parts.index, parts.limits, parts.timing);
  }

  get timing(): Timing | undefined {
    return this.#parts.timing;
  }

  get unwrittenBytes(): number {
    return this.#unwritten;
  }

  /** Runs until the follower ends; resolves when every line has been written. Rejects when the outputs give up. */
  async run(): Promise<void> {
    const { follower, clock, limits } = this.#parts;
    try {
      for (;;) {
        const block = await follower.next();
        if (!block) break;
        this.#accept(block);
        this.settle();
        // A backlog is read and written without ever waiting: signals, the feed and look-ups get their turn here.
        await nextTurn();
        while (this.#unwritten > limits.maxUnwrittenBytes && this.#failed === undefined)
          await this.#progress();
        if (this.#failed !== undefined) throw this.#failed;
      }
      this.#ended = true;
      while (this.waiting.blocks > 0 && this.#failed === undefined) {
        const left = (this.waiting.deadline ?? 0) - clock();
        if (left > 0) await this.#progress();
        else this.settle();
      }
      await this.#writing;
      if (this.#failed !== undefined) throw this.#failed;
    } finally {
      clearTimeout(this.#timer);
      clearTimeout(this.#asking);
    }
  }

  /** Call it when the watermark has moved. */
  advance(): void {
    this.settle();
    this.#parts.follower.hasten();
  }

  /** Writes what need not wait any longer. */
  settle(): void {
    const now = this.#parts.clock();
    this.#checkClock(now);
    this.#noteWatermark();
    const settled = this.waiting.take(now);
    if (settled.length > 0) this.#askAfter = ASK_AFTER_MS;
    for (const block of settled) this.#emit(block);
    this.#schedule();
    this.#wake?.();
  }

  /**
   * The helper says so too, with its next reading. Until then lines would be compared with what happened when the clock
   * showed these times before.
   */
  #checkClock(now: number): void {
    const { index, timing } = this.#parts;
    const latest = Math.max(this.#now, index.coverage.watermark);
    this.#now = now;
    if (latest <= now + SET_BACK_MS) return;
    this.counters.clockSetBack++;
    index.onClockRollback(now);
    timing?.apply({ kind: 'gap', source: 'conntrack', t: now, seq: 0 });
    this.waiting.expire();
  }

  #noteWatermark(): void {
    const { watermark } = this.#parts.index.coverage;
    if (watermark === this.#watermark) return;
    this.#watermark = watermark;
    if (!this.#asked) {
      this.#broughtBefore = this.#broughtAt;
      this.#broughtAt = this.#parts.clock();
    }
    this.#asked = false;
  }

  /** How long to wait for a watermark before asking for one (ms). */
  #patience(): number {
    if (this.#ended) return 0;
    const since = this.#parts.clock() - this.#broughtBefore;
    return since < 2 * BUSY_FEED_MS ? Math.max(BUSY_FEED_MS, this.#askAfter) : this.#askAfter;
  }

  #accept({ bytes, readAt, oversized, end }: LogBlock): void {
    // The clock cuts to whole milliseconds, and what happened in the last one may have been in time for these lines.
    const knownAt = readAt + 1;
    if (oversized) {
      const whole = bytes[bytes.length - 1] === NEWLINE;
      const piece = { start: 0, end: whole ? bytes.length - 1 : bytes.length, parsed: 'too-long' } as const;
      this.waiting.push(bytes, knownAt, [piece], end);
      return;
    }
    let rest = bytes;
    let lines: BlockLine[] = [];
    let divided = false;
    for (let start = 0; start < rest.length; ) {
      const newline = rest.indexOf(NEWLINE, start);
      const lineEnd = newline < 0 ? rest.length : newline;
      const parsed = lineEnd === start ? 'empty' : this.#parts.parse(rest, start, lineEnd);
      // Lines for which all evidence is there leave at once, without those behind them for which it is not.
      if (!divided && start > 0 && this.waiting.lineNeedsWatermark(parsed, knownAt)) {
        this.waiting.push(rest.subarray(0, start), knownAt, lines, undefined);
        rest = rest.subarray(start);
        lines = [];
        start = 0;
        divided = true;
        continue;
      }
      lines.push({ start, end: lineEnd, parsed });
      start = lineEnd + 1;
    }
    this.waiting.push(rest, knownAt, lines, end);
  }

  #emit(block: PendingBlock<LogPosition | undefined>): void {
    this.#count(block);
    this.#parts.onSettled(block);
    const chunks = this.#parts.style.render(block.bytes, block.lines, block.outcomes);
    // Only what is written is kept for the writing: what was read from the lines is many times their size.
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
        } else {
          reasons[outcome.reason] = (reasons[outcome.reason] ?? 0) + 1;
        }
      }
      results[enriched ? 'enriched' : 'unchanged']++;
    }
  }

  #schedule(): void {
    const { deadline } = this.waiting;
    if (deadline === undefined) return;
    const { clock, requestTick, limits } = this.#parts;
    if (this.#timer === undefined) {
      this.#timer = setTimeout(
        () => {
          this.#timer = undefined;
          this.settle();
        },
        Math.min(Math.max(1, deadline - clock()), limits.maxWaitMs),
      );
    }
    if (this.waiting.needsWatermark && this.#asking === undefined) {
      this.#asking = setTimeout(() => {
        this.#asking = undefined;
        if (!this.waiting.needsWatermark) return;
        // The block that wanted one may have left meanwhile, and another wait since a moment ago.
        if (clock() - this.waiting.since! >= this.#patience()) {
          this.#asked = true;
          requestTick();
          this.#askAfter = Math.min(this.#askAfter * 2, ASK_AT_MOST_MS);
        }
        this.#schedule();
      }, this.#patience());
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
