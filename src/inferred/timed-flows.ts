import type { CloseRecord, FlowCounts, OpenRecord } from '../model/feed.ts';
import { narrowByOrder } from './order.ts';
import type { TimedAttempt } from './timed-attempt.ts';
import type { TimedFlow } from './timed-flow.ts';

/** The kernel's times travel in the feed rounded to microseconds; this covers the rounding (ms). */
const ROUNDING_MS = 0.001;

/** Shortest headers of a TCP packet: IP without options (RFC 791, RFC 8200), TCP without options (RFC 9293); bytes. */
const LEAST_HEADERS_V4 = 20 + 20;
const LEAST_HEADERS_V6 = 40 + 20;

export class TimedFlows {
  readonly open = new Set<TimedFlow>();
  /** Flows that were open for long: each may have been kept for other requests. */
  long: TimedFlow[] = [];
  #flows: TimedFlow[] = [];
  #head = 0;

  get size(): number {
    return this.#flows.length - this.#head;
  }

  /** `watermark`: every earlier event is in an earlier record. */
  opened(record: OpenRecord, watermark: number, inOrder: boolean): TimedFlow {
    const last = this.#flows[this.#flows.length - 1];
    const openTo = record.kernelTime ? record.t + ROUNDING_MS : record.t;
    const openFrom = record.preexisting
      ? -Infinity
      : record.kernelTime
        ? record.t - ROUNDING_MS
        : Math.min(record.openedAfter ?? watermark, record.t);
    const flow: TimedFlow = {
      backend: `${record.ip} ${record.port}`,
      openFrom,
      openTo,
      openedBy: last ? Math.max(last.openedBy, openTo) : openTo,
      openedAfter: record.preexisting ? -Infinity : watermark,
      inOrder,
      from: openFrom,
      to: openTo,
      closeTo: Infinity,
      finished: false,
      refused: false,
      sentMost: Infinity,
      receivedMost: Infinity,
      explainedUntil: openTo,
    };
    this.#flows.push(flow);
    this.open.add(flow);
    return flow;
  }

  closed(flow: TimedFlow, t: number, how: CloseRecord['end']): void {
    flow.closeTo = t;
    flow.finished = how === 'fin';
    flow.refused = how === 'refused';
    this.open.delete(flow);
  }

  /**
   * Both sides' FINs have passed, so all that nginx wrote to the connection and read from it has been counted, and what was
   * sent twice has been counted twice. So for each attempt on it, and each direction:
   *
   *     bytes that nginx logs ≤ payload ≤ bytes − packets × the shortest headers
   *
   * Longer headers, probes and retransmissions only add to the right side; TLS too. What several packets were merged into
   * (GRO) counts as one packet with one pair of headers. Bytes are those of nf_ct_acct_update (skb->len in the IP layer).
   */
  static counted(
    flow: TimedFlow,
    { sentPackets, sentBytes, receivedPackets, receivedBytes }: FlowCounts,
  ): void {
    const least = flow.backend.includes(':') ? LEAST_HEADERS_V6 : LEAST_HEADERS_V4;
    flow.sentMost = sentBytes - sentPackets * least;
    flow.receivedMost = receivedBytes - receivedPackets * least;
  }

  /**
   * Forgets the oldest flow; while it is open it stays in `open`. Leave attempts alone whose flow may have opened by the time
   * returned.
   */
  forgetOldest(): number {
    const oldest = this.#flows[this.#head++]!;
    if (this.#head > 64 && this.#head * 2 > this.#flows.length) {
      this.#flows = this.#flows.slice(this.#head);
      this.#head = 0;
    }
    return oldest.openTo;
  }

  /**
   * Places of the flows that the attempt may have had, for `at`, valid until the next change. Undefined if there are more
   * than `limit`. `grainMs`: how late nginx's clock may be.
   */
  candidates(attempt: TimedAttempt, grainMs: number, limit: number): number[] | undefined {
    const found: number[] = [];
    const openBy = attempt.openBy + grainMs;
    for (let at = this.#firstAfter(attempt.lo); at < this.#flows.length; at++) {
      const flow = this.#flows[at]!;
      if (flow.openedAfter > openBy) break;
      if (flow.to < attempt.lo || flow.from > openBy || flow.refused) continue;
      if (flow.finished && flow.closeTo + grainMs < attempt.lookedAt) continue;
      if (flow.sentMost < attempt.sent || flow.receivedMost < attempt.received) continue;
      if (attempt.backend !== undefined && attempt.backend !== flow.backend) continue;
      if (found.length === limit) return undefined;
      found.push(at);
    }
    return found;
  }

  /** Narrows the opening times by the order of the records, if that order is certain for all since `lo`. */
  narrow(attempts: readonly TimedAttempt[], lo: number, grainMs: number): void {
    const flows: TimedFlow[] = [];
    let inOrder = true;
    for (let at = this.#firstAfter(lo); at < this.#flows.length; at++) {
      const flow = this.#flows[at]!;
      flow.from = flow.openFrom;
      flow.to = flow.openTo;
      if (flow.refused) continue;
      if (!flow.inOrder) inOrder = false;
      flows.push(flow);
    }
    if (inOrder) narrowByOrder(flows, attempts, grainMs);
  }

  /** Places of the flows in the feed after `lo` that certainly opened by `until`. */
  openedBetween(lo: number, until: number): number[] {
    const places: number[] = [];
    for (let at = this.#firstAfter(lo); at < this.#flows.length; at++) {
      const flow = this.#flows[at]!;
      if (flow.openedAfter > until) break;
      if (flow.openTo > lo && flow.openTo <= until && !flow.refused) places.push(at);
    }
    return places;
  }

  /** Place of the first that may have been opened after `lo`. */
  #firstAfter(lo: number): number {
    let low = this.#head;
    let high = this.#flows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#flows[middle]!.openedBy < lo) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  at(place: number): TimedFlow {
    return this.#flows[place]!;
  }
}
