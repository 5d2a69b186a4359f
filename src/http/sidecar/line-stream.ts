import type { PendingBlock } from '../../join/pending.ts';
import type { LineFilter } from './line-filter.ts';
import type { RecentLines, ShownLine } from './recent.ts';

const MAX_CLIENTS = 16;
/** Interval at which lines are sent (ms), and lines for one client at a time; of more, the older ones are skipped. */
const ROUND_EVERY_MS = 150;
const MAX_LINES_A_ROUND = 60;
/** Bytes of lines between two rounds. Beyond, the oldest block is skipped without a look at its lines. */
const MAX_PENDING_BYTES = 1024 * 1024;
/** Unread text of a client (bytes). Beyond, it gets no lines until it has read. */
const MAX_UNREAD_LINES = 256 * 1024;
/** A client that reads nothing for this long (ms) is disconnected. */
const CUT_OFF_MS = 30_000;

/** Receives a client's lines. */
export interface LineOutlet {
  lines(lines: readonly ShownLine[]): void;
  /** This many lines were skipped here; an upper bound where they did not go through the filter. */
  skipped(count: number): void;
  /** Bytes that the client has not read. */
  readonly unread: number;
  cutOff(): void;
}

interface Client {
  accept: LineFilter;
  outlet: LineOutlet;
  skipped: number;
  /** Since when the client reads nothing, ms since the epoch. */
  stuckSince: number | undefined;
}

/**
 * Lines as they leave, for the page and terminals. Without a client nothing is rendered, and a client costs a bounded
 * number of lines a second. A slow client misses lines and gets their number.
 */
export class LineStream {
  readonly counters = { skipped: 0, cutOff: 0, refused: 0 };
  readonly #recent: RecentLines;
  readonly #clock: () => number;
  readonly #clients = new Set<Client>();
  #pending: PendingBlock<unknown>[] = [];
  #pendingBytes = 0;
  #unseen = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(recent: RecentLines, clock: () => number) {
    this.#recent = recent;
    this.#clock = clock;
  }

  get clients(): number {
    return this.#clients.size;
  }

  add(block: PendingBlock<unknown>): void {
    if (this.#clients.size === 0) return;
    this.#pending.push(block);
    this.#pendingBytes += block.bytes.length;
    while (this.#pendingBytes > MAX_PENDING_BYTES && this.#pending.length > 1) {
      const oldest = this.#pending.shift()!;
      this.#pendingBytes -= oldest.bytes.length;
      this.#unseen += oldest.lines.length;
    }
    this.#timer ??= setTimeout(() => this.round(), ROUND_EVERY_MS);
  }

  /** Adds a client and sends it the youngest `last` lines. Call the result to remove it; undefined if there are too many. */
  open(accept: LineFilter, last: number, outlet: LineOutlet): (() => void) | undefined {
    if (this.#clients.size >= MAX_CLIENTS) {
      this.counters.refused++;
      return undefined;
    }
    // Pending lines are among the recent ones too: the other clients get them now, this one below.
    this.round();
    const client: Client = { accept, outlet, skipped: 0, stuckSince: undefined };
    this.#clients.add(client);
    const lines = this.#recent.list(last, accept).reverse();
    if (lines.length > 0) outlet.lines(lines);
    return () => {
      this.#clients.delete(client);
      if (this.#clients.size === 0) this.close();
    };
  }

  /** Sends the lines since the last round. */
  round(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const blocks = this.#pending;
    const unseen = this.#unseen;
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#unseen = 0;
    for (const client of [...this.#clients]) this.#serve(client, blocks, unseen);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#unseen = 0;
    for (const { outlet } of [...this.#clients]) outlet.cutOff();
    this.#clients.clear();
  }

  #serve(client: Client, blocks: readonly PendingBlock<unknown>[], unseen: number): void {
    const { accept, outlet } = client;
    const chosen: [PendingBlock<unknown>, number][] = [];
    let skipped = unseen;
    for (let b = blocks.length - 1; b >= 0; b--) {
      const block = blocks[b]!;
      for (let i = block.lines.length - 1; i >= 0; i--) {
        if (!accept(block, i)) continue;
        if (chosen.length < MAX_LINES_A_ROUND) chosen.push([block, i]);
        else skipped++;
      }
    }
    const stuck = outlet.unread > MAX_UNREAD_LINES;
    if (stuck) {
      skipped += chosen.length;
      const now = this.#clock();
      client.stuckSince ??= now;
      if (now - client.stuckSince > CUT_OFF_MS) {
        this.counters.cutOff++;
        this.#clients.delete(client);
        outlet.cutOff();
      }
    } else {
      client.stuckSince = undefined;
    }
    this.counters.skipped += skipped;
    client.skipped += skipped;
    if (stuck) return;
    if (client.skipped > 0) outlet.skipped(client.skipped);
    client.skipped = 0;
    if (chosen.length > 0) outlet.lines(chosen.reverse().map(([block, i]) => this.#recent.show(block, i)));
  }
}
