/** conntrack's counts of connections that have ended (`nf_conntrack_acct`). */

import type { CloseRecord, Observation } from '../../model/feed.ts';
import type { Drained, MessageVisitor } from '../netlink/socket.ts';
import { u32 } from '../netlink/wire.ts';
import { getRequest } from './events.ts';
import { type ConntrackEvent, parseCounts } from './message.ts';

/**
 * The counts are read this long after both sides' FINs (ms). The kernel keeps the entry for two minutes, and its DESTROY
 * event with the counts is too late for lines that wait. By this time a lost packet has been retransmitted and counted (a
 * first retransmission follows after 200 ms; RFC 6298, Linux's TCP_RTO_MIN).
 */
const SETTLE_MS = 400;
/** Connections whose counts are still to be read. Beyond, a connection has no counts, which excludes nothing. */
const MOST_WAITING = 65_536;
/** Requests at once: their answers fit into a receive buffer of the default size. */
const LISTED_TOGETHER = 32;

/** The part of `NetlinkSocket` that the accounting uses. */
export interface RequestSocket {
  send(bytes: Buffer): boolean;
  drain(limit: number, visit: MessageVisitor): Drained;
}

export interface AccountingStats {
  /** Connections with counts, and those whose entry was gone or that were beyond the limit. */
  counted: number;
  uncounted: number;
}

interface Ended {
  event: ConntrackEvent;
  /** When its counts may be read, ms since the epoch. */
  due: number;
}

export class Accounting {
  readonly #socket: RequestSocket;
  readonly #stats: AccountingStats;
  #waiting: Ended[] = [];
  #head = 0;

  constructor(socket: RequestSocket, stats: AccountingStats) {
    this.#socket = socket;
    this.#stats = stats;
  }

  /** Both sides have closed the event's connection; the event was read at `t`. */
  ended(event: ConntrackEvent, t: number): void {
    if (this.#waiting.length - this.#head >= MOST_WAITING || event.zone !== 0) {
      this.#stats.uncounted++;
      return;
    }
    this.#waiting.push({ event, due: t + SETTLE_MS });
  }

  clear(): void {
    this.#waiting = [];
    this.#head = 0;
  }

  /**
   * Requests the counts that are due at `now` from the kernel, and emits them. An answer shows that no other connection has
   * had the tuple up to then; read conntrack's events after this, so that its record precedes that of the next one.
   */
  read(now: number, out: Observation[]): void {
    while (this.#head < this.#waiting.length && this.#waiting[this.#head]!.due <= now) {
      let end = this.#head;
      while (
        end < this.#waiting.length &&
        end - this.#head < LISTED_TOGETHER &&
        this.#waiting[end]!.due <= now
      )
        end++;
      this.#ask(this.#waiting.slice(this.#head, end), now, out);
      this.#head = end;
    }
    if (this.#head * 2 > this.#waiting.length) {
      this.#waiting = this.#waiting.slice(this.#head);
      this.#head = 0;
    }
  }

  #ask(ended: readonly Ended[], now: number, out: Observation[]): void {
    const requests = ended.flatMap(({ event }, sequence) => getRequest(event, sequence) ?? []);
    let counted = 0;
    if (this.#socket.send(Buffer.concat(requests))) {
      this.#socket.drain(Number.POSITIVE_INFINITY, (bytes, start, end) => {
        const event = ended[u32(bytes, start + 8)]?.event;
        const answer = parseCounts(bytes, start, end);
        if (!event || answer?.id !== event.id) return;
        counted++;
        const { src, sport, vip, vport, ip, port } = event;
        const flow = { src, sport, vip, vport, ip, port } satisfies Partial<CloseRecord>;
        out.push({ kind: 'close', t: now, ...flow, via: 'conntrack', update: true, counts: answer.counts });
      });
    }
    this.#stats.counted += counted;
    this.#stats.uncounted += ended.length - counted;
  }
}
