import type { ParsedLine, UnparsedReason } from '../model/line.ts';
import { isResolved, type Outcome } from '../model/outcome.ts';
import type { Deduction } from './deduction.ts';
import type { TappedRequest } from './index/connection.ts';
import type { FlowIndex } from './index/flow-index.ts';
import { type LinePlace, placeOf } from './index/traced-lines.ts';
import { matchLine, settleLine } from './match.ts';
import { COUNTED_SLACK_MS } from './rules/byte-counts.ts';
import { tracedLine } from './traced-line.ts';
import { lineEnd } from './window.ts';

/** One line of a block: its span without the newline, and its parsed values. */
export interface BlockLine {
  start: number;
  end: number;
  parsed: ParsedLine | UnparsedReason;
}

/** How far past a block the watermark may be before new connections without a request are not waited for (ms). */
const NEW_CONNECTION_WAIT_MS = 100;
/** Connections and requests that the rules may examine in one call of `take`, about 20 ms: others have their turn then. */
const VISITS_AT_ONCE = 1_000_000;
const NO_OUTCOMES: readonly Outcome[] = [];

/** A place in the file with the inode `ino` (decimal). */
export interface FilePlace {
  readonly ino: string;
  readonly offset: number;
}

/** The lines of one read, which wait for their evidence together and leave together, in order. */
export interface PendingBlock<Tag> {
  bytes: Buffer;
  readAt: number;
  lines: readonly BlockLine[];
  /** Of the lines matched so far, in step with `lines`, and each with its line's attempts. */
  outcomes: (readonly Outcome[])[];
  /** The caller's data, returned with the block. */
  tag: Tag;
  /** The file that its bytes are of, and where they begin there; undefined where that is not known. */
  at: FilePlace | undefined;
  /** All evidence of all lines has arrived once the watermark is not before this. */
  needs: number;
  /** The watermark at which not all lines could be matched: the block waits for a later one. */
  triedAt: number;
  /** The block leaves at this time with or without its evidence. */
  deadline: number;
  /** The requests by which lines were resolved so far. */
  matched: TappedRequest[];
  /** All lines are matched; with timing, the block may still wait for the lines beside it. */
  allMatched: boolean;
}

export interface PendingLimits {
  /** How long a block waits, ms. */
  maxWaitMs: number;
  /** Bytes of lines that wait. Beyond, the oldest block leaves as it is. */
  maxBytes: number;
}

/**
 * Blocks of lines in the order of the log, from the moment they are read until their attempts are settled. Time is
 * passed in; nothing here sleeps.
 */
export class PendingBlocks<Tag> {
  readonly counters = { timedOut: 0, pushedOut: 0 };
  readonly #limits: PendingLimits;
  readonly #index: FlowIndex;
  readonly #timing: Deduction | undefined;
  #blocks: PendingBlock<Tag>[] = [];
  #bytes = 0;
  #visitsUntil = Infinity;
  #unfinished = false;

  /** `timing`: deduces `ambiguous` attempts (`--evidence inferred`). */
  constructor(index: FlowIndex, limits: PendingLimits, timing?: Deduction) {
    this.#index = index;
    this.#limits = limits;
    this.#timing = timing;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get blocks(): number {
    return this.#blocks.length;
  }

