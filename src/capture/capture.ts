import type { Flow, Observation, Source } from '../model/feed.ts';

/** What a new reader gets of the connections that are open. */
export type SnapshotObservation = Extract<Observation, { kind: 'open' | 'unreadable' }>;

export interface CaptureOptions {
  sources: readonly Source[];
  /** What the tap copies: the first packet of each request, or TCP headers and nothing else. */
  tap: 'request' | 'headers';
  /** NFLOG group of the tap. */
  tapGroup: number;
  /** Where another helper has the table and the group, take the second ones: the other one is about to end. */
  besideAnother: boolean;
  /** `request`: how much of a request's first packet is copied, in bytes from the IP header on. */
  snaplen: number;
  /** Name of the header that carries the request id; case does not matter. */
  requestIdHeader: string;
  /** Whether request records carry the target. */
  paths: boolean;
  /** Receive buffer of each netlink socket in bytes. */
  receiveBufferBytes: number;
  /** Most connections kept at a time, over all subscribed addresses. Beyond it: `gap`s, and no new connection is kept. */
  maxFlows: number;
  /** Where `kernel-log` is read: `/dev/kmsg` or a file that a syslog daemon writes. */
  kernelLog: string;
  /** Let the kernel log each connection of subscribed addresses, so that `kernel-log` needs no rules of others. */
  logRule: boolean;
  /** One line for people. WARN: nothing was lost; ERROR: something was. */
  log(level: 'info' | 'warn' | 'error', message: string): void;
}

export const CAPTURE_DEFAULTS = {
  sources: ['conntrack', 'tap'] as readonly Source[],
  tap: 'request' as 'request' | 'headers',
  tapGroup: 9797,
  besideAnother: false,
  snaplen: 1024,
  requestIdHeader: 'X-Request-ID',
  paths: true,
  receiveBufferBytes: 16 * 1024 * 1024,
  maxFlows: 200_000,
  kernelLog: '/dev/kmsg',
  logRule: false,
};

export interface CaptureSink {
  /**
   * Called in order, never from inside one of Capture's methods' synchronous part. Everything that happened up to
   * `watermark` (ms since the epoch, never falling except where the clock was set back, which a `gap` announces)
   * has been delivered by this or an earlier call. `t` of an observation is never before the event and may be a few
   * ms after `watermark`. Over a time in which a source was not complete a `gap` comes before the watermark.
   * `observations` may be empty, and is the receiver's to keep.
   */
  batch(observations: Observation[], watermark: number): void;
}

export interface Subscription {
  /**
   * The connections of these addresses that are open at the instant the promise resolves, in the order of their
   * opening; also those that a batch has brought since the call. No batch is delivered between the resolving and the
   * awaiting code's first step.
   */
  flows: SnapshotObservation[];
  /** Since when each source in use is complete for all of these addresses, ms since the epoch. */
  completeSince: Partial<Record<Source, number>>;
}

/** A connection as `lookup` knows it. `from` is an upper bound if `preexisting`. `ended`: over, but conntrack still lists it. */
export interface KnownFlow extends Flow {
  from: number;
  preexisting: boolean;
  ended: boolean;
}

/** Counters since the start, and gauges of the moment. */
export interface CaptureStats {
  /** conntrack events read; of those, about subscribed addresses. */
  conntrackEvents: number;
  conntrackRelevant: number;
  /** conntrack messages that could not be understood. */
  conntrackMalformed: number;
  /** Times the kernel had to drop conntrack events (ENOBUFS), and dumps made. */
  conntrackOverruns: number;
  conntrackDumps: number;
  /**
   * Packets read from the tap; of those: requests; the middle of one, after an answer to it had begun; the same request
   * again or the middle of one; not HTTP/1.
   */
  tapPackets: number;
  tapRequests: number;
  tapAnswers: number;
  tapWithin: number;
  tapRepeated: number;
  tapNotHttp: number;
  /** Connections whose requests cannot be read. */
  unreadable: number;
  tapMalformed: number;
  /** Requests whose id header was not in what was copied. */
  tapWithoutId: number;
  /** Packets that the kernel could not hand over, exact, and how often (ENOBUFS). */
  tapLost: number;
  tapOverruns: number;
  /** Times the table had to be put up anew. */
  tableRestarts: number;
  /** Gauge: flow tables with a device on the node; -1 where the kernel does not tell. */
  flowTables: number;
  /** Gap records by either source. */
  gaps: number;
  clockSteps: number;
  /** Gauges: connections kept, addresses subscribed, connections turned away as the table of flows was full. */
  flows: number;
  addresses: number;
  flowsRefused: number;
  /** Whether the kernel counts packets and bytes (`nf_conntrack_acct`); connections whose counts were delivered, and those whose were not. */
  accounting: boolean;
  counted: number;
  uncounted: number;
  /** Rounds of reading. */
  cycles: number;
}

/** Counters since the start. Every message lands in one of the first five; every record of a subscriber in one of the next. */
export interface KernelLogStats {
  messages: number;
  /** Lines of a syslog file that are another program's. */
  notKernel: number;
  /** Lines of a syslog file whose layout is not known. */
  unknownLayout: number;
  notRecords: number;
  notTcp: number;
  notOpening: number;
  cut: number;
  records: number;
  /** Delivered as connections. */
  opened: number;
  /** Logged by another rule, too. */
  repeated: number;
  /** Logged before DNAT. */
  beforeDnat: number;
  /** Delivered without the VIP. */
  withoutVip: number;
  /** Dropped as there were too many at once. */
  dropped: number;
  /** Messages that were overwritten before they were read, as far as known. */
  lost: number;
  gaps: number;
}

export interface Capture {
  /** Opens the sockets and creates the nftables table. Rejects with a `CaptureError`: one line that says what to do. */
  start(): Promise<void>;
  /**
   * Starts watching these addresses (canonical text; more than one reader of an address is the caller's to count).
   * Resolves when the kernel has applied it and the connections open now are known. Already watched ones cost nothing.
   * `answers`: from then on the beginnings of answers are reported, too, until the address is unsubscribed.
   */
  subscribe(addresses: readonly string[], answers?: boolean): Promise<Subscription>;
  unsubscribe(addresses: readonly string[]): void;
  /** Whether openings are to have times as exact as can be, at some cost (`OpenRecord.from`). */
  readPromptly(prompt: boolean): void;
  /** Reads what the kernel holds now, delivers it, and a watermark not before the time of this call. */
  flush(): Promise<void>;
  /** Connections from `src:sport` that conntrack lists now; asks the kernel for what is not known here. */
  lookup(src: string, sport: number): Promise<KnownFlow[]>;
  /** Removes the table and closes the sockets. Delivers nothing more. */
  close(): Promise<void>;
  readonly stats: CaptureStats;
  /** Where the kernel log is read. */
  readonly kernelLog?: KernelLogStats;
}
