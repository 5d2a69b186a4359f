import { setTimeout as delay } from 'node:timers/promises';
import type { Capture, CaptureOptions as CaptureSettings, CaptureSink } from './capture/capture.ts';
import { createCapture } from './capture/create.ts';
import type { CaptureOptions } from './config/commands.ts';
import { Feed } from './feed/feed.ts';
import { YoungGeneration } from './heap.ts';
import type { Log } from './log.ts';

/** Connections kept at a time over all subscribed pods. About 600 bytes each. */
const MAX_FLOWS = 200_000;

/** Capture and feed, for a helper or for `--helper embedded`. */
export interface Captured {
  feed: Feed;
  capture: Capture;
  /** Gives the readers what has happened up to now, within half a second. */
  flush(): Promise<void>;
  close(): Promise<void>;
}

/** Time limit for the last records and watermarks at the end (ms). */
const LAST_FLUSH_MS = 500;

/** Rejects with CaptureError where this machine or its rights do not allow it, and with UsageError. */
export async function startCapture(options: CaptureOptions, log: Log): Promise<Captured> {
  const { start, ...captured } = prepareCapture(options, log);
  await start();
  return captured;
}

/** As `startCapture`, before anything is opened. Do not let readers in before `start` has resolved. */
export function prepareCapture(
  options: CaptureOptions,
  log: Log,
  besideAnother = false,
): Captured & { start(): Promise<void> } {
  const feed = new Feed(Date.now);
  // Its table can hold a million connections, which are not to be marked again for each fifth that is added.
  const young = new YoungGeneration(false);
  const sink: CaptureSink = {
    batch(observations, watermark, followed) {
      feed.batch(observations, watermark, followed);
      young.tune(Date.now());
    },
  };
  const capture = createCapture(asCaptureOptions(options, log, besideAnother), sink);
  let started = false;
  // Readers get every event up to here, so lines up to here do not need the next helper.
  const flush = async (): Promise<void> => {
    const flushed = started && feed.addresses.length > 0 ? feed.flush(feed.addresses) : undefined;
    await Promise.race([flushed?.catch(() => {}), delay(LAST_FLUSH_MS, undefined, { ref: false })]);
  };
  return {
    feed,
    capture,
    flush,
    async start() {
      await capture.start();
      feed.connect(capture);
      started = true;
    },
    async close() {
      await flush();
      feed.close();
      await capture.close();
    },
  };
}

/** The capture's part of a command's options. */
export function asCaptureOptions(options: CaptureOptions, log: Log, besideAnother = false): CaptureSettings {
  return {
    sources: options.sources,
    tap: options.tap,
    tapSource: options.tapSource,
    tapGroup: options.tapGroup,
    besideAnother,
    snaplen: options.tapSnaplen,
    requestIdHeader: options.requestIdHeader,
    paths: !options.noPaths,
    receiveBufferBytes: options.receiveBuffer,
    maxFlows: MAX_FLOWS,
    kernelLog: options.kernelLog,
    logRule: options.logRule,
    log,
  };
}
