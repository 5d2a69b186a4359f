import type { Compared, RequestContent } from '../../model/content.ts';
import type { Flow, OpenRecord, RequestRecord, ResponseRecord, UnreadableRecord } from '../../model/feed.ts';
import type { Resolved } from '../../model/outcome.ts';
import { PortTrust, Trust } from '../trust.ts';
import { Answers } from './answers.ts';
import type { FifoEntry } from './fifo-list.ts';

/** The objects of the index: connections, the requests on them, and their Services. In one file, as each refers to the others. */

/** One backend address. Interned by the index, so that equal backends are the same object. */
export interface Backend {
  readonly ip: string;
  readonly port: number;
}

/**
 * A connection's times are bounds, not instants: an event read at `t` happened after the preceding watermark.
 * It was opened somewhere in [openFrom, openTo] and closed by closeTo, which is Infinity while it is open.
 */
export interface Connection extends FifoEntry<Connection> {
  readonly src: string;
  readonly sport: number;
  readonly service: Service;
  readonly backend: Backend;
  readonly via: string;
  openFrom: number;
  openTo: number;
  /** `openTo` is the kernel's own time of its opening, and no bound. */
  openedExactly: boolean;
  closeTo: number;
  /** It had certainly ended by this time, as another connection had its tuple; Infinity if not known. */
  overBy: number;
  /** The youngest request on it. HTTP/1.x has one request at a time, so this one may still be in progress. */
  latest: TappedRequest | undefined;
  /** A request that may have begun unseen, within packets of the previous one. */
  midStream: TappedRequest | undefined;
  /** Its tuple as in outcomes, once there was one. */
  flow: Flow | undefined;
  /** The outcome of the last attempt that it was named for: those of the next ones are mostly equal, and the same objects then. */
  named: readonly [Resolved] | undefined;
}

/** From its first record: opened after `openFrom` (ms since the epoch; -Infinity if not known), and by the record's time. */
export function newConnection(
  record: OpenRecord | RequestRecord | ResponseRecord | UnreadableRecord,
  service: Service,
  backend: Backend,
  openFrom: number,
): Connection {
  const { src, sport, via, t } = record;
  return {
    src,
    sport,
    service,
    backend,
    via,
    openFrom: Math.min(openFrom, t),
    openTo: t,
    openedExactly: record.kind === 'open' && record.kernelTime === true,
    closeTo: Infinity,
    overBy: Infinity,
    latest: undefined,
    midStream: undefined,
    flow: undefined,
    named: undefined,
    list: undefined,
    before: undefined,
    after: undefined,
  };
}

/**
 * How long after its recorded close a connection may still serve (ms). conntrack's state is TIME_WAIT also when the backend
 * sends its FIN twice, while nginx, slowed by its client, has not read all of the answer (seen: seconds).
 */
export const LINGER_MS = 60_000;

/** Longer targets are not kept (characters). */
const MAX_TARGET = 256;

/** Until when the connection may have served a request, ms since the epoch. */
export function servedUntil(connection: Connection): number {
  return Math.min(connection.closeTo + LINGER_MS, connection.overBy);
}

/** No answer to its last request began, or it opened within the record and carried none. */
export function endsUnanswered({ latest, openFrom }: Connection): boolean {
  return latest ? !latest.answered : openFrom !== -Infinity;
}

/** Sets every time that has passed to "before `t`". */
export function clampTimesTo(connection: Connection, t: number): void {
  connection.openFrom = -Infinity;
  connection.openTo = t;
  connection.openedExactly = false;
  if (connection.closeTo !== Infinity) connection.closeTo = t;
  if (connection.overBy !== Infinity) connection.overBy = t;
}

