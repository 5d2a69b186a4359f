/** A connection of a client to nginx. Times in ms since the epoch. */
export interface Incoming {
  /** nginx's address and port. */
  readonly dst: string;
  readonly dport: number;
  readonly peer: string;
  readonly peerPort: number;
  readonly client: string;
  readonly clientPort: number;
  /** It was not open before; -Infinity: not known. */
  openFrom: number;
  /** It had ended by then; Infinity: open. */
  closedAt: number;
  /** Both sides' FINs had passed: nginx had sent its own, which it does after it has written the line. */
  fin: boolean;
}

/** When the line's request can have run, in ms since the epoch. */
export interface LineTime {
  /** It had begun by then. */
  begunBy: number;
  /** Ends by FIN before this are no candidates, and ends of other kinds before `goneAfter`. */
  finAfter: number;
  goneAfter: number;
}

/** Connections visited for one line. With more, any client is possible. */
const MAX_VISITED = 512;

/** The clients that remain possible. */
export class Found {
  client: string | undefined;
  several = false;
  /** One that comes from another address than the line's was found. */
  foreign = false;
  /** The only connection; undefined where there are more. */
  connection: Incoming | undefined;
  count = 0;
  visited = 0;
  readonly #peer: string;

  constructor(peer: string) {
    this.#peer = peer;
  }

  add(connection: Incoming): void {
    this.connection = ++this.count === 1 ? connection : undefined;
    if (connection.peer !== this.#peer) this.foreign = true;
    if (this.client === undefined) this.client = connection.client;
    else if (this.client !== connection.client) this.several = true;
  }
}

export function mayHaveCarried({ openFrom, closedAt, fin }: Incoming, time: LineTime): boolean {
  return openFrom <= time.begunBy && closedAt >= (fin ? time.finAfter : time.goneAfter);
}

/** Connections by how they ended, for questions that no port narrows. */
export class ConnectionGroup {
  readonly opened = new Set<Incoming>();
  readonly #fin = new Fifo();
  readonly #gone = new Fifo();

  get isEmpty(): boolean {
    return this.size === 0;
  }

  get size(): number {
    return this.opened.size + this.#fin.length + this.#gone.length;
  }

  get ended(): number {
    return this.#fin.length + this.#gone.length;
  }

  /** Its `closedAt` and `fin` are set. */
  close(connection: Incoming): void {
    this.opened.delete(connection);
    (connection.fin ? this.#fin : this.#gone).push(connection);
  }

  /** The one that ended first, by FIN or otherwise. */
  oldest(fin: boolean): Incoming | undefined {
    return (fin ? this.#fin : this.#gone).first;
  }

  /** Drops the one that `oldest` returns. */
  dropOldest(fin: boolean): void {
    (fin ? this.#fin : this.#gone).shift();
  }

  find(time: LineTime, found: Found): void {
    for (const connection of this.opened) {
      if (this.#visit(connection, time, found)) return;
    }
    for (const [list, after] of [
      [this.#fin, time.finAfter],
      [this.#gone, time.goneAfter],
    ] as const) {
      for (let i = list.length - 1; i >= 0; i--) {
        const connection = list.at(i);
        if (connection.closedAt < after) break;
        if (this.#visit(connection, time, found)) return;
      }
    }
  }

  /** True where the answer is known. */
  #visit(connection: Incoming, time: LineTime, found: Found): boolean {
    if (++found.visited > MAX_VISITED) found.several = true;
    if (mayHaveCarried(connection, time)) found.add(connection);
    return found.several;
  }
}

/** First in, first out, in the order of `closedAt`. */
class Fifo {
  #items: Incoming[] = [];
  #head = 0;

  get length(): number {
    return this.#items.length - this.#head;
  }

  get first(): Incoming | undefined {
    return this.#items[this.#head];
  }

  at(i: number): Incoming {
    return this.#items[this.#head + i]!;
  }

  push(item: Incoming): void {
    this.#items.push(item);
  }

  shift(): void {
    this.#head++;
    if (this.#head * 2 < this.#items.length) return;
    this.#items = this.#items.slice(this.#head);
    this.#head = 0;
  }
}
