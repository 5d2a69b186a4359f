/** What a segment is, by what was seen on its connection before it. HTTP/1.x has one request after the other. */
import type { PendingSegment } from './tap-packets.ts';

/** How far a connection has come, as its segments told. */
export interface RequestOrder {
  /** TCP acknowledgement number of its last request; undefined before the first. */
  lastAck: number | undefined;
  /** TCP sequence number of the byte after its last request, where that is known. */
  requestEnd: number | undefined;
  /** It may carry another protocol by now. */
  upgraded: boolean;
}

/**
 * `request`: to be told, as it is or, where it may only hold a request's beginning, with `within` and nothing else.
 * `repeated`: a request's segment sent again, or a piece of its body. `not-http`: no request was seen before it.
 *
 * Notes on `order` what follows from the segment, and may change what its request says: a client can write what looks
 * like a request, with any id, into a body or into a tunnel.
 */
export function takeSegment(
  order: RequestOrder,
  segment: PendingSegment,
): 'request' | 'repeated' | 'not-http' {
  const { request, seq, ack, segmentEnd } = segment;
  const { lastAck, requestEnd } = order;
  if (lastAck === undefined) {
    if (request.within) return 'not-http';
  } else {
    // A new request acknowledges the answer to the one before.
    if (ack === lastAck) return 'repeated';
    if (requestEnd !== undefined && segmentEnd !== undefined && !isAfter(segmentEnd, requestEnd))
      return 'repeated';
    if (requestEnd !== undefined && isAfter(requestEnd, seq)) makeWithin(segment);
    if (request.within) {
      if (order.upgraded) return 'repeated';
      // The request that may begin in it can have a body of its own.
      order.requestEnd = undefined;
      return 'request';
    }
  }
  order.lastAck = ack;
  order.requestEnd = segment.requestEnd;
  if (order.upgraded) {
    delete request.id;
    delete request.own;
    request.cut = true;
  }
  order.upgraded ||= segment.upgrade;
  return 'request';
}

/** Of sequence numbers less than 2 GiB apart (RFC 9293, section 3.4). */
function isAfter(a: number, b: number): boolean {
  return ((a - b) | 0) > 0;
}

function makeWithin({ request }: PendingSegment): void {
  delete request.id;
  delete request.own;
  delete request.method;
  delete request.path;
  delete request.cut;
  delete request.bytes;
  delete request.entire;
  request.within = true;
}
