import type { PendingBlock } from '../../join/pending.ts';
import type { LineFilter } from './line-filter.ts';
import type { RecentLines, ShownLine } from './recent.ts';

const MAX_CLIENTS = 16;
/** Lines are handed out this often (ms), and at most so many to a client at a time; the older ones of a rush are skipped. */
const EVERY_MS = 150;
const MAX_LINES = 60;
/** Bytes of lines between two rounds. Beyond, the oldest block is skipped unseen. */
const MAX_PENDING_BYTES = 1024 * 1024;
/** Text that a client has not taken (bytes): beyond, it gets no lines until it has. */
const MAX_UNREAD = 256 * 1024;
/** A client that reads nothing for this long (ms) is cut off. */
const CUT_OFF_MS = 30_000;

/** Where a client's lines go. */
export interface LineOutlet {
  lines(lines: readonly ShownLine[]): void;
  /** So many lines were left out here; at least, where the filter was not asked. */
  skipped(count: number): void;
  /** Bytes that were not taken yet. */
  readonly unread: number;
  cutOff(): void;
}

interface Client {
  accept: LineFilter;
  outlet: LineOutlet;
  skipped: number;
  /** Since when it reads nothing, ms since the epoch. */
  stuckSince: number | undefined;
}

/**
 * Lines as they leave, for those who watch. Nothing is rendered while nobody does, and however many lines there are, a
 * client costs a bounded number of them a second. A slow client misses lines and is told how many.
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
    this.#timer ??= setTimeout(() => this.round(), EVERY_MS);
  }

  /** Adds a client, first with the youngest `last` lines; undefined when there are too many. Call the result to remove it. */
  open(accept: LineFilter, last: number, outlet: LineOutlet): (() => void) | undefined {
    if (this.#clients.size >= MAX_CLIENTS) {
      this.counters.refused++;
      return undefined;
    }
    // What is pending is among the recent lines as well: the others get it now, this one below.
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

  /** Hands out what has come since the last round. */
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
        if (chosen.length < MAX_LINES) chosen.push([block, i]);
        else skipped++;
      }
    }
    const stuck = outlet.unread > MAX_UNREAD;
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
