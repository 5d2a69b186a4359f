import type { FeedRecord } from '../model/feed.ts';
import type { ResumePoint } from '../model/resume-point.ts';

export interface ReaderStats {
  connected: boolean;
  /** Feeds that began. */
  connects: number;
  /** Connections that failed, and feeds that broke off. */
  failures: number;
  records: number;
  bytes: number;
  /** When the last bytes came, ms since the epoch; 0: never. */
  lastAt: number;
}

/** A feed as the sidecar reads it: over HTTP (`client.ts`) or in the same process (`embedded.ts`). */
export interface FeedSource {
  /** The addresses whose records are read. */
  readonly addresses: readonly string[];
  /** Reads the records of all of these from now on. The feed restarts, with a gap. */
  subscribe(addresses: readonly string[]): void;
  /** Requests a watermark of this moment or later. Cheap to call often: there is one request at a time. */
  requestTick(): void;
  stop(): void;
  /** Whether the feed was lost a moment ago and is expected back, so that lines may wait for it. */
  readonly returning: boolean;
  /** Where a later process may begin to read, while that is known. */
  readonly resumePoint: ResumePoint | undefined;
  readonly stats: Readonly<ReaderStats>;
}

export interface FeedHandlers {
  /** Records in the order of the feed; never empty. */
  onRecords(records: FeedRecord[]): void;
  /** The state changed; one line for people. */
  onNotice(level: 'info' | 'warn', text: string): void;
}
