/** One connection of the flow table, and the records that tell of it. */

import type { CloseRecord, Flow, Observation, UnreadableProtocol } from '../../model/feed.ts';
import type { SnapshotObservation } from '../capture.ts';
import { newOrder, type RequestOrder } from '../tap/request-order.ts';
import type { ConntrackEvent } from './message.ts';

export interface FlowEntry extends Required<Flow>, RequestOrder {
  via: 'conntrack' | 'tap';
  id: number;
  zone: number;
  /** When it was opened; with `preexisting`, when it was first seen. */
  t: number;
  preexisting: boolean;
  /** `t` is the kernel's own time. */
  kernelTime: boolean;
  /** Lower bound of its opening; undefined where no reader needs it. */
  openedAfter: number | undefined;
  /** How it ended, as far as known. */
  endKind: CloseRecord['end'];
  /** Upper bound of its end; undefined where no reader needs it. */
  endedAt: number | undefined;
  /** Its end may produce no event (it is older than the subscription, or events were lost): resyncs check it. */
  unsure: boolean;
  /** Dumps in a row that did not list it. */
  missed: number;
  /** Number of the last dump that listed it. */
  listedIn: number;
  /** Its end was read; it stays in the table for requests that are read later. */
  ending: boolean;
  /** Meanwhile the opening of another one with its tuple was read. */
  reopened: boolean;
  /** Next connection of the same source and source port. */
  next: FlowEntry | undefined;
}

export type OpenObservation = Extract<Observation, { kind: 'open' }>;
export type CloseObservation = Extract<Observation, { kind: 'close' }>;
export type UnreadableObservation = Extract<Observation, { kind: 'unreadable' }>;

/** An entry for the connection of `event`, opened, or with `preexisting` first seen, at `t` (ms since the epoch). */
export function newEntry(
  event: ConntrackEvent,
  t: number,
  preexisting: boolean,
  openedAfter: number | undefined,
  next: FlowEntry | undefined,
): FlowEntry {
  return {
    src: event.src,
    sport: event.sport,
    vip: event.vip,
    vport: event.vport,
    ip: event.ip,
    port: event.port,
    via: 'conntrack',
    id: event.id,
    zone: event.zone,
    t,
    kernelTime: !preexisting && event.eventMs === t,
    openedAfter,
    endKind: undefined,
    endedAt: undefined,
    unsure: preexisting,
    missed: 0,
    listedIn: 0,
    ending: false,
    reopened: false,
    ...newOrder(preexisting),
    next,
  };
}

export function openOf(entry: FlowEntry): OpenObservation {
  const open = { kind: 'open', t: entry.t, ...flowOf(entry), via: entry.via } as const;
  if (entry.preexisting) return { ...open, preexisting: true };
  if (entry.kernelTime) return { ...open, kernelTime: true };
  return entry.openedAfter === undefined ? open : { ...open, openedAfter: entry.openedAfter };
}

/** The end of a connection, read at `t`. */
export function closeOf(entry: FlowEntry, t: number): CloseObservation {
  const close = { kind: 'close', t: Math.max(t, entry.t), ...flowOf(entry), via: entry.via } as const;
  const { endKind, endedAt, unreadable, followed } = entry;
  return {
    ...close,
    ...(endKind === undefined ? {} : { end: endKind }),
    ...(endedAt === undefined ? {} : { endedBefore: endedAt }),
    ...(unreadable === undefined ? {} : { protocol: unreadable }),
    ...(unreadable === undefined && followed ? ({ protocol: 'http2', idsRead: true } as const) : {}),
  };
}

/** The records of an open connection for a new reader: that it is open, and whether its requests can be read. */
export function snapshotOf(entry: FlowEntry): SnapshotObservation[] {
  const { unreadable, followed, t } = entry;
  if (unreadable !== undefined) return [openOf(entry), unreadableOf(entry, t, unreadable)];
  if (followed !== undefined) return [openOf(entry), { ...unreadableOf(entry, t, 'http2'), idsRead: true }];
  return [openOf(entry)];
}

export function unreadableOf(
  entry: FlowEntry,
  t: number,
  protocol: UnreadableProtocol,
): UnreadableObservation {
  const via = protocol === 'offloaded' ? 'conntrack' : 'tap';
  return { kind: 'unreadable', t, ...flowOf(entry), via, protocol };
}

function flowOf({ src, sport, vip, vport, ip, port }: FlowEntry): Required<Flow> {
  return { src, sport, vip, vport, ip, port };
}