/** A request seen on the wire, at an instant in [from, to]. */
export interface TappedRequest extends FifoEntry<TappedRequest> {
  readonly connection: Connection;
  from: number;
  to: number;
  readonly id: string | undefined;
  /** The id is certainly nginx's, not a client's header. */
  readonly idBeforeHost: boolean;
  /** Method and target as on the wire; undefined where not kept (`keepsTarget`). */
  readonly method: string | undefined;
  readonly target: string | undefined;
  /** The whole request, with its id, may be part of a body. */
  readonly afterChunks: boolean;
  /** Payload of its first packet in bytes; with `singleSegment`, of the whole request. */
  readonly bytes: number | undefined;
  singleSegment: boolean;
  /** Bytes of the exchange so far, from TCP headers (`RequestRecord`); undefined where those were not counted. */
  sent: number | undefined;
  received: number | undefined;
  reset: boolean;
  /** No request came before it on its connection. */
  readonly first: boolean;
  /** Next older request with the same id. */
  older: TappedRequest | undefined;
  /** Number of requests with this id up to this one; 0 if it is beyond the limit for one id. */
  repeats: number;
  /** Hash of the id, in the table of ids. */
  idHash: number;
  /** When the next request on the connection began, so this exchange was over; certain only if `singleSegment`. */
  endedBy: number;
  /** The connection has a newer request or is closed: it is kept for its line only. */
  ended: boolean;
  /** Undefined: not known. */
  readonly content: RequestContent | undefined;
  /** An answer to it has begun to come back. */
  answered: boolean;
  /** A line has been resolved by it. */
  matched: boolean;
  forgotten: boolean;
}

/** Seen on the connection after `watermark` (ms since the epoch), and by the record's time. */
export function newTappedRequest(
  connection: Connection,
  record: RequestRecord,
  watermark: number,
): TappedRequest {
  const keeps = keepsTarget(connection, record);
  return {
    connection,
    from: Math.min(watermark, record.t),
    to: record.t,
    id: record.id,
    idBeforeHost: record.idBeforeHost === true,
    method: keeps ? record.method : undefined,
    target: keeps ? record.path : undefined,
    afterChunks: record.afterChunks === true,
    bytes: record.bytes,
    singleSegment: record.singleSegment === true,
    sent: record.sent,
    received: record.received,
    reset: record.reset === true,
    first: connection.latest === undefined && record.sent !== undefined,
    older: undefined,
    repeats: 0,
    idHash: 0,
    endedBy: Infinity,
    ended: false,
    content: contentOf(record),
    answered: false,
    matched: false,
    forgotten: false,
    list: undefined,
    before: undefined,
    after: undefined,
  };
}

/** Where some requests have ids of clients, the target tells whether one with nginx's id is the line's own. */
function keepsTarget({ service }: Connection, { idBeforeHost, path }: RequestRecord): boolean {
  return service.idsBehindHost && idBeforeHost === true && path !== undefined && path.length <= MAX_TARGET;
}

function contentOf({ content, afterChunks }: RequestRecord): RequestContent | undefined {
  if (!content || afterChunks) return undefined;
  const [target, userAgent, referer] = content;
  return { target, userAgent, referer };
}

