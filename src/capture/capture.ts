import type { Flow, Observation, Source } from '../model/feed.ts';

/** The records of the open connections, for a new reader. */
export type SnapshotObservation = Extract<Observation, { kind: 'open' | 'unreadable' }>;

/** The records of the connections of clients, for a new reader. */
export type ClientObservation = Extract<Observation, { kind: 'client' | 'clients' }>;

/** What is captured of an address beside its connections and requests, until it is unsubscribed. */
export interface Wishes {
  /** The beginnings of answers. */
  readonly answers?: boolean;
  /** The connections of clients to the address. */
  readonly clients?: boolean;
  /** Hashes of the content of requests. */
  readonly content?: boolean;
}

export type TapSource = 'nflog' | 'packet' | 'auto';

export interface CaptureOptions {
  sources: readonly Source[];
  /** The tap copies the first packet of each request, or TCP headers and nothing else. */
  tap: 'request' | 'headers';
  /**
   * Where the tap gets packets: from rules of nftables' (NFLOG), or from a packet socket. `auto`: a packet socket where the
   * kernel cannot run the rules.
   */
  tapSource: TapSource;
  /** NFLOG group of the tap. */
  tapGroup: number;
  /** If another helper, which is about to end, has the table and the group, use the second ones. */
  besideAnother: boolean;
  /** `request`: copied bytes of a request's first packet, from the IP header on. */
  snaplen: number;
  /** Name of the header that carries the request id; case does not matter. */
  requestIdHeader: string;
  /** Whether request records carry the target. */
  paths: boolean;
  /** Receive buffer of each netlink socket in bytes. */
  receiveBufferBytes: number;
  /** Limit of connections kept at a time, over all subscribed addresses. At the limit: `gap`s, and no new one is kept. */
  maxFlows: number;
  /** The file of `kernel-log`: `/dev/kmsg` or a file that a syslog daemon writes. */
  kernelLog: string;
  /** Makes the kernel log each connection of subscribed addresses, so that `kernel-log` needs no other rules. */
  logRule: boolean;
  /** One line for people. WARN: nothing was lost; ERROR: something was. */
  log(level: 'info' | 'warn' | 'error', message: string): void;
}

export const CAPTURE_DEFAULTS = {
  sources: ['conntrack', 'tap'] as readonly Source[],
  tap: 'request' as 'request' | 'headers',
  tapSource: 'nflog' as TapSource,
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
   * `watermark` (ms since the epoch; it decreases only if the clock was set back, which a `gap` announces) has been
   * delivered by this or an earlier call. `t` of an observation is never before the event and may be a few ms after
   * `watermark`. If a source was incomplete for some time, a `gap` over that time comes before the watermark.
   * `observations` may be empty; the receiver may keep it. `followed`: another call comes within a batch in any case.
   */
  batch(observations: Observation[], watermark: number, followed?: boolean): void;
}

export interface Subscription {
  /**
   * The connections of these addresses that are open when the promise resolves, in the order of their opening, including
   * those of batches since the call. No batch is delivered before the awaiting code continues.
   */
  flows: SnapshotObservation[];
  /** If requested and conntrack is in use: for each address a `clients` record and the connections that are open, as `flows`. */
  clients?: ClientObservation[];
  /** Since when each source in use is complete for all of these addresses, ms since the epoch. */
  completeSince: Partial<Record<Source, number>>;
}

/** A result of `lookup`. `from` is an upper bound if `preexisting`. `ended`: over, but conntrack still lists it. */
export interface KnownFlow extends Flow {
  from: number;
  preexisting: boolean;
  ended: boolean;
}

/** Counters since the start, and gauges. */
export interface CaptureStats {
  /** conntrack events read; of those, about subscribed addresses. */
  conntrackEvents: number;
  conntrackRelevant: number;
  /** Malformed conntrack messages. */
  conntrackMalformed: number;
  /** Losses of conntrack events in the kernel (ENOBUFS), and dumps. */
  conntrackOverruns: number;
  conntrackDumps: number;
  /**
   * Packets read from the tap; of those: requests; parts of one after the beginning of its answer; retransmissions and
   * other parts of one; not HTTP/1.
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
  /** Requests without the id header in the copied bytes. */
  tapWithoutId: number;
  /** Packets that the kernel could not deliver (exact), and losses reported by ENOBUFS. */
  tapLost: number;
  tapOverruns: number;
  /** Times that the table was created again after it was removed. */
  tableRestarts: number;
  /** Gauge: flow tables with a device on the node; -1 if the kernel gave no usable answer. */
  flowTables: number;
  /** Gap records, by source. */
  gaps: number;
  clockSteps: number;
  /** Gauges: connections kept, addresses subscribed, connections not kept because the flow table was full. */
  flows: number;
  /** Gauge: connections of clients kept. */
  clients: number;
  addresses: number;
  flowsRefused: number;
  /** Gauge: connections that are not known yet, of which the order of segments is kept; segments of more than can be. */
  unlisted: number;
  unlistedRefused: number;
  /** Whether the kernel counts packets and bytes (`nf_conntrack_acct`); connections with and without delivered counts. */
  accounting: boolean;
  counted: number;
  uncounted: number;
  /** Rounds of reading. */
  cycles: number;
}

