import type { Observation } from '../../model/feed.ts';
import type { CaptureStats } from '../capture.ts';
import type { FlowEntry } from '../conntrack/flow-entry.ts';
import type { FlowTable } from '../conntrack/flow-table.ts';
import { makeWithin, takeSegment } from './request-order.ts';
import type { Pending, PendingAnswer, PendingRequest, PendingSegment } from './request-tap.ts';

export interface PlacementParts {
  flows: FlowTable;
  /** Whether conntrack is read: without it, plain body and packets that may contain a request look the same. */
  conntrack: boolean;
  stats: CaptureStats;
}

/** Assigns tapped requests and the beginnings of answers to their connections, and emits them in the order of the wire. */
export class RequestPlacement {
  readonly #parts: PlacementParts;

  constructor(parts: PlacementParts) {
    this.#parts = parts;
  }

  /**
   * Emits the requests up to the first one with an unknown connection, and returns the rest: the join uses the order of the
   * wire to separate the attempts of one line. A request may be read before the event of its connection, so `readConntrack`
   * runs once, for the first of these.
   */
  place(pending: Pending[], readConntrack: (() => void) | undefined, out: Observation[]): Pending[] {
    const { flows, conntrack, stats } = this.#parts;
    const left: Pending[] = [];
    let readOnce = readConntrack;
    for (const each of pending) {
      if ('record' in each || ('request' in each && each.settled)) {
        if (left.length === 0) this.emit(each, out);
        else left.push(each);
        continue;
      }
      const { src, sport, ip, port } = 'response' in each ? each.response : each.request;
      const dialed = 'request' in each && each.dialed === true;
      const find = () => (dialed ? flows.dialed(src, sport, ip, port) : flows.find(src, sport, ip, port));
      const wasPlaced = each.placed;
      let entry = wasPlaced ? undefined : find();
      if (entry === undefined && !each.placed && readOnce !== undefined) {
        readOnce();
        readOnce = undefined;
        entry = find();
      }
      if (entry === undefined && !each.placed && !dialed)
        entry = this.#beforeTranslation(each, src, sport, ip, port);
      if (entry !== undefined) each.placed = true;
      if ('response' in each) {
        if (entry !== undefined && entry !== 'several') {
          each.response.vip = entry.vip;
          each.response.vport = entry.vport;
        }
        if (each.placed && left.length === 0) out.push(each.response);
        else left.push(each);
        continue;
      }
      const { request } = each;
      if (request.midStream && !conntrack) {
        stats.tapNotHttp++;
        continue;
      }
      if (request.received !== undefined && entry === 'several') {
        // Two connections with one key: the sum of their counts belongs to neither.
        if (request.update) continue;
        delete request.sent;
        delete request.received;
      }
      // A client may have written it into a body, which only the segments before it on its connection show.
      if (entry === undefined || entry === 'several') {
        delete request.content;
        if (!wasPlaced && 'copied' in each && each.copied) makeWithin(each);
      }
      if (entry !== undefined && entry !== 'several') {
        const what = 'seq' in each ? takeSegment(entry, each) : 'request';
        if (what === 'repeated') {
          stats.tapRepeated++;
          continue;
        }
        request.vip = entry.vip;
        request.vport = entry.vport;
        request.ip = entry.ip;
        request.port = entry.port;
        each.unreadable = what === 'unreadable';
        each.followed = what === 'followed';
      } else if (entry === 'several' && request.midStream && 'seq' in each) {
        // The connection is ambiguous, and so are the segments before this one.
        each.unreadable = true;
      }
      if (each.placed && left.length === 0) this.emit(each, out);
      else left.push(each);
    }
    return left;
  }

  /**
   * IPVS translates behind the tap's rule for input: the packet has the address that was dialed. All events of before it have been
   * read, so that its connection is known; of two that dialed one address from one port in turn it may be either's.
   */
  #beforeTranslation(
    each: PendingRequest | PendingAnswer,
    src: string,
    sport: number,
    ip: string,
    port: number,
  ): FlowEntry | undefined {
    if (!('request' in each)) return undefined;
    const found = this.#parts.flows.dialed(src, sport, ip, port);
    if (found?.reopened) each.ambiguous = true;
    return each.ambiguous ? undefined : found;
  }

  /** False: what was dialed is all that is known of the request, which is lost then. */
  emit(pending: Pending, out: Observation[]): boolean {
    if ('seq' in pending && !pending.placed) this.#keepOrder(pending);
    if ('record' in pending) out.push(pending.record);
    else if ('response' in pending) out.push(pending.response);
    else if (pending.dialed && !pending.placed) return false;
    else this.#emitRequest(pending, out);
    return true;
  }

  /** Of a connection that is not known: once it is, what this segment shows of it counts. */
  #keepOrder(segment: PendingSegment): void {
    const { src, sport, ip, port } = segment.request;
    const { unlisted } = this.#parts.flows;
    const order = unlisted.order(src, sport, ip, port);
    if (order === undefined) return;
    takeSegment(order, segment);
    unlisted.left(src, order);
  }

  #emitRequest(pending: PendingRequest | PendingSegment, out: Observation[]): void {
    const { request } = pending;
    const { stats } = this.#parts;
    if ('protocol' in pending && (pending.unreadable || pending.followed)) {
      const { t, src, sport, vip, vport, ip, port, via } = request;
      const dialed = vip === undefined || vport === undefined ? {} : { vip, vport };
      const record = { kind: 'unreadable', t, src, sport, ...dialed, ip, port, via } as const;
      if (pending.unreadable) {
        stats.unreadable++;
        out.push({ ...record, protocol: pending.protocol });
        return;
      }
      out.push({ ...record, protocol: 'http2', idsRead: true });
    }
    out.push(request);
    if (request.midStream) {
      stats.tapWithin++;
      return;
    }
    if (request.update) return;
    stats.tapRequests++;
    if (request.id === undefined && request.received === undefined) stats.tapWithoutId++;
  }
}
