import { LineBuffer } from '../follow/line-buffer.ts';
import { excerpt } from '../format-reach.ts';
import type { Deduction } from '../join/deduction.ts';
import type { FlowIndex } from '../join/index/flow-index.ts';
import { DEFAULT_LIMITS, type IndexLimits } from '../join/index/limits.ts';
import { type BlockLine, type PendingBlock, PendingBlocks } from '../join/pending.ts';
import { type Evidence, isResolved, NOTHING_TO_NAME, type Reason } from '../model/outcome.ts';
import { type LogFormat, MAX_LINE_BYTES } from '../parse/log-format.ts';
import type { Style } from '../rewrite/style.ts';
import { FeedError, RecordedFeed } from './recorded-feed.ts';

const NEWLINE = 0x0a;
const RECORDING_READ_BYTES = 64 * 1024;

/** Larger than a sidecar's, as lines may come long after their evidence. */
export const OFFLINE_LIMITS: IndexLimits = {
  connections: DEFAULT_LIMITS.connections * 10,
  requests: DEFAULT_LIMITS.requests * 10,
  matchedRequests: DEFAULT_LIMITS.matchedRequests * 10,
  services: DEFAULT_LIMITS.services,
};

export interface Progress {
  /** Bytes of the log read, and lines and attempts handed out. */
  bytes: number;
  lines: number;
  unparsed: number;
  resolved: number;
  unresolved: number;
  /** Attempts by evidence, and by reason. */
  evidence: Partial<Record<Evidence, number>>;
  reasons: Partial<Record<Reason, number>>;
  /** Lines that do not fit the format, and the first of them. */
  unfit: number;
  unfitExample: string | undefined;
  /** Set when the feed could be read only up to a point; everything after it stays unresolved. */
  feedError: string | undefined;
  /** Times of the first and the last watermark that were read of the feed, ms since the epoch. */
  feedFrom: number | undefined;
  feedTo: number | undefined;
  /** The whole feed was read: where nothing is named, or the log goes on longer. */
  feedEnded: boolean;
  /** The earliest and the latest time of a line, ms since the epoch. */
  logFrom: number | undefined;
  logTo: number | undefined;
}

export interface EnrichParts {
  log: AsyncIterable<Buffer>;
  feed: AsyncIterable<Buffer>;
  format: LogFormat;
  style: Style;
  index: FlowIndex;
  /** Deduces what other evidence leaves open. */
  timing?: Deduction | undefined;
  progress: Progress;
}

export function newProgress(): Progress {
  return {
    bytes: 0,
    lines: 0,
    unparsed: 0,
    resolved: 0,
    unresolved: 0,
    evidence: {},
    reasons: {},
    unfit: 0,
    unfitExample: undefined,
    feedError: undefined,
    feedFrom: undefined,
    feedTo: undefined,
    feedEnded: false,
    logFrom: undefined,
    logTo: undefined,
  };
}

/**
 * A finished log with a recorded feed: the enriched bytes, in order. For each block of lines the feed is applied as far as
 * the block needs, as in a running sidecar. With `timing` the log is read ahead by half a minute, as lines wait for those
 * beside them.
 *
 * The time of reading is not known here, so a line without a time stays unresolved.
 */