export function newCaptureStats(): CaptureStats {
  return {
    conntrackEvents: 0,
    conntrackRelevant: 0,
    conntrackMalformed: 0,
    conntrackOverruns: 0,
    conntrackDumps: 0,
    tapPackets: 0,
    tapRequests: 0,
    tapWithin: 0,
    tapRepeated: 0,
    tapNotHttp: 0,
    unreadable: 0,
    tapMalformed: 0,
    tapWithoutId: 0,
    tapLost: 0,
    tapOverruns: 0,
    tapAnswers: 0,
    tableRestarts: 0,
    flowTables: 0,
    gaps: 0,
    clockSteps: 0,
    flows: 0,
    clients: 0,
    addresses: 0,
    flowsRefused: 0,
    unlisted: 0,
    unlistedRefused: 0,
    accounting: false,
    counted: 0,
    uncounted: 0,
    cycles: 0,
  };
}

/** Counters since the start. One of the first five counts each message; one of the next each record of a subscriber. */
export interface KernelLogStats {
  messages: number;
  /** Lines of other programs in a syslog file. */
  notKernel: number;
  /** Lines of a syslog file with an unknown layout. */
  unknownLayout: number;
  notRecords: number;
  notTcp: number;
  notOpening: number;
  cut: number;
  records: number;
  /** Delivered as connections. */
  opened: number;
  /** Repeated by another rule. */
  repeated: number;
  /** Logged before DNAT. */
  beforeDnat: number;
  /** Delivered without the VIP. */
  withoutVip: number;
  /** Dropped at the limit of records at a time. */
  dropped: number;
  /** Messages that the kernel overwrote before they were read, as far as known. */
  lost: number;
  gaps: number;
}

/** Counters since the start, and a gauge. */
export interface TraceStats {
  /** Lines of subscribed pods that nginx wrote. */
  lines: number;
  /** Words of the loader that were not understood. */
  malformed: number;
  /** Lines that did not fit into the ring. */
  lost: number;
  /** Attempts that contradicted an earlier one. */
  contradicted: number;
  /** Readings of nginx's memory that did not look as expected. */
  unexpected: number;
  /** Gauge: executables of nginx that are watched. */
  binaries: number;
  restarts: number;
}

export interface Capture {
  /** Opens the sockets and creates the nftables table. Rejects with a `CaptureError`: one line with what to do next. */
  start(): Promise<void>;
  /**
   * Subscribes these addresses (canonical text; the caller counts the readers of an address). Resolves when the kernel has
   * applied it and the open connections are known. Subscribed ones cost nothing.
   */
  subscribe(addresses: readonly string[], wishes?: Wishes): Promise<Subscription>;
  unsubscribe(addresses: readonly string[]): void;
  /** Whether openings get the most exact times possible, at some cost (`OpenRecord.from`). */
  readPromptly(prompt: boolean): void;
  /** Records may be delivered up to `ms` late, with coarser times, where every request has an id. Initially 0. */
  gather(ms: number): void;
  /** Reads everything that the kernel holds, and delivers it with a watermark not before the time of this call. */
  flush(): Promise<void>;
  /** Connections from `src:sport` that conntrack lists now; requests those that are not kept from the kernel. */
  lookup(src: string, sport: number): Promise<KnownFlow[]>;
  /**
   * The addresses that another helper of this node, which is about to end, has subscribed; empty where there is none.
   * `answered`: those of them whose answers are reported, too.
   */
  addressesBeside(): Promise<{ addresses: string[]; answered: string[] }>;
  /** Removes the table and closes the sockets. Delivers nothing more. */
  close(): Promise<void>;
  readonly stats: CaptureStats;
  /** The file of the kernel log. */
  readonly kernelLog?: KernelLogStats | undefined;
  /** Of the source `trace`. */
  readonly trace?: TraceStats;
}
