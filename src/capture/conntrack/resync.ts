/** Compares the table of flows with the kernel's table, by dumps. */

import type { Observation } from '../../model/feed.ts';
import type { CaptureStats, KnownFlow } from '../capture.ts';
import { CaptureError } from '../error.ts';
import { AddressSet, AddressTexts } from '../ip-bytes.ts';
import type { Libc } from '../netlink/libc.ts';
import { dump } from '../netlink/socket.ts';
import { dumpRequests } from './events.ts';
import type { FlowTable } from './flow-table.ts';
import type { parseIncoming } from './incoming.ts';
import { parseConntrack, TCP_TIME_WAIT } from './message.ts';

/** Where events are read during a dump, and records go. */
export interface EventReader {
  read(): unknown;
  push(observation: Observation): void;
}

/** Which connections of an address are listed, and how their records are made. */
export interface Direction {
  requests(addresses: readonly string[]): Buffer[];
  parse: typeof parseIncoming;
  record(observation: Observation): Observation;
}

/** The connections from the addresses. */
const OUTGOING: Direction = {
  requests: dumpRequests,
  parse: parseConntrack,
  record: (observation) => observation,
};

export interface ResyncTarget {
  /** Nobody knows of its connections so far: what is found stays in the table of flows, without a record. */
  fresh: boolean;
}

/**
 * Lists the connections of `targets` once. Events go on being read meanwhile, each time before a part of the dump is
 * looked at, so that what is found anew is really older than the listening. `isCurrent`: still subscribed.
 */
export async function resync<T extends ResyncTarget>(
  libc: Libc,
  flows: FlowTable,
  reader: EventReader,
  targets: ReadonlyMap<string, T>,
  isCurrent: (src: string, target: T) => boolean,
  { requests, parse, record }: Direction = OUTGOING,
): Promise<void> {
  const sources = new AddressSet();
  for (const src of targets.keys()) sources.add(src);
  const texts = new AddressTexts();
  reader.read();
  const begunAt = libc.wallClock();
  flows.beginDump();
  try {
    for (const request of requests([...targets.keys()])) {
      await dump(
        libc,
        request,
        () => reader.read(),
        (bytes, start, end) => {
          const event = parse(bytes, start, end, sources, texts);
          if (typeof event === 'string') return;
          if (flows.dumpIsDoubtful)
            throw new CaptureError('dump', 'too many connections ended during a listing');
          const target = targets.get(event.src)!;
          if (!isCurrent(event.src, target)) return;
          const found = flows.listed(event, event.tcpState === TCP_TIME_WAIT, libc.wallClock());
          if (found.closed) reader.push(record(found.closed));
          if (target.fresh) return;
          if (found.opened) reader.push(record(found.opened));
          if (found.unreadable) reader.push(record(found.unreadable));
        },
      );
    }
  } catch (error) {
    flows.abandonDump();
    throw error;
  }
  const current = [...targets].filter(([src, target]) => isCurrent(src, target)).map(([src]) => src);
  for (const closed of flows.endDump(current, begunAt, libc.wallClock())) reader.push(record(closed));
  reader.read();
}

/** The connections from `src:sport` that the kernel lists now. */
export async function listPort(
  libc: Libc,
  src: string,
  sport: number,
  stats: CaptureStats,
): Promise<KnownFlow[]> {
  const sources = new AddressSet();
  sources.add(src);
  const texts = new AddressTexts();
  const found: KnownFlow[] = [];
  stats.conntrackDumps++;
  for (const request of dumpRequests([src], sport)) {
    await dump(
      libc,
      request,
      () => {},
      (bytes, start, end) => {
        const event = parseConntrack(bytes, start, end, sources, texts);
        if (typeof event === 'string' || event.sport !== sport) return;
        const { vip, vport, ip, port } = event;
        const ended = event.tcpState === TCP_TIME_WAIT;
        found.push({ src, sport, vip, vport, ip, port, from: libc.wallClock(), preexisting: true, ended });
      },
    );
  }
  return found;
}
