/** Keeps the addresses in the tap's table, and has the table log again what it logs once. */
import type { Completeness } from '../completeness.ts';
import { ELEMENT_TIMEOUT_MS } from './nft-message.ts';
import type { TapTable } from './nft-table.ts';

/** The table's addresses are set again at this interval (ms), and expire after `ELEMENT_TIMEOUT_MS`. */
const REFRESH_MS = 10_000;
/** Without a refresh for this long (ms) they may have expired. */
const LAPSE_MS = ELEMENT_TIMEOUT_MS - 5_000;
/** After a failure, and between two losses of packets after which the table has to log again (ms). */
const RETRY_MS = 1_000;

export interface ServedAddressesParts {
  table: Pick<TapTable, 'name' | 'setAddresses'>;
  /** The subscribed addresses of now, and those of them whose answers are logged (canonical text). */
  addresses(): string[];
  answered(): string[];
  completeness: Completeness;
  /** After this monotonic time (ms) the tap counts as impaired. */
  goodUntil(monotonic: number): void;
  clock: { wall(): number; monotonic(): number };
  onRestored(): void;
  log(level: 'error', message: string): void;
}

export class ServedAddresses {
  readonly #parts: ServedAddressesParts;
  #running = 0;
  #fails = false;
  #due = 0;
  #setAt = 0;
  /** Losses of packets, and the last of them after which the table began to log again. */
  #losses = 0;
  #coveredLosses = 0;
  #againDue = 0;
  #closed = false;

  constructor(parts: ServedAddressesParts) {
    this.#parts = parts;
  }

  close(): void {
    this.#closed = true;
  }

  /** An address is served no longer: with the next check. */
  changed(): void {
    this.#due = 0;
  }

  /**
   * Packets were lost. One of them may have been the only one that is logged of a connection whose requests cannot be read:
   * the tap is incomplete until the table logs another one of each.
   */
  lost(): void {
    this.#losses++;
    this.#parts.completeness.impair('tap');
    const now = this.#parts.clock.monotonic();
    if (now < this.#againDue) {
      this.#due = Math.min(this.#due, this.#againDue);
    } else if (this.#running === 0) {
      void this.set().catch(() => {});
    } else {
      this.#due = 0;
    }
  }

  /** At this monotonic time (ms). */
  check(now: number): void {
    if (this.#running === 0 && now >= this.#due) void this.set().catch(() => {});
  }

  /**
   * Sets all addresses. While this fails the tap is incomplete. `again`: of each connection whose requests cannot be read a
   * packet is logged again, as those of a new address may have been logged when nobody read them.
   */
  async set(again = false): Promise<void> {
    const { table, addresses, answered, completeness, goodUntil, clock, onRestored, log } = this.#parts;
    const begun = clock.monotonic();
    const losses = this.#losses;
    const afterLoss = losses > this.#coveredLosses;
    if (afterLoss) this.#againDue = begun + RETRY_MS;
    this.#running++;
    this.#due = begun + RETRY_MS;
    try {
      const outcome = await table.setAddresses(addresses(), answered(), again || afterLoss);
      if (outcome === 'restored') {
        onRestored();
        log(
          'error',
          `the table inet ${table.name} was removed and is created again: some requests were not seen`,
        );
        completeness.impair('tap', this.#setAt);
      }
      this.#setAt = clock.wall();
      this.#fails = false;
      this.#coveredLosses = Math.max(this.#coveredLosses, losses);
      if (this.#coveredLosses === this.#losses) {
        this.#due = begun + REFRESH_MS;
        goodUntil(begun + LAPSE_MS);
      }
    } catch (error) {
      completeness.impair('tap', this.#setAt);
      if (!this.#fails && !this.#closed)
        log('error', `${(error as Error).message}; requests are not seen until this works again`);
      this.#fails = true;
      throw error;
    } finally {
      this.#running--;
    }
  }
}
