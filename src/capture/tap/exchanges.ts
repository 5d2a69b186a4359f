/**
 * Requests separated by TCP headers alone: HTTP/1.x has one at a time on a connection, so bytes to the backend that
 * acknowledge new bytes from it belong to the next request. The bytes in between are the counts that nginx logs as
 * `$upstream_bytes_sent` and `$upstream_bytes_received`.
 *
 * The tap copies only segments with SYN, FIN, RST or PSH. Every write ends in a segment with PSH (Linux tcp_push), and
 * sequence numbers cover the segments in between.
 */
import { LRUCache } from '../../lru.ts';
import { ONE_WRITE_BYTES } from '../../model/feed.ts';
import { TCP_FLAGS } from './packet.ts';

export interface Ends {
  src: string;
  sport: number;
  ip: string;
  port: number;
}

/** One request and its answer, as far as the tap has read them. */
export interface Exchange extends Ends {
  /** Times at which its first and its latest segment were read (ms since the epoch). */
  begun: number;
  t: number;
  /** Payload bytes; `sent` is undefined if the beginning was not seen. */
  sent: number | undefined;
  received: number;
  /** The request is one segment and begins where the previous exchange ended. */
  singleSegment: boolean;
  reset: boolean;
  /** A record of it was emitted. */
  reported: boolean;
}

interface Track extends Ends {
  /** Sequence number after the last byte to the backend; undefined if none was seen. */
  sentTo: number | undefined;
  /** Sequence number after the last byte from the backend, within `exchange`. */
  receivedTo: number;
  /** Acknowledgement number at the beginning of the exchange. */
  beganAt: number;
  exchange: Exchange | undefined;
  /** Sequence number of the backend's FIN. */
  finAt: number | undefined;
}

export interface Segment {
  seq: number;
  ack: number;
  flags: number;
  /** Payload bytes; undefined where the packet has no length. */
  length: number | undefined;
}

export class Exchanges {
  readonly #tracks: LRUCache<string, Track>;
  #touched = new Set<Exchange>();

  /** `limit`: connections kept. At the limit the longest idle one is dropped; its next exchange has no known beginning. */
  constructor(limit: number) {
    this.#tracks = new LRUCache({ max: limit });
  }

  get size(): number {
    return this.#tracks.size;
  }

  /** Exchanges that began or changed since the last call, in that order. */
  take(): Set<Exchange> {
    const touched = this.#touched;
    if (touched.size > 0) this.#touched = new Set();
    return touched;
  }

  /** Segments were lost: the counts of current exchanges are not certain. */
  forget(): void {
    this.#tracks.clear();
  }

  /** A segment from nginx to a backend. */
  sent(ends: Ends, { seq, ack, flags, length }: Segment, readAt: number): void {
    const key = keyOf(ends);
    if (length === undefined) {
      this.#tracks.delete(key);
      return;
    }
    let track = this.#tracks.get(key);
    if ((flags & TCP_FLAGS.syn) !== 0) {
      this.#tracks.delete(key);
      track = this.#add(key, ends);
      track.sentTo = (seq + 1) >>> 0;
      return;
    }
    if ((flags & TCP_FLAGS.rst) !== 0) {
      this.#reset(key, track, readAt);
      return;
    }
    if (length > 0) {
      track ??= this.#add(key, ends);
      this.#write(track, seq, ack, length, readAt);
    }
    if ((flags & TCP_FLAGS.fin) !== 0 && track) {
      // nginx had read everything; otherwise the kernel would have sent RST. It reads nothing that comes later.
      const fin = track.finAt !== undefined && ack === (track.finAt + 1) >>> 0 ? 1 : 0;
      this.#receive(track, (ack - fin) >>> 0, readAt);
      this.#tracks.delete(key);
    }
  }

  /** A segment from a backend to nginx. `ends` are nginx's address and the backend's, as above. */
  answered(ends: Ends, { seq, ack, flags, length }: Segment, readAt: number): void {
    const key = keyOf(ends);
    const track = this.#tracks.get(key);
    if (!track) return;
    if (length === undefined) {
      this.#tracks.delete(key);
      return;
    }
    if ((flags & TCP_FLAGS.rst) !== 0) {
      this.#reset(key, track, readAt);
      return;
    }
    const end = (seq + length) >>> 0;
    // The backend has bytes that were sent without PSH: this may answer a request that begins in them.
    const { sentTo, exchange } = track;
    if (exchange && sentTo !== undefined && after(ack, sentTo) > 0) exchange.singleSegment = false;
    if (length > 0) this.#receive(track, end, readAt);
    if ((flags & TCP_FLAGS.fin) !== 0) track.finAt = end;
  }

  #write(track: Track, seq: number, ack: number, length: number, readAt: number): void {
    const { sentTo } = track;
    const end = (seq + length) >>> 0;
    // A retransmission.
    if (sentTo !== undefined && after(end, sentTo) <= 0) return;
    let { exchange } = track;
    if (exchange && ack === track.beganAt) {
      exchange.singleSegment = false;
      if (exchange.sent !== undefined) exchange.sent += after(end, sentTo!);
      exchange.t = readAt;
    } else {
      this.#receive(track, ack, readAt);
      // An answer may have come between what was sent before and this, the first segment with PSH.
      const unseen = exchange === undefined && seq !== sentTo;
      const { src, sport, ip, port } = track;
      exchange = {
        src,
        sport,
        ip,
        port,
        begun: readAt,
        t: readAt,
        sent: sentTo === undefined || unseen ? undefined : after(end, sentTo),
        received: 0,
        singleSegment: seq === sentTo && length <= ONE_WRITE_BYTES,
        reset: false,
        reported: false,
      };
      track.exchange = exchange;
      track.beganAt = ack;
      track.receivedTo = ack;
    }
    track.sentTo = end;
    this.#touched.add(exchange);
  }

  #receive(track: Track, end: number, readAt: number): void {
    const { exchange } = track;
    if (!exchange) return;
    const more = after(end, track.receivedTo);
    if (more <= 0) return;
    exchange.received += more;
    exchange.t = readAt;
    track.receivedTo = end;
    this.#touched.add(exchange);
  }

  #reset(key: string, track: Track | undefined, readAt: number): void {
    this.#tracks.delete(key);
    if (!track?.exchange) return;
    track.exchange.reset = true;
    track.exchange.t = readAt;
    this.#touched.add(track.exchange);
  }

  #add(key: string, { src, sport, ip, port }: Ends): Track {
    const track: Track = {
      src,
      sport,
      ip,
      port,
      sentTo: undefined,
      receivedTo: 0,
      beganAt: 0,
      exchange: undefined,
      finAt: undefined,
    };
    this.#tracks.set(key, track);
    return track;
  }
}

/** `a` minus `b` as sequence numbers (RFC 9293, section 3.4: modulo 2^32). */
function after(a: number, b: number): number {
  return (a - b) | 0;
}

function keyOf({ src, sport, ip, port }: Ends): string {
  return `${src} ${sport} ${ip} ${port}`;
}
