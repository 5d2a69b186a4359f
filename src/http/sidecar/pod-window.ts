import { LATENCY_BUCKETS, latencyBucket, quantile } from './latency.ts';

export const SLOT_MS = 10_000;
/** The last 15 minutes. */
export const SLOTS = 90;
/** A ring without an entry for this long (ms) is empty. */
export const EMPTY_AFTER_MS = SLOTS * SLOT_MS;

/** Counts of one slot of time, or the sum of several. */
export interface Tally {
  requests: number;
  errors: number;
  /** By latencyBucket(); empty where nothing was timed. */
  latency: Uint32Array;
}

interface Slot extends Tally {
  /** Epoch milliseconds divided by SLOT_MS. */
  number: number;
}

/** Points of the last 15 minutes, oldest first; the last is not complete. */
export interface Series {
  requests: number[];
  errors: number[];
  p95Ms: (number | null)[];
}

/** A pod's last 15 minutes as a ring of slots. About 30 KB when every slot has seen requests. */
export class PodWindow {
  readonly #slots: (Slot | undefined)[] = new Array<Slot | undefined>(SLOTS).fill(undefined);

  /** Counts a request of the time `at`. One older than the ring holds is left out. */
  add(at: number, error: boolean, ms: number | undefined): void {
    const number = Math.floor(at / SLOT_MS);
    const place = number % SLOTS;
    let slot = this.#slots[place];
    if (!slot) {
      slot = { number, requests: 0, errors: 0, latency: new Uint32Array(LATENCY_BUCKETS) };
      this.#slots[place] = slot;
    } else if (slot.number !== number) {
      if (slot.number > number) return;
      slot.number = number;
      slot.requests = 0;
      slot.errors = 0;
      slot.latency.fill(0);
    }
    slot.requests++;
    if (error) slot.errors++;
    if (ms !== undefined) slot.latency[latencyBucket(ms)]!++;
  }

  /** The sum over the last `slots` slots, that of `now` included. */
  sum(now: number, slots: number): Tally {
    const sum: Tally = { requests: 0, errors: 0, latency: new Uint32Array(LATENCY_BUCKETS) };
    const last = Math.floor(now / SLOT_MS);
    for (const slot of this.#slots) {
      if (!slot || slot.number > last || slot.number <= last - slots) continue;
      sum.requests += slot.requests;
      sum.errors += slot.errors;
      for (let b = 0; b < LATENCY_BUCKETS; b++) sum.latency[b]! += slot.latency[b]!;
    }
    return sum;
  }

  series(now: number): Series {
    const series: Series = { requests: [], errors: [], p95Ms: [] };
    const last = Math.floor(now / SLOT_MS);
    for (let number = last - SLOTS + 1; number <= last; number++) {
      const slot = this.#slots[number % SLOTS];
      const live = slot?.number === number ? slot : undefined;
      series.requests.push(live?.requests ?? 0);
      series.errors.push(live?.errors ?? 0);
      series.p95Ms.push(live ? quantile(live.latency, 0.95) : null);
    }
    return series;
  }
}
