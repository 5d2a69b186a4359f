export interface FeedLimits {
  /** Bytes of records kept for readers that reconnect, packed: a request has some 80. */
  ringBytes: number;
  /** How long addresses stay subscribed after their last reader disconnects, so that it can resume without a gap (ms). */
  lingerMs: number;
  /** Interval of watermarks for a reader without records (ms). */
  quietTickMs: number;
  /** How long a reader may let records be gathered (ms). */
  batchMs: number;
  readers: number;
  /** Readers of one address: a pod's sidecars, and those whose connections are about to end. */
  readersPerAddress: number;
  /** Addresses whose names one reader gets. */
  namesPerReader: number;
}

export const FEED_LIMITS: FeedLimits = {
  ringBytes: 12 * 1024 * 1024,
  lingerMs: 30_000,
  quietTickMs: 1_000,
  batchMs: 1_000,
  readers: 500,
  readersPerAddress: 16,
  namesPerReader: 20_000,
};