  /** The last `take` ended before its time, for others to have their turn: it has to be called again. */
  get unfinished(): boolean {
    return this.#unfinished;
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
  get needsWatermark(): boolean {
    const oldest = this.#blocks[0];
    if (!oldest) return false;
    const { watermark } = this.#index.coverage;
    return this.#waitsFor(oldest) > watermark || oldest.triedAt >= watermark;
  }

  /** The block can be settled once the watermark is not before this, ms since the epoch: `needs`, and what timing waits for. */
  #waitsFor({ needs, allMatched }: PendingBlock<Tag>): number {
    return allMatched ? needs + (this.#timing?.waitMs ?? 0) : needs;
  }

  push(bytes: Buffer, readAt: number, lines: readonly BlockLine[], tag: Tag, at?: FilePlace): void {
    let needs = -Infinity;
    for (const { parsed } of lines) {
      needs = Math.max(needs, this.#lineNeeds(parsed, readAt));
      if (typeof parsed !== 'string' && parsed.endMs !== undefined && parsed.endStepMs <= 1)
        this.#index.lineClock.observe(parsed.endMs, readAt);
      if (this.#timing && typeof parsed !== 'string' && parsed.attempts.length > 0)
        this.#timing.observe(parsed, readAt);
    }
    this.#blocks.push({
      bytes,
      readAt,
      lines,
      outcomes: [],
      tag,
      at,
      needs,
      triedAt: -Infinity,
      deadline: readAt + this.#limits.maxWaitMs,
      matched: [],
      allMatched: false,
    });
    this.#bytes += bytes.length;
  }

  /** The pending blocks leave now: the clock was set, and earlier times cannot be compared. */
  expire(): void {
    for (const block of this.#blocks) block.deadline = -Infinity;
  }

  /** All evidence of the line has arrived once the watermark is not before this. */
  #lineNeeds(parsed: ParsedLine | UnparsedReason, readAt: number): number {
    if (typeof parsed === 'string' || parsed.attempts.length === 0) return -Infinity;
    return lineEnd(parsed, readAt, this.#index.counted.active ? COUNTED_SLACK_MS : 0);
  }

  /** Settles and returns, in order, the blocks that need not wait any longer at `now`. */
  take(now: number): PendingBlock<Tag>[] {
    const { watermark } = this.#index.coverage;
    const settled: PendingBlock<Tag>[] = [];
    this.#visitsUntil = this.#index.counters.visited + VISITS_AT_ONCE;
    this.#unfinished = false;
    const decisions = this.#timing?.counters.decisions;
    for (const block of this.#blocks) {
      const incomplete = this.#waitsFor(block) > watermark || block.triedAt >= watermark;
      const full = this.#bytes > this.#limits.maxBytes;
      if (incomplete && !full && now < block.deadline) break;
      if (!this.#settle(block, now)) break;
      if (incomplete && full) this.counters.pushedOut++;
      else if (incomplete) this.counters.timedOut++;
      this.#bytes -= block.bytes.length;
      settled.push(block);
      // One can take half a second. With more watermarks in the same read the next one would follow at once.
      if (this.#timing?.counters.decisions !== decisions) {
        this.#unfinished = true;
        break;
      }
    }
    if (settled.length > 0) this.#blocks = this.#blocks.slice(settled.length);
    return settled;
  }

  /** Whether all lines of the block are settled; if not, it needs a later watermark. */
  #settle(block: PendingBlock<Tag>, now: number): boolean {
    const { watermark } = this.#index.coverage;
    const mayWait = now < block.deadline && this.#bytes <= this.#limits.maxBytes;
    if (!block.allMatched) {
      if (!this.#match(block, mayWait && watermark < block.needs + NEW_CONNECTION_WAIT_MS)) {
        if (!this.#unfinished) block.triedAt = watermark;
        return false;
      }
      block.allMatched = true;
      const anyAmbiguous = this.#timing !== undefined && learnBackends(block, this.#timing);
      if (anyAmbiguous && mayWait && watermark < this.#waitsFor(block)) return false;
    }
    this.#index.markMatched(block.matched);
    if (this.#timing) inferBackends(block, this.#timing);
    return true;
  }

  /** Whether all lines are matched. If not, one has to wait, as `mayWait` allows, or others have their turn: matching then goes on there. */
  #match(block: PendingBlock<Tag>, mayWait: boolean): boolean {
    const { outcomes, matched, lines } = block;
    const { traced, counters } = this.#index;
    for (let i = outcomes.length; i < lines.length; i++) {
      if (counters.visited >= this.#visitsUntil) {
        this.#unfinished = true;
        return false;
      }
      const { parsed } = lines[i]!;
      if (typeof parsed === 'string' || parsed.attempts.length === 0) {
        outcomes.push(NO_OUTCOMES);
        continue;
      }
      const place = traced.active ? placeIn(block, lines[i]!) : undefined;
      const told = place && tracedLine(parsed, block.bytes, traced.of(place));
      const match = matchLine(parsed, block.readAt, this.#index, told);
      if (match.retryAtNextWatermark && mayWait) return false;
      settleLine(match, this.#index);
      if (place) traced.spend(place);
      outcomes.push(match.outcomes);
      // What else the match has is garbage from here on.
      for (const request of match.matched) matched.push(request);
    }
    return true;
  }
}

/** Passes resolved attempts to `timing`. Returns whether any attempt is `ambiguous`. */
function learnBackends({ lines, outcomes }: PendingBlock<unknown>, timing: Deduction): boolean {
  let anyAmbiguous = false;
  lines.forEach(({ parsed }, i) => {
    if (typeof parsed === 'string') return;
    outcomes[i]!.forEach((outcome, k) => {
      if (isResolved(outcome)) timing.know(parsed, k, outcome.ip, outcome.port);
      else if (outcome.reason === 'ambiguous') anyAmbiguous = true;
    });
  });
  return anyAmbiguous;
}

/** Names the `ambiguous` attempts that `timing` can. */
function inferBackends({ lines, outcomes }: PendingBlock<unknown>, timing: Deduction): void {
  lines.forEach(({ parsed }, i) => {
    if (typeof parsed === 'string') return;
    outcomes[i] = outcomes[i]!.map((outcome, k) => inferred(outcome, parsed, k, timing));
  });
}

function inferred(outcome: Outcome, line: ParsedLine, k: number, timing: Deduction): Outcome {
  if (isResolved(outcome) || outcome.reason !== 'ambiguous') return outcome;
  const named = timing.backend(line, k);
  if (!named) return outcome;
  const { ip, port } = line.attempts[k]!;
  const direct = named.ip === ip && named.port === port;
  return direct ? { reason: 'direct' } : { evidence: 'timing', ...named };
}

function placeIn({ at, bytes }: PendingBlock<unknown>, { start, end }: BlockLine): LinePlace | undefined {
  // A newline that the file has not was not written by nginx.
  return at && placeOf(bytes, start, end + 1, at.ino, at.offset + start);
}