/** A ClusterIP:port (or any other upstream address) with its connections and requests. */
export interface Service {
  readonly vip: string | undefined;
  readonly vport: number | undefined;
  /** Itself and the one of the connections whose Service is not known: their requests may be its, too. */
  readonly withUnknown: readonly Service[];
  /** Backends with the number of remembered connections. */
  readonly backends: Map<Backend, number>;
  readonly open: Set<Connection>;
  /** In order of closing; `closedHead` is the first that is still remembered. */
  closed: Connection[];
  closedHead: number;
  /** In order of arrival; skip those with `forgotten`. */
  requests: TappedRequest[];
  forgottenRequests: number;
  /** The requests without a readable id, likewise. */
  requestsWithoutId: TappedRequest[];
  /** The requests beyond the limit for one id, likewise. */
  readonly requestsWithRepeatedId: Map<string, TappedRequest[]>;
  /** A request with an id that is certainly nginx's was seen, so others may carry a client's. */
  idsBeforeHost: boolean;
  /** A request with an id that a client may have written was seen. */
  idsBehindHost: boolean;
  /** When the last request without an id header was seen: its location would forward a client's. */
  lastWithoutIdAt: number;
  /** Whether recent lines had a counterpart in a record that is complete. */
  readonly trust: Trust;
  /** Whether the port in its lines is that of its connections. */
  readonly ports: PortTrust;
  /** The answers that no line is known to have had. */
  readonly answers: Answers<Connection>;
  /** Its connections whose requests cannot be read, in the order of the records. */
  readonly unreadable: Set<Connection>;
  /** Unreadable connections that served their last request before this time may be forgotten, ms since the epoch. */
  unreadableKnownSince: number;
  /** Those of them whose requests cannot be read for their ids either, and the like time. */
  readonly hidingIds: Set<Connection>;
  hidingIdsKnownSince: number;
  /** A request with an id was seen, so the request of a line whose id was not seen is missing from the record. */
  carriesIds: boolean;
  /** Remembered connections on which no request was seen. */
  readonly connectionsWithoutRequest: Set<Connection>;
  /** Two connections to different backends that made an earlier attempt ambiguous: likely to do so for the next one too. */
  apart: readonly [Connection, Connection] | undefined;
  /** The backend of all forgotten connections; null if they had several, undefined if there are none. */
  forgottenBackend: Backend | null | undefined;
  /** Connections, and requests, that were over by these times may be forgotten (ms since the epoch). */
  connectionsKnownSince: number;
  /** Connections that were closed by this time may be forgotten (ms since the epoch). */
  openKnownSince: number;
  /** The same for connections that carried no request. */
  withoutRequestKnownSince: number;
  requestsKnownSince: number;
}

/** The connection is no longer remembered as unreadable, if it was. */
export function forgetUnreadable(service: Service, connection: Connection): void {
  const until = servedUntil(connection);
  if (service.unreadable.delete(connection))
    service.unreadableKnownSince = Math.max(service.unreadableKnownSince, until);
  if (service.hidingIds.delete(connection))
    service.hidingIdsKnownSince = Math.max(service.hidingIdsKnownSince, until);
}

/** Those that served their last request by `t` are no longer remembered as unreadable. */
export function forgetUnreadableBefore(service: Service, t: number): void {
  for (const connections of [service.unreadable, service.hidingIds])
    for (const oldest of connections) {
      if (servedUntil(oldest) > t) break;
      forgetUnreadable(service, oldest);
    }
}

/**
 * `unknown`: the one of the connections whose Service is not known; undefined to make that one.
 * `answersKnownSince`: answers through it before that time may have been forgotten, ms since the epoch. `compared`: what of
 * a request is compared with its line.
 */
export function newService(
  vip: string | undefined,
  vport: number | undefined,
  unknown?: Service,
  answersKnownSince = -Infinity,
  compared?: Compared,
): Service {
  const withUnknown: Service[] = [];
  const service: Service = {
    vip,
    vport,
    withUnknown,
    backends: new Map(),
    open: new Set(),
    closed: [],
    closedHead: 0,
    requests: [],
    forgottenRequests: 0,
    requestsWithoutId: [],
    requestsWithRepeatedId: new Map(),
    idsBeforeHost: false,
    idsBehindHost: false,
    lastWithoutIdAt: -Infinity,
    trust: Trust.given(),
    ports: new PortTrust(),
    answers: new Answers(answersKnownSince, compared),
    unreadable: new Set(),
    unreadableKnownSince: -Infinity,
    hidingIds: new Set(),
    hidingIdsKnownSince: -Infinity,
    carriesIds: false,
    connectionsWithoutRequest: new Set(),
    apart: undefined,
    forgottenBackend: undefined,
    connectionsKnownSince: -Infinity,
    openKnownSince: -Infinity,
    withoutRequestKnownSince: -Infinity,
    requestsKnownSince: -Infinity,
  };
  withUnknown.push(...(unknown ? [service, unknown] : [service]));
  return service;
}
