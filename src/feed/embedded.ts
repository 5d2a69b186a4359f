import type { Feed, Reader } from './feed.ts';
import { FrameDecoder } from './frames.ts';
import type { FeedHandlers, FeedSource, ReaderStats } from './source.ts';

export interface EmbeddedOptions extends FeedHandlers {
  feed: Feed;
  addresses: readonly string[];
  prompt?: boolean;
  answers?: boolean;
  clients?: boolean;
  content?: boolean;
  batchMs?: number;
  clock: () => number;
}

/** Reads a feed in the same process: the same bytes as over HTTP, without a socket. */
export async function readEmbeddedFeed(options: EmbeddedOptions): Promise<FeedSource> {
  const { feed, clock } = options;
  let { addresses } = options;
  const stats: ReaderStats = { connected: true, connects: 1, failures: 0, records: 0, bytes: 0, lastAt: 0 };
  const open = async (): Promise<Reader | undefined> => {
    const asked = addresses;
    const decoder = new FrameDecoder();
    const write = (some: string | Buffer): void => {
      // Its watermarks would count for addresses that it does not read.
      if (addresses !== asked) return;
      const chunk = Buffer.from(some as Buffer);
      stats.bytes += chunk.length;
      stats.lastAt = clock();
      const { records, error } = decoder.push(chunk);
      stats.records += records.length;
      if (records.length > 0) options.onRecords(records);
      if (error !== undefined) options.onNotice('warn', `the feed is damaged: ${error}`);
    };
    const opened = await feed.open(asked, undefined, write, { ...options, compact: true });
    const got = 'reader' in opened ? opened.reader : undefined;
    if (addresses === asked) return got;
    got?.close();
    return reader;
  };
  let reader = await open();
  let stopped = false;
  let ticking = false;
  return {
    stats,
    // This feed ends with this process: a later one cannot resume it.
    returning: false,
    resumePoint: undefined,
    get addresses() {
      return addresses;
    },
    subscribe(all) {
      addresses = all;
      reader?.close();
      void open().then(
        (opened) => {
          reader = opened;
          if (stopped) reader?.close();
        },
        (error: Error) => options.onNotice('warn', `${error.message}; no records until the next start`),
      );
    },
    requestTick() {
      if (ticking) return;
      ticking = true;
      void feed.flush(addresses).finally(() => {
        ticking = false;
      });
    },
    stop() {
      stopped = true;
      stats.connected = false;
      reader?.close();
    },
  };
}
