import { LineBuffer } from '../follow/line-buffer.ts';
import { DEFAULT_LIMITS, type FlowIndex, type IndexLimits } from '../join/flow-index.ts';
import { type BlockLine, Waiting } from '../join/waiting.ts';
import { type LogFormat, MAX_LINE_BYTES } from '../parse/log-format.ts';
import { isResolved } from '../record/outcome.ts';
import type { Style } from '../rewrite/style.ts';
import { FeedError, RecordedFeed } from './recorded-feed.ts';

const NEWLINE = 0x0a;
const READ_BYTES = 64 * 1024;

/** Memory is cheap here, and a log that was written late must not find that its evidence was forgotten. */
export const OFFLINE_LIMITS: IndexLimits = {
  connections: DEFAULT_LIMITS.connections * 10,
  sightings: DEFAULT_LIMITS.sightings * 10,
  usedSightings: DEFAULT_LIMITS.usedSightings * 10,
  services: DEFAULT_LIMITS.services,
};

export interface Progress {
  /** Bytes of the log read, and lines and attempts handed out. */
  bytes: number;
  lines: number;
  unparsed: number;
  resolved: number;
  unresolved: number;
  /** Set when the feed could be read only up to a point; everything after it stays unresolved. */
  feedError: string | undefined;
  /** Times of the feed's first and last watermark, ms since the epoch. */
  feedFrom: number | undefined;
  feedTo: number | undefined;
}

export interface EnrichParts {
  log: AsyncIterable<Buffer>;
  feed: AsyncIterable<Buffer>;
  format: LogFormat;
  style: Style;
  index: FlowIndex;
  progress: Progress;
}

export function newProgress(): Progress {
  return {
    bytes: 0,
    lines: 0,
    unparsed: 0,
    resolved: 0,
    unresolved: 0,
    feedError: undefined,
    feedFrom: undefined,
    feedTo: undefined,
  };
}

/**
 * A finished log with a recorded feed: the enriched bytes, in order. The feed is applied just so far as each block of
 * lines needs, as a running sidecar would have had it.
 *
 * When a line was read is not known here, so a line that does not say when it was written stays unresolved.
 */
export async function* enrich(parts: EnrichParts): AsyncGenerator<Buffer> {
  const { format, index, style, progress } = parts;
  const feed = new RecordedFeed(parts.feed, index);
  const waiting = new Waiting<undefined>(index, { maxWaitMs: Infinity, maxBytes: Infinity });
  for await (const { bytes, oversized } of blocks(parts.log)) {
    progress.bytes += bytes.length;
    waiting.push(bytes, Infinity, linesOf(bytes, oversized, format), undefined);
    while (waiting.blocks > 0) {
      // Time stands still as long as there is more to read, so a block leaves when its evidence is complete.
      for (const block of waiting.take(feed.ended ? Infinity : -Infinity)) {
        count(progress, block.lines, block.outcomes);
        yield* style.render(block.bytes, block.lines, block.outcomes);
      }
      if (waiting.blocks > 0) await advance(feed, progress);
    }
  }
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
}

/** Whole lines, and pieces of lines that are too long, whatever the chunks they come in. */
async function* blocks(log: AsyncIterable<Buffer>): AsyncGenerator<{ bytes: Buffer; oversized: boolean }> {
  const buffer = new LineBuffer({ maxLine: MAX_LINE_BYTES, read: READ_BYTES });
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

function count(
  progress: Progress,
  lines: readonly BlockLine[],
  outcomes: readonly (readonly Parameters<typeof isResolved>[0][])[],
): void {
  for (let i = 0; i < lines.length; i++) {
    progress.lines++;
    if (typeof lines[i]!.parsed === 'string') progress.unparsed++;
    for (const outcome of outcomes[i]!) {
      if (isResolved(outcome)) progress.resolved++;
      else if (outcome.reason !== 'direct' && outcome.reason !== 'not-ip') progress.unresolved++;
    }
  }
}
