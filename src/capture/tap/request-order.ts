/** Classifies a segment by the earlier segments of its connection. HTTP/1.x has one request after the other. */
import type { UnreadableProtocol } from '../../model/feed.ts';
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
}

/**
 * `request`: emit it, unchanged or, if it may only contain the beginning of a request, with `midStream` and nothing else.
 * `repeated`: a retransmitted segment of a request, or a part of its body, or of a protocol already marked unreadable.
 * `unreadable`: the first payload that was seen of the connection, and no request.
 *
 * Updates `order` with the segment, and may change the fields of its request: a client can write bytes that look like a
 * request, with any id, into a body or into a tunnel.
 */
export function takeSegment(
  order: RequestOrder,
  segment: PendingSegment,
): 'request' | 'repeated' | 'unreadable' {
  const { request, seq, ack, segmentEnd } = segment;
  const { lastAck, last } = order;
  if (order.unreadable !== undefined) return 'repeated';
  if (lastAck === undefined) {
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

/** Bytes from one sequence number to another, modulo 2^32 (RFC 9293, section 3.4). */
function distance(from: number, to: number): number {
  return (to - from) >>> 0;
}

function makeWithin({ request }: PendingSegment): void {
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
