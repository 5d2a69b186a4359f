import { readFileSync } from 'node:fs';
import { decodeRecord } from '../../src/feed/codec.ts';
import { FlowIndex } from '../../src/join/index/flow-index.ts';
import { type BlockLine, type PendingBlock, PendingBlocks } from '../../src/join/pending.ts';
import type { FeedRecord, NameRecord } from '../../src/model/feed.ts';
import { compileLogFormat } from '../../src/parse/log-format.ts';
import type { Parse } from '../../src/pipeline.ts';

const DEMO = new URL('../../demo/', import.meta.url);

export const demoLog = readFileSync(new URL('access.log', DEMO));
export const demoFeed = readFileSync(new URL('feed.ndjson', DEMO));
export const demoFormatText = readFileSync(new URL('log_format', DEMO), 'utf8').trim();
export const demoFormat = compileLogFormat(demoFormatText);
export const parseDemo: Parse = (bytes, start, end) => demoFormat.parse(bytes, start, end);
/** How many lines the log has. */
export const demoLines = demoLog.toString('latin1').split('\n').length - 1;
export const demoRecords = demoFeed
  .toString()
  .split('\n')
  .filter(Boolean)
  .map((line) => decodeRecord(line) as FeedRecord);

/** The recording's whole feed applied to an index, after `names`, and its log settled in blocks of `perBlock` lines. */
export function settledDemo(
  perBlock = 50,
  names: readonly NameRecord[] = [],
): {
  index: FlowIndex;
  blocks: PendingBlock<undefined>[];
  end: number;
} {
  const index = new FlowIndex();
  for (const record of [...names, ...demoRecords]) index.apply(record);
  const end = demoRecords.at(-1)!.t;
  const waiting = new PendingBlocks<undefined>(index, { maxWaitMs: 0, maxBytes: Infinity });
  const text = demoLog.toString('latin1').split('\n').slice(0, -1);
  for (let from = 0; from < text.length; from += perBlock) {
    const bytes = Buffer.from(`${text.slice(from, from + perBlock).join('\n')}\n`, 'latin1');
    const lines: BlockLine[] = [];
    for (let start = 0; start < bytes.length; ) {
      const stop = bytes.indexOf(10, start);
      lines.push({ start, end: stop, parsed: demoFormat.parse(bytes, start, stop) });
      start = stop + 1;
    }
    waiting.push(bytes, end, lines, undefined);
  }
  return { index, blocks: waiting.take(end), end };
}
