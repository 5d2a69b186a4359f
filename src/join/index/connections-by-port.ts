import type {
  CloseRecord,
  OpenRecord,
  RequestRecord,
  ResponseRecord,
  UnreadableRecord,
} from '../../model/feed.ts';
import type { Connection, Service } from './connection.ts';

const NONE: readonly Connection[] = [];

/** The connections of the index by source port, oldest first. Few share one. */
export class ConnectionsByPort {
  readonly #byPort = new Map<number, Connection[]>();

  on(sport: number): readonly Connection[] {
    return this.#byPort.get(sport) ?? NONE;
  }

  add(connection: Connection): void {
    const samePort = this.#byPort.get(connection.sport);
    if (samePort) samePort.push(connection);
    else this.#byPort.set(connection.sport, [connection]);
  }

  remove(connection: Connection): void {
    const samePort = this.#byPort.get(connection.sport);
    if (!samePort || samePort.length <= 1) this.#byPort.delete(connection.sport);
    else samePort.splice(samePort.indexOf(connection), 1);
  }

  /** The youngest of the record's tuple, open or closed. Without a VIP (`service` is `unknown`) the backend has to agree. */
  youngest(
    flow: OpenRecord | CloseRecord | RequestRecord | ResponseRecord | UnreadableRecord,
    service: Service,
    unknown: Service,
  ): Connection | undefined {
    const samePort = this.on(flow.sport);
    for (let i = samePort.length - 1; i >= 0; i--) {
      const connection = samePort[i]!;
      if (connection.service !== service || connection.src !== flow.src) continue;
      const { backend } = connection;
      if (service !== unknown || (backend.ip === flow.ip && backend.port === flow.port)) return connection;
    }
    return undefined;
  }
}
