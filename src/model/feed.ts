/**
 * The records of the feed, helper → sidecar: one JSON object a line (NDJSON), in the order of `seq`.
 *
 * All times are Unix epoch milliseconds, fractional. Addresses are canonical text: dotted IPv4, or IPv6 as in
 * RFC 5952 without brackets.
 */

import type { ContentHashes } from './content.ts';

/** The `seq` of records outside the sequence, such as a reader's first ones. It is not a cursor. */
export const NO_CURSOR = 0;

/** Where the helper learned a fact. */
export type Source = 'conntrack' | 'tap' | 'kernel-log' | 'trace';
export const SOURCES: readonly Source[] = ['conntrack', 'tap', 'kernel-log', 'trace'];

/** A request of one segment up to this (bytes) is one write of nginx's; the kernel may push a longer one in several. */
export const ONE_WRITE_BYTES = 8_192;

/** One nginx → backend connection, as both ends see it. */
export interface Flow {
  /** nginx's address and local port: the source of the original tuple. */
  src: string;
  sport: number;
  /** The upstream address that nginx connected to: the original tuple's destination. Absent where the source cannot know it. */
  vip?: string;
  vport?: number;
  /** The backend that answered: the source of the reply tuple. Equal to `vip`/`vport` where nothing was translated. */
  ip: string;
  port: number;
}

/**
 * A connection came into being at `t`. With `preexisting`, it existed before the helper looked and `t` is only an upper
 * bound (conntrack dump, or the list of open connections that a new reader gets first).
 */
export interface OpenRecord extends Flow {
  kind: 'open';
  seq: number;
  t: number;
  via: Source;
  preexisting?: true;
  /** `t` is the kernel's own time of the event, not that of its reading (CTA_TIMESTAMP_EVENT). */
  kernelTime?: true;
  /** A lower bound of the opening, where one later than the preceding tick is known. */
  openedAfter?: number;
}

/** The connection ended: FIN exchange complete, reset, or its conntrack entry deleted. */
export interface CloseRecord extends Flow {
  kind: 'close';
  seq: number;
  t: number;
  via: Source;
  /**
   * `fin`: both sides' FINs have passed (TIME_WAIT), so no exchange went on after it. `refused`: it was reset before
   * it was established. Absent: neither is known.
   */
  end?: 'fin' | 'refused';
  /** An upper bound of the end, where one earlier than `t` is known. */
  endedBefore?: number;
  /** Not an end: counts of the connection with this tuple that ended last. */
  update?: true;
  /** As an `unreadable` record: its requests could not be read, or their ids alone. */
  protocol?: UnreadableProtocol;
  idsRead?: true;
  /** What conntrack counted over the connection, to the backend and from it: packets, and their bytes with IP headers. */
  counts?: FlowCounts;
}

/** `nf_conntrack_acct`: CTA_COUNTERS_ORIG and CTA_COUNTERS_REPLY. */
export interface FlowCounts {
  sentPackets: number;
  sentBytes: number;
  receivedPackets: number;
  receivedBytes: number;
}

/**
 * The first packet of an HTTP request passed, on the connection `src:sport` → `ip:port`. With `midStream`, no more than a
 * packet that goes on with the body of the request before, sent after an answer had begun: another request's beginning
 * may stand in it.
 */
export interface RequestRecord extends Flow {
  kind: 'request';
  seq: number;
  t: number;
  via: Source;
  /** Value of the request-id header. Absent: the header was not in what was copied of the packet. */
  id?: string;
  /** The id is in the part of the head that only nginx writes, so it is not a client's. Absent: either is possible. */
  idBeforeHost?: true;
  /**
   * A body in chunks was sent on the connection before, and where that ended the packets that are copied do not tell: the
   * whole request, id and all, may be a piece of that body, written by a client.
   */
  afterChunks?: true;
  method?: string;
  /** Request target as on the wire. With `cut` it may be longer than what was copied. */
  path?: string;
  /** The copied bytes end before the blank line that ends the head, so an absent `id` proves nothing. */
  cut?: true;
  /** Hashes of its content, for readers that request them. Absent: not known, or written by a client in a body. */
  content?: ContentHashes;
  /** TCP payload length of the packet in bytes. */
  bytes?: number;
  /**
   * The packet holds the request from its first to its last byte: a complete head that announces no body, or, where only
   * TCP headers are seen, one segment short enough to be one write.
   */
  singleSegment?: true;
  midStream?: true;
  /**
   * Where only TCP headers are seen (`--tap headers`): payload bytes of the exchange so far, to the backend and from it.
   * `sent` is absent where its beginning was not seen.
   */
  sent?: number;
  received?: number;
  /** The connection was reset: nginx may have written more than `sent` and read less than `received`. */
  reset?: true;
  /** Not a request: new counts of the youngest one on the connection. */
  update?: true;
}

/** Why the requests of a connection cannot be read. */
export type UnreadableProtocol = 'http2' | 'tls' | 'other' | 'offloaded';

/**
 * The requests of this connection cannot be read, from its beginning or from `t` on: its first payload is no HTTP/1
 * request, or a flow table takes its packets past the tap (`offloaded`). Holds until the connection closes. With
 * `idsRead` it is HTTP/2 whose requests have `request` records, all of them with what an id needs, until a record without it:
 * their sizes and answers remain unknown.
 */
export interface UnreadableRecord extends Flow {
  kind: 'unreadable';
  seq: number;
  t: number;
  via: Source;
  protocol: UnreadableProtocol;
  idsRead?: true;
}

/**
 * An answer began to come back on this connection, at `t` at the latest; in the order of the wire among the tap's records.
 * Only while a reader of the address requests answers; then all of its readers get it. One request may bring more than
 * one, never none that was answered.
 */
