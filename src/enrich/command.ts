import { createReadStream } from 'node:fs';
import { access, constants } from 'node:fs/promises';
import type { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import type { EnrichOptions } from '../config/commands.ts';
import { logFormatOf } from '../config/format.ts';
import { UsageError } from '../config/option.ts';
import { planLog } from '../doctor/nginx-conf.ts';
import { OFFLINE, Timing } from '../inferred/timing.ts';
import { FlowIndex } from '../join/index/flow-index.ts';
import type { LogFormat } from '../parse/log-format.ts';
import { createStyle } from '../rewrite/create.ts';
import { enrich, newProgress, OFFLINE_LIMITS, OFFLINE_TIMING_LIMITS, type Progress } from './enrich.ts';
import { decompressed } from './gzip.ts';

const SHOW_EVERY_MS = 500;

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
  if (plan.said !== undefined) say(plan.said);
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
  for (const line of conclusion(progress, format, plan.formatName)) say(line);
  return progress.resolved === 0 && progress.unresolved + progress.unfit > 0 ? 1 : 0;
}

function summary({ bytes, lines, resolved, unresolved }: Progress): string {
  const wanted = resolved + unresolved;
  const share = wanted === 0 ? '' : `, ${((resolved * 100) / wanted).toFixed(1)} % of the upstreams resolved`;
  return `${(bytes / 1e6).toFixed(1)} MB, ${lines} lines${share}`;
}

/** The end of a run: lines, what named them, what stayed and why, and how far the feed reaches. One sentence a line. */
function conclusion(
  { lines, resolved, unresolved, unfit, unfitExample, evidence, reasons, feedFrom, feedTo }: Progress,
  format: LogFormat,
  formatName: string,
): string[] {
  const counts = (of: Partial<Record<string, number>>): string =>
    Object.entries(of)
      .map(([name, n]) => `${n} ${name}`)
      .join(', ');
  const named = resolved === 0 ? '' : ` (${counts(evidence)})`;
  const left = Object.keys(reasons).length === 0 ? '' : `; left as they are: ${counts(reasons)}`;
  const said = [
    `${lines} lines; ${resolved} of ${resolved + unresolved} upstream addresses named${named}${left}`,
  ];
  if (unfitExample !== undefined) {
    said.push(`${unfit} of ${lines} lines do not fit ${formatName}, such as: ${unfitExample}`);
  }
  said.push(
    feedFrom === undefined || feedTo === undefined
      ? 'the feed is empty'
      : `the feed reaches from ${new Date(feedFrom).toISOString()} to ${new Date(feedTo).toISOString()}`,
  );
  if (resolved === 0 && unresolved > 0) {
    said.push(
      format.timed
        ? 'nothing was named: is the log of the time of the feed, and of the same nginx?'
        : 'nothing was named: the log format has no time, and without one a finished log cannot be compared with the feed; log $msec',
    );
  }
  return said;
}

async function readable(path: string): Promise<void> {
  await access(path, constants.R_OK).catch((error: NodeJS.ErrnoException) => {
    throw new UsageError(`${path}: ${error.code === 'ENOENT' ? 'there is no such file' : 'cannot be read'}`);
  });
}
