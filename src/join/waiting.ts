import type { ParsedLine, UnparsedReason } from '../record/line.ts';
import type { Outcome } from '../record/outcome.ts';
import type { FlowIndex } from './flow-index.ts';
import { type Match, matchLine } from './match.ts';
import { lineEnd } from './window.ts';

/** One line of a block: its span without the newline, and what it says. */
export interface BlockLine {
  start: number;
  end: number;
  parsed: ParsedLine | UnparsedReason;
}

/** How far the watermark may run past a block for the sake of connections that have not carried a request yet (ms). */
const UNRIPE_WAIT_MS = 100;
const NO_OUTCOMES: readonly Outcome[] = [];

/** The lines of one read, which wait for their evidence together and leave together, in order. */
export interface WaitingBlock<Tag> {
  bytes: Buffer;
  readAt: number;
  lines: readonly BlockLine[];
  /** In step with `lines`, and each with its line's attempts; empty until the block is settled. */
  outcomes: (readonly Outcome[])[];
  /** What the caller wants back with the block. */
  tag: Tag;
  /** With a watermark not before this, all evidence of all lines has arrived. */
  needs: number;
  /** A look at this watermark was too early to settle all of it. */
  after: number;
  /** It leaves at this time whatever has arrived. */
  deadline: number;
}

export interface WaitingLimits {
  /** How long a block waits, ms. */
  maxWaitMs: number;
  /** Bytes of lines that wait. Beyond, the oldest block leaves as it is. */
  maxBytes: number;
}

/**
 * Blocks of lines in the order of the log, from the moment they are read until their attempts are settled. Time is
 * passed in; nothing here sleeps.
 */
export class Waiting<Tag> {
  readonly counters = { timedOut: 0, pushedOut: 0 };
  readonly #limits: WaitingLimits;
  readonly #index: FlowIndex;
  #blocks: WaitingBlock<Tag>[] = [];
  #bytes = 0;

  constructor(index: FlowIndex, limits: WaitingLimits) {
    this.#index = index;
    this.#limits = limits;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get blocks(): number {
    return this.#blocks.length;
  }

  /** When the oldest block has to leave, ms since the epoch. */
  get deadline(): number | undefined {
    return this.#blocks[0]?.deadline;
  }

  /** When the oldest block was read, ms since the epoch. */
  get since(): number | undefined {
    return this.#blocks[0]?.readAt;
  }

  /** Whether the oldest block waits for a watermark that has not come. */
  get wanting(): boolean {
    const oldest = this.#blocks[0];
    if (!oldest) return false;
    const { watermark } = this.#index.coverage;
    return oldest.needs > watermark || oldest.after >= watermark;
  }

  push(bytes: Buffer, readAt: number, lines: readonly BlockLine[], tag: Tag): void {
    let needs = -Infinity;
    for (const { parsed } of lines) {
      if (typeof parsed !== 'string' && parsed.attempts.length > 0)
        needs = Math.max(needs, lineEnd(parsed, readAt));
    }
    const deadline = readAt + this.#limits.maxWaitMs;
    this.#blocks.push({ bytes, readAt, lines, outcomes: [], tag, needs, after: -Infinity, deadline });
    this.#bytes += bytes.length;
  }

  /** Settles and hands out, in order, the blocks that need not wait any longer at `now`. */
  take(now: number): WaitingBlock<Tag>[] {
    const { watermark } = this.#index.coverage;
    const settled: WaitingBlock<Tag>[] = [];
    for (const block of this.#blocks) {
      if (block.needs > watermark || block.after >= watermark) {
        if (this.#bytes > this.#limits.maxBytes) this.counters.pushedOut++;
        else if (now >= block.deadline) this.counters.timedOut++;
        else break;
      }
      if (!this.#settle(block, now)) break;
      this.#bytes -= block.bytes.length;
      settled.push(block);
    }
    if (settled.length > 0) this.#blocks = this.#blocks.slice(settled.length);
    return settled;
  }

  /** Whether all lines of the block are settled; if not, it needs the next watermark. */
  #settle(block: WaitingBlock<Tag>, now: number): boolean {
    const { watermark } = this.#index.coverage;
    const patient =
      watermark < block.needs + UNRIPE_WAIT_MS &&
      now < block.deadline &&
      this.#bytes <= this.#limits.maxBytes;
    const matches: (Match | undefined)[] = [];
    for (const { parsed } of block.lines) {
      if (typeof parsed === 'string' || parsed.attempts.length === 0) {
        matches.push(undefined);
        continue;
      }
      const match = matchLine(parsed, block.readAt, this.#index);
      if (match.unripe && patient) {
        block.after = watermark;
        return false;
      }
      matches.push(match);
    }
    for (const match of matches) {
      if (match) this.#index.learn(match.used);
      block.outcomes.push(match?.outcomes ?? NO_OUTCOMES);
    }
    return true;
  }
}
