/** Compares an attempt's byte counts with those on the wire, where the tap copies no payload (`--tap headers`). */
import { ONE_WRITE_BYTES } from '../model/feed.ts';
import type { Attempt } from '../model/line.ts';
import type { TappedRequest } from './index/connection.ts';

/** The request was upgraded to another protocol, which has no requests. */
const SWITCHING_PROTOCOLS = 101;

/** Whether the line has both counts, and they are those of one request. */
export function hasCounts(attempt: Attempt): boolean {
  return (
    typeof attempt.bytesSent === 'number' &&
    typeof attempt.bytesReceived === 'number' &&
    attempt.status !== SWITCHING_PROTOCOLS
  );
}

/**
 * Whether the attempt's request went out at once, so that a segment of it, which the kernel pushed, was seen before its
 * answer. A longer one can be answered while the segments that were seen are still to come.
 */
export function isOneWrite({ bytesSent }: Attempt): boolean {
  return typeof bytesSent === 'number' && bytesSent <= ONE_WRITE_BYTES;
}

/** Whether the exchange may have more than its recorded bytes: it, or the attempt's request, may be longer than one write. */
export function mayBeInPieces(tapped: TappedRequest, attempt: Attempt): boolean {
  return tapped.received !== undefined && !(tapped.singleSegment && isOneWrite(attempt));
}

/** Whether the exchange may hold the attempt's request behind the rest of another one. */
export function mayHold({ sent, received }: TappedRequest, { bytesSent, bytesReceived }: Attempt): boolean {
  if (typeof bytesSent !== 'number' || typeof bytesReceived !== 'number' || sent === undefined) return true;
  return sent > bytesSent && received! >= bytesReceived;
}

/** The exchange has exactly the line's counts. */
export function countsAgree(tapped: TappedRequest, attempt: Attempt): boolean {
  return tapped.sent === attempt.bytesSent && tapped.received === attempt.bytesReceived;
}

/**
 * Whether the counts leave it possible that the exchange is the attempt's, for an attempt that got an answer and a record
 * that is past its end: then the end of the answer has been seen, as it was pushed.
 */
export function countsAllow(tapped: TappedRequest, attempt: Attempt): boolean {
  const { sent, received, singleSegment, reset, first } = tapped;
  const { bytesSent, bytesReceived } = attempt;
  if (typeof bytesSent !== 'number' || typeof bytesReceived !== 'number' || received === undefined)
    return true;
  if (received === 0) return bytesReceived === 0;
  if (countsAgree(tapped, attempt)) return true;
  if (reset) return received >= bytesReceived && (sent === undefined || sent <= bytesSent);
  if (sent === undefined) return true;
  // A piece of it: the rest was answered before it was sent.
  if (bytesSent > ONE_WRITE_BYTES && sent <= bytesSent && received <= bytesReceived) return true;
  if (singleSegment) return false;
  if (first) return sent <= bytesSent && received <= bytesReceived;
  // It may hold the request behind the rest of another one, or be a piece of it.
  return !(sent > bytesSent && received < bytesReceived) && !(sent < bytesSent && received > bytesReceived);
}
