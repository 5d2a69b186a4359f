import type { Capture } from './capture/capture.ts';
import { createCapture } from './capture/create.ts';
import type { CaptureOptions } from './config/commands.ts';
import { Feed } from './feed/feed.ts';
import type { Log } from './log.ts';

/** Connections kept at a time over all subscribed pods. About 600 bytes each. */
const MAX_FLOWS = 200_000;

/** The capturing half, in a process of its own or inside a sidecar. */
export interface Captured {
  feed: Feed;
  capture: Capture;
  close(): Promise<void>;
}

/** Rejects with CaptureError where this machine or its rights do not allow it, and with UsageError. */
export async function startCapture(options: CaptureOptions, log: Log): Promise<Captured> {
  const feed = new Feed(Date.now);
  const capture = createCapture(
    {
      sources: options.sources,
      tap: options.tap,
      tapGroup: options.tapGroup,
      snaplen: options.tapSnaplen,
      requestIdHeader: options.requestIdHeader,
      paths: !options.noPaths,
      receiveBufferBytes: options.receiveBuffer,
      maxFlows: MAX_FLOWS,
      kernelLog: options.kernelLog,
      logRule: options.logRule,
      log,
    },
    feed,
  );
  await capture.start();
  feed.connect(capture);
  return {
    feed,
    capture,
    async close() {
      feed.close();
      await capture.close();
    },
  };
}
