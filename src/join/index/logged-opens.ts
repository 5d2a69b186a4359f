import type { OpenRecord } from '../../model/feed.ts';
import { type Connection, clampTimesTo, newConnection, newService, type Service } from './connection.ts';

/** Connections remembered, about 400 bytes each. At the limit the oldest goes, and lines from before it get `gap`. */
const MAX_OPENINGS = 20_000;
/** Upstream addresses; an equal one may have two objects after the limit was reached, which does no harm. */
const MAX_LOGGED_SERVICES = 1_000;

/**
 * Ports that come round this soon (ms) could be mistaken for one another: a rule may have missed one of the two, and the
 * times of records are not exact. Linux takes thousands of others first, so this is a sign of a narrow range of ports,
 * or of more connections than the kernel log is good for. Nothing is resolved for some time before and after.
 */
const CYCLE_MS = 2_000;
const CYCLE_DISTRUST_MS = 60_000;

/** Connections as LOG records tell them: how each began, and nothing of its end. */
export class LoggedOpens {
  readonly #byPort = new Map<number, Connection[]>();
  readonly #order: Connection[] = [];
  readonly #services = new Map<string, Service>();
  #next = 0;
  #cycledFrom = Infinity;
  #cycledTo = -Infinity;
  /** All that opened after this is remembered. */
  knownSince = -Infinity;

  /** `watermark`: it was opened after this, and by `record.t`. */
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
      // The same backend again may be the same packet, sent again or logged by another rule.
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

  /** Whether source ports came round too fast about this time. */
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
