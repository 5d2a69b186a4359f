import type { Attempt } from '../model/line.ts';
import { countsAllow, mayBeInPieces } from './byte-counts.ts';
import {
  type Backend,
  type Connection,
  LINGER_MS,
  type Service,
  servedUntil,
  type TappedRequest,
} from './index/connection.ts';
import type { FlowIndex } from './index/flow-index.ts';
import type { Window } from './window.ts';

/** Requests looked at for one attempt where no id selects them. With more in the window, the attempt is left alone. */
export const MAX_LOOKED_AT = 512;
/** Events of one source may be handed over this much out of order (ms). */
const DISORDER_MS = 5_000;

/** The backends that remain possible: none, one, or more than one. */
export class Candidates {
  backend: Backend | undefined;
  several = false;
  /** The one connection, where exactly one is left. */
  connection: Connection | undefined;
  /** When the first and the last of them were opened, ms since the epoch. */
  firstOpened = Infinity;
  lastOpened = -Infinity;
  #connections = 0;

  add(connection: Connection): void {
    const { backend } = connection;
    if (this.connection !== connection) this.#connections++;
    this.connection = connection;
    this.firstOpened = Math.min(this.firstOpened, connection.openTo);
    this.lastOpened = Math.max(this.lastOpened, connection.openTo);
    if (this.backend === undefined) this.backend = backend;
    else if (this.backend.ip !== backend.ip || this.backend.port !== backend.port) this.several = true;
  }

  get none(): boolean {
    return this.backend === undefined && !this.several;
  }

  get sole(): Backend | undefined {
    return this.several ? undefined : this.backend;
  }

  get only(): Connection | undefined {
    return this.#connections === 1 ? this.connection : undefined;
  }
}

/**
 * Visits the connections that may have carried the attempt: of its Service and of those whose Service is not known,
 * or only those on its local port where the line has it.
 */
export function connectionsIn(
  index: FlowIndex,
  service: Service | undefined,
  attempt: Attempt,
  window: Window,
  visit: (connection: Connection) => boolean,
): void {
  if (typeof attempt.localPort === 'number') {
    for (const connection of index.onPort(attempt.localPort)) {
      if (connection.service !== service && connection.service !== index.unknown) continue;
      if (fits(connection, attempt, window) && !visit(connection)) return;
    }
    return;
  }
  for (const group of service ? [service, index.unknown] : [index.unknown]) {
    for (const connection of group.open) {
      if (fits(connection, attempt, window) && !visit(connection)) return;
    }
    for (let i = group.closed.length - 1; i >= group.closedHead; i--) {
      const connection = group.closed[i]!;
      if (connection.closeTo < window.answeredAfter - LINGER_MS - DISORDER_MS) break;
      if (fits(connection, attempt, window) && !visit(connection)) return;
    }
  }
}

/** Connections whose requests cannot be read: any of them may have carried the attempt, whatever else was seen. */
export function addUnreadable(
  index: FlowIndex,
  service: Service | undefined,
  attempt: Attempt,
  window: Window,
  candidates: Candidates,
): void {
  for (const group of service ? [service, index.unknown] : [index.unknown]) {
    if (group.unreadableKnownSince > window.answeredAfter && group.unreadableKnownSince !== -Infinity)
      candidates.several = true;
    let looked = 0;
    for (const connection of group.unreadable) {
      if (++looked > MAX_LOOKED_AT) candidates.several = true;
      if (candidates.several) return;
      if (fits(connection, attempt, window)) candidates.add(connection);
    }
  }
}

export function fits(connection: Connection, attempt: Attempt, window: Window): boolean {
  return (
    connection.openFrom <= window.end &&
    servedUntil(connection) >= window.answeredAfter &&
    (typeof attempt.localPort !== 'number' || attempt.localPort === connection.sport)
  );
}

/** Whether the sighting may be the attempt's request, as far as time, port, Service and size tell. */
export function mayBe(
  sighting: TappedRequest,
  service: Service | undefined,
  attempt: Attempt,
  window: Window,
): boolean {
  const { connection } = sighting;
  if (connection.service !== service && connection.service.vip !== undefined) return false;
  if (sighting.from > window.end || sighting.to < window.begin) return false;
  // What follows a body or a change of protocol may look like a request and be none.
  const certain = sighting.singleSegment && !mayBeInPieces(sighting, attempt);
  if (certain && sighting.endedBy < window.endedAfter) return false;
  if (typeof attempt.localPort === 'number' && attempt.localPort !== connection.sport) return false;
  if (sighting.received !== undefined) return countsAllow(sighting, attempt);
  if (typeof attempt.bytesSent !== 'number' || sighting.bytes === undefined) return true;
  // A request that fits its packet has exactly its size; the first packet of another holds no more than was sent in all.
  return sighting.singleSegment ? sighting.bytes === attempt.bytesSent : sighting.bytes <= attempt.bytesSent;
}