export async function* enrich(parts: EnrichParts): AsyncGenerator<Buffer> {
  const { format, index, timing, style, progress } = parts;
  const feed = new RecordedFeed(parts.feed, (record) => {
    index.apply(record);
    timing?.apply(record);
  });
  const waiting = new PendingBlocks<undefined>(index, { maxWaitMs: Infinity, maxBytes: Infinity }, timing);
  /** Settles the blocks that need the feed up to `horizon` at most (ms since the epoch). */
  async function* settle(horizon: number): AsyncGenerator<Buffer> {
    while (waiting.blocks > 0) {
      // Time does not pass while there is more to read, so no block reaches its deadline.
      for (const block of waiting.take(feed.ended ? Infinity : -Infinity)) {
        count(progress, block);
        yield* style.render(block.bytes, block.lines, block.outcomes);
      }
      if (waiting.unfinished) continue;
      if (waiting.blocks === 0 || (feed.last ?? -Infinity) > horizon) return;
      await advance(feed, progress);
    }
  }
  let logEnd = -Infinity;
  for await (const { bytes, oversized } of blocks(parts.log)) {
    progress.bytes += bytes.length;
    const lines = linesOf(bytes, oversized, format);
    const [begin, end] = timesOf(lines);
    if (begin !== undefined && end !== undefined) {
      progress.logFrom = Math.min(begin, progress.logFrom ?? begin);
      progress.logTo = Math.max(end, progress.logTo ?? end);
    }
    logEnd = Math.max(logEnd, end ?? -Infinity);
    waiting.push(bytes, Infinity, lines, undefined);
    // Lines without times need no evidence.
    yield* settle(timing && end !== undefined ? logEnd : Infinity);
  }
  timing?.finish(logEnd);
  yield* settle(Infinity);
  // How far the feed reaches is then what the operator has to know.
  while (progress.resolved === 0 && !feed.ended) await advance(feed, progress);
}

/** The earliest and the latest time of the lines. */
function timesOf(lines: readonly BlockLine[]): [begin: number | undefined, end: number | undefined] {
  let begin: number | undefined;
  let end: number | undefined;
  for (const { parsed } of lines) {
    if (typeof parsed === 'string' || parsed.endMs === undefined) continue;
    begin = Math.min(begin ?? parsed.endMs, parsed.endMs);
    end = Math.max(end ?? parsed.endMs, parsed.endMs);
  }
  return [begin, end];
}

async function advance(feed: RecordedFeed, progress: Progress): Promise<void> {
  try {
    await feed.advance();
  } catch (error) {
    if (!(error instanceof FeedError)) throw error;
    progress.feedError = error.message;
  }
  progress.feedFrom = feed.first;
  progress.feedTo = feed.last;
  progress.feedEnded = feed.ended;
}

/** Whole lines, and pieces of lines that are too long, whatever the chunks they come in. */
async function* blocks(log: AsyncIterable<Buffer>): AsyncGenerator<{ bytes: Buffer; oversized: boolean }> {
  const buffer = new LineBuffer({ maxLine: MAX_LINE_BYTES, read: RECORDING_READ_BYTES });
  for await (const chunk of log) {
    for (let at = 0; at < chunk.length; ) {
      const copied = chunk.copy(buffer.room(), 0, at);
      buffer.filled(copied);
      at += copied;
      for (let block = buffer.take(); block; block = buffer.take()) yield block;
    }
  }
  if (buffer.pending > 0) yield { bytes: buffer.finish().subarray(0, -1), oversized: false };
}

function linesOf(bytes: Buffer, oversized: boolean, format: LogFormat): BlockLine[] {
  const lines: BlockLine[] = [];
  for (let start = 0; start < bytes.length; ) {
    const newline = bytes.indexOf(NEWLINE, start);
    const end = newline < 0 ? bytes.length : newline;
    lines.push({ start, end, parsed: oversized ? 'too-long' : format.parse(bytes, start, end) });
    start = end + 1;
  }
  return lines;
}

function count(progress: Progress, { bytes, lines, outcomes }: PendingBlock<undefined>): void {
  const { evidence, reasons } = progress;
  for (let i = 0; i < lines.length; i++) {
    const { parsed, start, end } = lines[i]!;
    progress.lines++;
    if (typeof parsed === 'string') progress.unparsed++;
    if (parsed === 'format') {
      progress.unfit++;
      progress.unfitExample ??= excerpt(bytes.subarray(start, end));
    }
    for (const outcome of outcomes[i]!) {
      if (isResolved(outcome)) {
        progress.resolved++;
        evidence[outcome.evidence] = (evidence[outcome.evidence] ?? 0) + 1;
        continue;
      }
      if (!NOTHING_TO_NAME.has(outcome.reason)) progress.unresolved++;
      reasons[outcome.reason] = (reasons[outcome.reason] ?? 0) + 1;
    }
  }
}