export interface ResponseRecord extends Flow {
  kind: 'response';
  seq: number;
  t: number;
  via: Source;
  /** `t` is when the packet came in, by the kernel (NFULA_TIMESTAMP), not that of its reading. */
  kernelTime?: true;
}

/**
 * A connection of a client to nginx came into being, at `t` at the latest, or ended (`end`). Only for readers that request
 * clients; which connections are reported, a `clients` record says.
 */
export interface ClientRecord extends ClientConnection {
  kind: 'client';
  seq: number;
  t: number;
  via: 'conntrack';
  /** As in `OpenRecord`. */
  preexisting?: true;
  kernelTime?: true;
  /** `fin`: both sides' FINs have passed. `gone`: its conntrack entry was deleted, as after a reset. Absent: it opened. */
  end?: 'fin' | 'gone';
}

/** A connection to nginx, as nginx sees it and as the client sent it. */
export interface ClientConnection {
  /** nginx's own address and port: the source of the reply tuple. */
  dst: string;
  dport: number;
  /** What nginx knows as `$remote_addr` and `$remote_port`: the destination of the reply tuple. */
  peer: string;
  peerPort: number;
  /** Who connected: the source of the original tuple. Equal to `peer` where the node did not translate it (SNAT). */
  client: string;
  clientPort: number;
}

/**
 * Which connections to nginx's address `dst` have `client` records. With `complete`: every one from `t` on, and the records
 * of those open at `t` follow; what a reader had of earlier ones is void. With `complete: false`: only those that the node
 * translates, until a later record says otherwise.
 */
export interface ClientsRecord {
  kind: 'clients';
  seq: number;
  t: number;
  dst: string;
  /** Absent: as before. */
  complete?: boolean;
  /** Addresses of other nodes. A connection that another node translated comes from one of these. */
  nodes: string[];
}

/**
 * nginx wrote a line to a log at `t`, of a request that used upstreams from address `src`. What it used, nginx's own memory says
 * (bpf/trace.bpf.c).
 */
export interface LineRecord {
  kind: 'line';
  seq: number;
  t: number;
  src: string;
  via: 'trace';
  /** Inode of the file, decimal. */
  ino: string;
  /** Where the line was about to be written, by the file's size (bytes): it begins there, or where another worker was faster, behind. */
  offset: number;
  /** Bytes of the line with its newline, and the CRC-32 of the first `CHECKED_BYTES` of them. */
  length: number;
  check: number;
  /** Entries of nginx's list of upstream states: those of `$upstream_addr`, and one for each internal redirect between them. */
  states: number;
  /** Those that a request was written to. Absent: it is not clear. */
  attempts?: readonly TracedAttempt[];
}

/**
 * One entry that a request was written to: its place in the list, nginx's port, the address that nginx dialed, and when the
 * first byte was about to be written (ms since the epoch).
 */
export type TracedAttempt = readonly [
  state: number,
  sport: number,
  vip: string,
  vport: number,
  writtenAt: number,
];

/**
 * An nginx in a network namespace with address `src` is left alone by the trace: its lines have no `line` records. Said again from
 * time to time, for readers that have come since.
 */
export interface UntracedRecord {
  kind: 'untraced';
  seq: number;
  t: number;
  src: string;
  via: 'trace';
  /** For people. */
  why: string;
}

/** The bytes of a line that `LineRecord.check` is of. */
export const CHECKED_BYTES = 1_024;

/** Every event up to `t` has been sent. The event of a record lies between the preceding tick and the record's `t`. */
export interface TickRecord {
  kind: 'tick';
  seq: number;
  t: number;
}

/**
 * What `source` saw between `from` and `t` is not complete. Without `from`: since ever (a source's beginning).
 * `lost`: number of events, where known.
 */
export interface GapRecord {
  kind: 'gap';
  seq: number;
  t: number;
  source: Source;
  from?: number;
  lost?: number;
}

/** The name of `ip` from `t` on. Empty strings: the address has no name any more. */
export interface NameRecord {
  kind: 'name';
  seq: number;
  t: number;
  ip: string;
  pod: string;
  namespace: string;
  node: string;
  service: string;
}

/** Whether on the helper's own node, or on another. */
export type Place = 'here' | 'elsewhere';

/** A port of an endpoint, and the Service port that leads there. Without `vip`: no address leads there (a headless Service). */
export interface EndpointPort {
  port: number;
  vip?: string;
  vport?: number;
  /** The Service has endpoints on the helper's own node, and on others; both where that is not known. */
  here?: true;
  elsewhere?: true;
}

/**
 * From `t` on, the ports of `ip` that are endpoints of Services, by EndpointSlices, and of which; all of them. Endpoints that
 * are not ready, or terminating, count. Absent: not known.
 */
export interface EndpointRecord {
  kind: 'endpoint';
  seq: number;
  t: number;
  ip: string;
  of?: readonly EndpointPort[];
  /** Absent: not known. */
  place?: Place;
  /** The port of this address on which the helper itself serves the feed: connections to it are a sidecar's, not nginx's. */
  helper?: number;
}

export type FeedRecord =
  | OpenRecord
  | CloseRecord
  | RequestRecord
  | ResponseRecord
  | UnreadableRecord
  | ClientRecord
  | ClientsRecord
  | LineRecord
  | UntracedRecord
  | TickRecord
  | GapRecord
  | NameRecord
  | EndpointRecord;

type WithoutSeq<R> = R extends FeedRecord ? Omit<R, 'seq'> : never;

/** A record that has no `seq` yet. */
export type Observation = WithoutSeq<FeedRecord>;
