import type { OpenRecord } from '../../model/feed.ts';
import { type Connection, clampTimesTo, newConnection, newService, type Service } from './connection.ts';

/** Connections remembered, about 400 bytes each. At the limit the oldest is dropped, and earlier lines get `gap`. */
const MAX_OPENINGS = 20_000;
/** Upstream addresses. The map is emptied at the limit; two objects for one address do no harm. */
const MAX_LOGGED_SERVICES = 1_000;

/**
 * If a source port is reused within this time (ms), its two connections could be confused: the kernel log may lack one of
 * them, and the times of its records are not exact. Linux uses thousands of other ports first, so this is a sign of a
 * narrow range of ports, or of too many connections. Nothing is resolved for some time before and after.
 */
const CYCLE_MS = 2_000;
const CYCLE_DISTRUST_MS = 60_000;

/** Connections from LOG records, which show how each began and not how it ended. */
export class LoggedOpens {
  readonly #byPort = new Map<number, Connection[]>();
  readonly #order: Connection[] = [];
  readonly #services = new Map<string, Service>();
  #next = 0;
  #cycledFrom = Infinity;
  #cycledTo = -Infinity;
  /** Every logged connection that opened after this time is in here. */
  knownSince = -Infinity;

  /** `watermark`: the connection opened after this, and by `record.t`. */
  add(record: OpenRecord, watermark: number): void {
    const { sport, ip, port, t } = record;
    const oldest = this.#order[this.#next];
    if (oldest) this.#forget(oldest);
    const connection = newConnection(record, this.#service(record), { ip, port }, watermark);
    this.#order[this.#next] = connection;
    this.#next = (this.#next + 1) % MAX_OPENINGS;
    const samePort = this.#byPort.get(sport);
    if (samePort) {
      const last = samePort[samePort.length - 1]!;
      // The same backend may be the same packet: retransmitted, or logged by another rule.
      const another = last.backend.ip !== ip || last.backend.port !== port;
      if (another && last.service === connection.service && t - last.openTo < CYCLE_MS) this.#cycled(t);
      samePort.push(connection);
    } else {
      this.#byPort.set(sport, [connection]);
    }
  }

  #cycled(t: number): void {
    if (t - this.#cycledTo > CYCLE_DISTRUST_MS) this.#cycledFrom = t;
    this.#cycledTo = t;
  }

  /** The clock was set back to `t`. */
  onClockRollback(t: number): void {
    for (const connection of this.#order) clampTimesTo(connection, t);
    this.knownSince = Math.min(this.knownSince, t);
    this.#cycledTo = Math.min(this.#cycledTo, t);
  }

  /** Whether a source port was reused too soon around this time. */
  cycledAround(time: number): boolean {
    return time > this.#cycledFrom - CYCLE_DISTRUST_MS && time < this.#cycledTo + CYCLE_DISTRUST_MS;
  }

  /** Oldest first. */
  onPort(sport: number): readonly Connection[] {
    return this.#byPort.get(sport) ?? [];
  }

  #forget(connection: Connection): void {
    this.knownSince = Math.max(this.knownSince, connection.openTo);
    const samePort = this.#byPort.get(connection.sport);
    if (!samePort) return;
    samePort.splice(samePort.indexOf(connection), 1);
    if (samePort.length === 0) this.#byPort.delete(connection.sport);
  }

  #service({ vip, vport }: OpenRecord): Service {
    const key = `${vip} ${vport}`;
    let service = this.#services.get(key);
    if (!service) {
      if (this.#services.size >= MAX_LOGGED_SERVICES) this.#services.clear();
      service = newService(vip, vport);
      this.#services.set(key, service);
    }
    return service;
  }
}
