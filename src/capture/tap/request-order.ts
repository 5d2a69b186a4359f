/** What a segment is, by what was seen on its connection before it. HTTP/1.x has one request after the other. */
import type { UnreadableProtocol } from '../../model/feed.ts';
import type { PendingSegment } from './request-tap.ts';

/** How far a connection has come, by the segments that were seen. */
export interface RequestOrder {
  /** TCP acknowledgement number of its last request; undefined before the first. */
  lastAck: number | undefined;
  /** TCP sequence number of that request's first byte. */
  lastSeq: number | undefined;
  /** TCP sequence number of its last request's first byte, and its bytes with the body; undefined if not known. */
  last: { start: number; length: number } | undefined;
  /** It may carry another protocol by now. */
  upgraded: boolean;
  /** A body in chunks was sent on it: what begins like a request may be a piece of that. */
  chunked: boolean;
  /** Its requests cannot be read: its first payload was no HTTP/1 request. */
  unreadable: UnreadableProtocol | undefined;
}

/**
 * `request`: emit it, as it is or, where it may only hold the beginning of a request, with `midStream` and nothing else.
 * `repeated`: a request's segment sent again, or a piece of its body, or of a protocol that is already known to be
 * unreadable. `unreadable`: the first payload that was seen of the connection, and no request.
 *
 * Notes on `order` what follows from the segment, and may change what its request says: a client can write what looks
 * like a request, with any id, into a body or into a tunnel.
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
      // What was taken for a request may have been a piece of that body, sent when all of the answer had come.
      makeWithin(segment);
    }
    // Only what begins within that request: another connection may have taken the port, unheard of so far.
    if (last !== undefined && distance(last.start, seq) < last.length) {
      if (segmentEnd !== undefined && distance(last.start, segmentEnd) <= last.length) return 'repeated';
      makeWithin(segment);
    }
    if (request.midStream) {
      if (order.upgraded) return 'repeated';
      // The request that may begin in it can have a body of its own.
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
  if (order.upgraded) {
    delete request.id;
    delete request.idBeforeHost;
    request.cut = true;
  }
  order.upgraded ||= segment.upgrade;
  order.chunked ||= segment.chunked;
  return 'request';
}

/** Bytes from one sequence number to another, which go round (RFC 9293, section 3.4). */
function distance(from: number, to: number): number {
  return (to - from) >>> 0;
}

function makeWithin({ request }: PendingSegment): void {
  delete request.id;
  delete request.idBeforeHost;
  delete request.method;
  delete request.path;
  delete request.cut;
  delete request.bytes;
  delete request.singleSegment;
  request.midStream = true;
}
