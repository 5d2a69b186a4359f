/** How much went over connections that have ended, as conntrack counted it (`nf_conntrack_acct`). */

import type { CloseRecord, Observation } from '../../model/feed.ts';
import type { Drained, MessageVisitor } from '../netlink/socket.ts';
import { u32 } from '../netlink/wire.ts';
import { getRequest } from './events.ts';
import { type ConntrackEvent, parseCounts } from './message.ts';

/**
 * The counts are read this long after both sides' FINs (ms). The kernel keeps the entry for two minutes and only then
 * tells of its end, counts included: too late for lines that wait. What was lost before it was counted has been sent
 * again by then (a first retransmission comes after 200 ms; RFC 6298, Linux's TCP_RTO_MIN).
 */
const SETTLE_MS = 400;
/** Connections that wait to be asked for. Beyond, they stay without counts, which proves nothing either way. */
const MOST_WAITING = 65_536;
/** Connections asked for at once: their answers fit into a receive buffer of the default size. */
const LISTED_TOGETHER = 32;

/** What `NetlinkSocket` is to the accounting. */
export interface RequestSocket {
  send(bytes: Buffer): boolean;
  drain(limit: number, visit: MessageVisitor): Drained;
}

export interface AccountingStats {
  /** Connections whose counts were delivered, and those that were gone or beyond the limit. */
  counted: number;
  uncounted: number;
}

interface Ended {
  event: ConntrackEvent;
  /** When it may be asked for, ms since the epoch. */
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

  /** Both sides have closed the event's connection, as was learned at `t`. */
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
   * Asks the kernel for what is due at `now` and tells its counts. An answer says that no other connection had had the
   * tuple by then: it comes before the record of the next one, as long as conntrack's events are read after this.
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
