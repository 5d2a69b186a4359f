import type { OpenReader } from './readers.ts';

/** Share of its time after which a batch, or a watermark without one, is sent: the next reading may be a whole one later. */
const NEARLY = 0.9;
/** Share of `batchMs` after which a batch is sent without a reading of its own accord. */
const WITHOUT_READING = 1.2;

export interface DeliveryParts {
  clock(): number;
  /** Interval of watermarks for a reader without records (ms). */
  quietTickMs: number;
  /** Reads all events up to now, and calls `read`. */
  flush(): void;
}

/**
 * When a reader gets its records: what was read over its `batchMs` together, each reading with its watermark, and once more a
 * watermark after the last of them, for the lines that were written meanwhile. Without `batchMs`, each reading at once.
 */
export class Delivery {
  readonly #parts: DeliveryParts;
  #timer: NodeJS.Timeout | undefined;

  constructor(parts: DeliveryParts) {
    this.#parts = parts;
  }

  /**
   * A reading was added to the readers' `pending`; `tick` is its watermark. `followed`: another one follows within a batch in
   * any case.
   */
  read(readers: Iterable<OpenReader>, tick: string, followed: boolean): void {
    const now = this.#parts.clock();
    let next = Infinity;
    for (const reader of readers) {
      if (reader.wantsTick || this.#isDue(reader, now)) this.send(reader, tick);
      else if (reader.pending.size > reader.tickedTo) {
        reader.pending.lines(tick);
        reader.tickedTo = reader.pending.size;
      }
      if (!followed && holds(reader))
        next = Math.min(next, reader.lastTick + reader.batchMs * WITHOUT_READING);
    }
    clearTimeout(this.#timer);
    this.#timer = next === Infinity ? undefined : setTimeout(this.#late, Math.max(1, next - now), readers);
    this.#timer?.unref();
  }

  send(reader: OpenReader, tick: string): void {
    const { pending } = reader;
    reader.owesTick = reader.batchMs > 0 && pending.size > 0;
    pending.lines(tick);
    reader.tickedTo = 0;
    reader.wantsTick = false;
    reader.lastTick = this.#parts.clock();
    if (pending.size > 0) reader.write(pending.take());
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #isDue(reader: OpenReader, now: number): boolean {
    if (reader.pending.isFull) return true;
    const age = now - reader.lastTick;
    return age < 0 || age >= NEARLY * (holds(reader) ? reader.batchMs : this.#parts.quietTickMs);
  }

  readonly #late = (readers: Iterable<OpenReader>): void => {
    const now = this.#parts.clock();
    for (const reader of readers) if (holds(reader) && this.#isDue(reader, now)) reader.wantsTick = true;
    this.#parts.flush();
  };
}

function holds(reader: OpenReader): boolean {
  return reader.pending.size > 0 || reader.owesTick;
}
