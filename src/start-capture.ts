import type { Capture, CaptureOptions } from './capture/capture.ts';
import { createCapture } from './capture/create.ts';
import type { Options } from './config/options.ts';
import { Feed } from './feed/feed.ts';
import type { Log } from './log.ts';
import type { Source } from './model/feed.ts';

/** Connections kept at a time over all subscribed pods. About 600 bytes each. */
const MAX_FLOWS = 200_000;

/** The capturing half, in a process of its own or inside a sidecar. */
export interface Captured {
  feed: Feed;
  capture: Capture;
  close(): Promise<void>;
}

/** Rejects with CaptureError where this machine or its rights do not allow it, and with UsageError. */
export async function startCapture(options: Options, log: Log): Promise<Captured> {
  const feed = new Feed(Date.now);
  const capture = createCapture(
    {
      sources: options.list('sources') as Source[],
      tap: options.text('tap') as CaptureOptions['tap'],
      tapGroup: options.number('tap-group'),
      snaplen: options.bytes('tap-snaplen'),
      requestIdHeader: options.text('request-id-header'),
      paths: !options.flag('no-paths'),
      receiveBufferBytes: options.bytes('receive-buffer'),
      maxFlows: MAX_FLOWS,
      kernelLog: options.text('kernel-log'),
      logRule: options.flag('log-rule'),
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
