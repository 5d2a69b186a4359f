import { createReadStream } from 'node:fs';
import { access, constants } from 'node:fs/promises';
import type { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import type { EnrichOptions } from '../config/commands.ts';
import { logFormatOf } from '../config/format.ts';
import { UsageError } from '../config/option.ts';
import { planLog } from '../doctor/nginx-conf.ts';
import { deductionFor } from '../join/deduction.ts';
import { FlowIndex } from '../join/index/flow-index.ts';
import { createStyle } from '../rewrite/create.ts';
import { conclusion } from './conclusion.ts';
import { enrich, newProgress, OFFLINE_LIMITS, type Progress } from './enrich.ts';
import { decompressed } from './gzip.ts';

const SHOW_EVERY_MS = 500;
/** With Node's 64 KiB, every 200 lines wait for another thread: 5 to 10 % more CPU. */
const READ = { highWaterMark: 256 * 1024 };

/**
 * `realpod enrich`: 0 when everything was read; 1 when the log or the feed could not be read to its end, or when nothing
 * was named. What was read is written in either case.
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
  const plan = planLog(options, { accessLog: undefined, requestIdHeader: undefined });
  const format = logFormatOf({ ...plan, localPortField: options.localPortField });
  const say = (text: string): void => void stderr.write(`realpod: ${text}\n`);
  if (plan.notice !== undefined) say(plan.notice);
  for (const warning of format.warnings) say(warning);
  const index = new FlowIndex(OFFLINE_LIMITS);
  const progress = newProgress();
  const enriched = enrich({
    log: decompressed(logPath === undefined ? stdin : createReadStream(logPath, READ)),
    feed: decompressed(createReadStream(feedPath, READ)),
    format,
    style: createStyle(options.style, format),
    index,
    timing: deductionFor(options.evidence, { offline: true }),
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
    // The reader of the lines has closed the pipe.
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
  for (const line of conclusion(progress, format, plan)) say(line);
  return progress.resolved === 0 && progress.unresolved + progress.unfit > 0 ? 1 : 0;
}

function summary({ bytes, lines, resolved, unresolved }: Progress): string {
  const wanted = resolved + unresolved;
  const share = wanted === 0 ? '' : `, ${((resolved * 100) / wanted).toFixed(1)} % of the upstreams resolved`;
  return `${(bytes / 1e6).toFixed(1)} MB, ${lines} lines${share}`;
}

async function readable(path: string): Promise<void> {
  await access(path, constants.R_OK).catch((error: NodeJS.ErrnoException) => {
    throw new UsageError(`${path}: ${error.code === 'ENOENT' ? 'there is no such file' : 'cannot be read'}`);
  });
}
