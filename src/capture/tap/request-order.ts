/** Classifies a segment by the earlier segments of its connection. HTTP has one request after the other. */
import type { UnreadableProtocol } from '../../model/feed.ts';
import { beginFollowing, type Followed, follow, type Placed, type ShownRequest } from './http2/frames.ts';
import type { PendingSegment } from './request-tap.ts';

/** The state of a connection after the segments read so far. */
export interface RequestOrder {
  /** TCP acknowledgement number of its last request; undefined before the first. */
  lastAck: number | undefined;
  /** TCP sequence number of that request's first byte. */
  lastSeq: number | undefined;
  /** TCP sequence number of its last request's first byte, and its bytes with the body; undefined if not known. */
  last: { start: number; length: number } | undefined;
  /** The connection may have another protocol by now. */
  upgraded: boolean;
  /** A chunked body was sent on it: a segment that begins like a request may be a part of that body. */
  chunked: boolean;
  /** Its requests cannot be read: its first payload was no HTTP/1 request. */
  unreadable: UnreadableProtocol | undefined;
  /** It is HTTP/2, and every frame since its first packet was followed. */
  followed: Followed | undefined;
  /** It was opened before the record of connections began. */
  readonly preexisting: boolean;
}

/** Before the first segment of a connection. */
export function newOrder(preexisting: boolean): RequestOrder {
  return {
    lastAck: undefined,
    lastSeq: undefined,
    last: undefined,
    upgraded: false,
    chunked: false,
    unreadable: undefined,
    followed: undefined,
    preexisting,
  };
}

/**
 * `request`: emit it, unchanged or, if it may only contain the beginning of a request, with `midStream` and nothing else.
 * `repeated`: a retransmitted segment of a request, or a part of its body, or of a protocol already marked unreadable.
 * `unreadable`: the first payload that was seen of the connection, and no request; or HTTP/2 that is followed no further.
 * `followed`: the first request of an HTTP/2 connection whose frames are followed from here on. Emit it.
 *
 * Updates `order` with the segment, and may change the fields of its request: a client can write bytes that look like a
 * request, with any id, into a body or into a tunnel.
 */
export function takeSegment(
  order: RequestOrder,
  segment: PendingSegment,
): 'request' | 'repeated' | 'unreadable' | 'followed' {
  const { request, seq, ack, segmentEnd } = segment;
  const { lastAck, last } = order;
  if (order.unreadable !== undefined) return 'repeated';
  if (order.followed !== undefined) return takeFollowed(order, order.followed, segment);
  if (lastAck === undefined) {
    if (!order.preexisting && takePreface(order, segment)) return 'followed';
    if (request.midStream) {
      order.unreadable = segment.protocol;
      return 'unreadable';
    }
  } else {
    // A new request acknowledges the response to the previous one.
    if (ack === lastAck) {
      if (!order.chunked || request.midStream || seq === order.lastSeq) return 'repeated';
      // The previous "request" may have been a part of that body, sent after the whole answer had arrived.
      makeWithin(segment);
    }
    // Only segments that begin within that request: another connection, with its event still unread, may use the port.
    if (last !== undefined && distance(last.start, seq) < last.length) {
      if (segmentEnd !== undefined && distance(last.start, segmentEnd) <= last.length) return 'repeated';
      makeWithin(segment);
    }
    if (request.midStream) {
      if (order.upgraded) return 'repeated';
      // The request that may begin in it can have a body.
      order.last = undefined;
      return 'request';
    }
  }
  order.lastAck = ack;
  order.lastSeq = seq;
  // A client may have written this length, so it proves nothing.
  const end = order.chunked ? undefined : segment.requestEnd;
  order.last = end === undefined ? undefined : { start: seq, length: distance(seq, end) };
  if (order.chunked) request.afterChunks = true;
  if (order.chunked || order.upgraded) delete request.content;
  if (order.upgraded) {
    delete request.id;
    delete request.idBeforeHost;
    request.cut = true;
  }
  order.upgraded ||= segment.upgrade;
  order.chunked ||= segment.chunked;
  return 'request';
}

function takePreface(order: RequestOrder, segment: PendingSegment): boolean {
  const packet = placedOf(segment);
  const followed = packet && beginFollowing(packet);
  const shown = followed && follow(followed, packet);
  if (typeof shown !== 'object') return false;
  showRequest(segment, shown);
  order.followed = followed;
  return true;
}

function takeFollowed(
  order: RequestOrder,
  followed: Followed,
  segment: PendingSegment,
): ReturnType<typeof takeSegment> {
  const packet = placedOf(segment);
  // Without a copy: the kernel does not know the connection as HTTP/2 any more, and may not have logged what went before.
  const shown = packet ? follow(followed, packet) : 'lost';
  if (shown === 'nothing') return 'repeated';
  if (shown === 'lost') {
    order.followed = undefined;
    order.unreadable = 'http2';
    segment.protocol = 'http2';
    return 'unreadable';
  }
  if (shown === 'within') makeWithin(segment);
  else showRequest(segment, shown);
  return 'request';
}

function placedOf({ copied, seq, ack, segmentEnd }: PendingSegment): Placed | undefined {
  return copied && { ...copied, seq, ack, end: segmentEnd };
}

/** Makes the segment the request that its frames show, and nothing else. */
function showRequest(segment: PendingSegment, { block, doubtful }: ShownRequest): void {
  const { request } = segment;
  makeWithin(segment);
  delete request.midStream;
  const { id, idIsNginxs, method, path, cut } = block;
  if (id !== undefined) {
    request.id = id;
    if (idIsNginxs) request.idBeforeHost = true;
  }
  if (method !== undefined) request.method = method;
  if (path !== undefined) request.path = path;
  if (cut) request.cut = true;
  if (doubtful) request.afterChunks = true;
}

/** Bytes from one sequence number to another, modulo 2^32 (RFC 9293, section 3.4). */
function distance(from: number, to: number): number {
  return (to - from) >>> 0;
}

/** Makes the segment one in which a request may begin, and nothing else. */
export function makeWithin({ request }: PendingSegment): void {
  delete request.id;
  delete request.idBeforeHost;
  delete request.method;
  delete request.path;
  delete request.content;
  delete request.cut;
  delete request.bytes;
  delete request.singleSegment;
  request.midStream = true;
}
