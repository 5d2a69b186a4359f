import { createReadStream } from 'node:fs';
import { access, constants } from 'node:fs/promises';
import type { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import type { EnrichOptions } from '../config/commands.ts';
import { logFormatOf } from '../config/format.ts';
import { UsageError } from '../config/option.ts';
import { OFFLINE, Timing } from '../inferred/timing.ts';
import { FlowIndex } from '../join/index/flow-index.ts';
import { createStyle } from '../rewrite/create.ts';
import { enrich, newProgress, OFFLINE_LIMITS, OFFLINE_TIMING_LIMITS, type Progress } from './enrich.ts';
import { decompressed } from './gzip.ts';

const SHOW_EVERY_MS = 500;

/**
 * `realpod enrich`: 0 when everything was read, 1 when the log or the feed could not be read to its end. What was read
 * is written in either case.
 */
export async function runEnrich(
  options: EnrichOptions,
  stdin: AsyncIterable<Buffer> & { isTTY?: boolean },
  stdout: Writable,
  stderr: Writable & { isTTY?: boolean },
): Promise<number> {
  const { feed: feedPath, argument: logPath } = options;
  if (logPath === undefined && stdin.isTTY) {
    throw new UsageError('give a log: realpod enrich --feed FEED < access.log');
  }
  for (const path of [feedPath, ...(logPath === undefined ? [] : [logPath])]) await readable(path);
  const format = logFormatOf(options);
  const say = (text: string): void => void stderr.write(`realpod: ${text}\n`);
  for (const warning of format.warnings) say(warning);
  const index = new FlowIndex(OFFLINE_LIMITS);
  const progress = newProgress();
  const enriched = enrich({
    log: decompressed(logPath === undefined ? stdin : createReadStream(logPath)),
    feed: decompressed(createReadStream(feedPath)),
    format,
    style: createStyle(options.style, format),
    index,
    timing: options.evidence === 'inferred' ? new Timing(OFFLINE_TIMING_LIMITS, OFFLINE) : undefined,
    progress,
  });
  const timer = stderr.isTTY
    ? setInterval(() => stderr.write(`\r${summary(progress)}\x1b[K`), SHOW_EVERY_MS)
    : undefined;
  let failed: string | undefined;
  try {
    if (options.gzip) await pipeline(enriched, createGzip(), stdout);
    else await pipeline(enriched, stdout);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    // Whoever read the lines has had enough.
    if (code === 'EPIPE' || code === 'ERR_STREAM_PREMATURE_CLOSE') return 0;
    if (code === undefined) throw error;
    failed = code.startsWith('Z_')
      ? `the log's gzip data is damaged or ends early (${message}); what was read is written`
      : message;
  } finally {
    clearInterval(timer);
    if (stderr.isTTY) stderr.write(`\r${summary(progress)}\x1b[K\n`);
  }
  const trouble = failed ?? progress.feedError;
  if (trouble !== undefined) {
    say(trouble);
    return 1;
  }
  if (progress.resolved === 0 && progress.unresolved > 0) say(nothingFound(progress));
  return 0;
}

function summary({ bytes, lines, resolved, unresolved }: Progress): string {
  const wanted = resolved + unresolved;
  const share = wanted === 0 ? '' : `, ${((resolved * 100) / wanted).toFixed(1)} % of the upstreams resolved`;
  return `${(bytes / 1e6).toFixed(1)} MB, ${lines} lines${share}`;
}

function nothingFound({ feedFrom, feedTo }: Progress): string {
  if (feedFrom === undefined || feedTo === undefined) return 'nothing was resolved: the feed is empty';
  const span = [feedFrom, feedTo].map((t) => new Date(t).toISOString()).join(' to ');
  return `nothing was resolved; the feed covers ${span}: is the log of that time and of the same nginx?`;
}

async function readable(path: string): Promise<void> {
  await access(path, constants.R_OK).catch((error: NodeJS.ErrnoException) => {
    throw new UsageError(`${path}: ${error.code === 'ENOENT' ? 'there is no such file' : 'cannot be read'}`);
  });
}
