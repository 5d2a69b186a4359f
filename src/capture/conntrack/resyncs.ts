/** When the flow table is compared with the kernel's table, and how it recovers from a loss of events. */
import { setTimeout as delay } from 'node:timers/promises';
import type { CaptureStats } from '../capture.ts';
import { CaptureError } from '../error.ts';
import type { SourceMerge } from '../merge.ts';
import type { Libc } from '../netlink/libc.ts';
import type { FlowTable } from './flow-table.ts';
import { type ResyncTarget, resync } from './resync.ts';

/** Interval of resyncs for connections whose end may produce no event (ms); shorter after a resync that missed one. */
const RESYNC_MS = 30_000;
const RESYNC_SOON_MS = 1_000;
const RETRY_MS = 1_000;
const RESYNC_TRIES = 5;

export interface ResyncsOptions {
  libc: Libc;
  flows: FlowTable;
  reader: SourceMerge;
  /** The subscribed addresses of now. */
  watched: ReadonlyMap<string, ResyncTarget>;
  stats: CaptureStats;
  /** Limit of the flow table, for the log. */
  maxFlows: number;
  log(level: 'info' | 'warn' | 'error', message: string): void;
}

export class Resyncs {
  readonly #options: ResyncsOptions;
  /** A resync of `resyncUnsure` runs. */
  #checking = false;
  /** Monotonic time of the next one (ms). */
  #due = 0;
  /** They run one after the other; all requests during one share the next. */
  #running: Promise<unknown> = Promise.resolve();
  #nextTargets: Map<string, ResyncTarget> | undefined;
  #next: Promise<void> | undefined;
  /** Counts losses of conntrack events; a recovery is complete if none happened during it. */
  #losses = 0;
  #recovering = false;
  #closed = false;

  constructor(options: ResyncsOptions) {
    this.#options = options;
  }

  close(): void {
    this.#closed = true;
  }

  /** Resolves after a resync of these addresses that begins after this call. Rejects after several failures. */
  of(targets: ReadonlyMap<string, ResyncTarget>): Promise<void> {
    this.#nextTargets ??= new Map();
    for (const [src, watched] of targets) this.#nextTargets.set(src, watched);
    this.#next ??= this.#running.then(() => {
      const batch = this.#nextTargets!;
      this.#nextTargets = undefined;
      this.#next = undefined;
      return this.#withRetries(batch);
    });
    this.#running = this.#next.catch(() => {});
    return this.#next;
  }

  /** Starts the periodic resync if it is due at this monotonic time (ms). */
  tick(now: number): void {
    if (!this.#checking && now >= this.#due) void this.#ofUnsure();
  }

  /** Lists the connections again after a loss of events, until no event is lost meanwhile. */
  recover(): void {
    this.#losses++;
    this.#options.flows.eventsLost();
    if (this.#recovering) return;
    this.#recovering = true;
    void this.#recoverUntilDone().finally(() => {
      this.#recovering = false;
    });
  }

  async #ofUnsure(): Promise<void> {
    const { flows, log } = this.#options;
    const { sources } = flows.unsure();
    this.#due = performance.now() + RESYNC_MS;
    if (sources.length === 0) return;
    this.#checking = true;
    try {
      await this.of(this.#targets(sources));
      if (flows.unsure().missing) this.#due = performance.now() + RESYNC_SOON_MS;
    } catch (error) {
      log('warn', `${(error as Error).message}; closed connections may be kept for longer`);
    } finally {
      this.#checking = false;
    }
  }

  async #recoverUntilDone(): Promise<void> {
    const { flows, reader, watched, maxFlows, log } = this.#options;
    const refused = flows.refused;
    for (let done = false; !done; ) {
      const losses = this.#losses;
      flows.markUnsure();
      try {
        await this.of(this.#targets(watched.keys()));
        done = losses === this.#losses && !flows.full;
      } catch (error) {
        if (!this.#closed) log('error', (error as Error).message);
      }
      if (this.#closed) return;
      // A flood of events, or too many connections: try again later.
      while (!done && !this.#closed) {
        await delay(RETRY_MS, undefined, { ref: false });
        if (!flows.full) break;
      }
    }
    reader.completeness.mend('conntrack');
    this.#due = performance.now() + RESYNC_SOON_MS;
    const cause =
      flows.refused > refused
        ? `there were more than ${maxFlows} connections at a time`
        : 'conntrack events were lost: the receive buffer was full';
    log('error', `${cause}. The connections were listed again; lines of that time stay unchanged`);
  }

  #targets(sources: Iterable<string>): Map<string, ResyncTarget> {
    const targets = new Map<string, ResyncTarget>();
    for (const src of sources) {
      const target = this.#options.watched.get(src);
      if (target) targets.set(src, target);
    }
    return targets;
  }

  async #withRetries(targets: ReadonlyMap<string, ResyncTarget>): Promise<void> {
    const { libc, flows, reader, watched, stats } = this.#options;
    if (targets.size === 0) return;
    for (let attempt = 1; ; attempt++) {
      if (this.#closed) throw new CaptureError('closed', 'capturing has ended');
      stats.conntrackDumps++;
      try {
        const isCurrent = (src: string, target: ResyncTarget) => watched.get(src) === target;
        const refused = flows.refused;
        await resync(libc, flows, reader, targets, isCurrent);
        if (flows.refused > refused) {
          reader.completeness.impair('conntrack');
          this.recover();
        }
        return;
      } catch (error) {
        if (attempt >= RESYNC_TRIES || this.#closed) throw error;
        await delay(RETRY_MS, undefined, { ref: false });
      }
    }
  }
}
