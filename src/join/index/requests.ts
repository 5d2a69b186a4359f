import { type Sighting, servedUntil } from './connection.ts';
import { AgeOrder } from './fifo-list.ts';

/** Sightings of one id that are told apart. More may be any line's that has this id. */
const MAX_REPEATS = 64;

/**
 * The requests seen, by their ids. One that is still on its connection is kept with it; what is over is kept until its
 * line has come and a little longer, for lines that carry the same id, or until a limit is reached: then
 * `sightingsKnownSince` of its Service says from when on the memory is complete.
 */
export class Sightings {
  readonly #limits: { sightings: number; usedSightings: number };
  readonly #counters: { forgottenSightings: number };
  readonly #byId = new Map<string, Sighting>();
  readonly #ended = new AgeOrder<Sighting>();
  readonly #used = new AgeOrder<Sighting>();

  constructor(
    limits: { sightings: number; usedSightings: number },
    counters: { forgottenSightings: number },
  ) {
    this.#limits = limits;
    this.#counters = counters;
  }

  get size(): number {
    return this.#ended.size + this.#used.size;
  }

  /** The youngest with this id; the others hang on `older`. */
  youngest(id: string): Sighting | undefined {
    return this.#byId.get(id);
  }

  add(sighting: Sighting): void {
    const { id } = sighting;
    const { service } = sighting.connection;
    service.sightings.push(sighting);
    if (id === undefined) {
      service.withoutId.push(sighting);
      return;
    }
    const older = this.#byId.get(id);
    if (older && older.repeats >= MAX_REPEATS) {
      const repeated = service.repeated.get(id);
      if (repeated) repeated.push(sighting);
      else service.repeated.set(id, [sighting]);
      return;
    }
    sighting.older = older;
    sighting.repeats = older ? older.repeats + 1 : 1;
    this.#byId.set(id, sighting);
  }

  /** These have found their line. */
  learn(used: readonly Sighting[]): void {
    for (const sighting of used) {
      sighting.used = true;
      if (this.#ended.delete(sighting)) this.#endUsed(sighting);
    }
  }

  /** Its connection has gone on, or is closed. */
  end(sighting: Sighting): void {
    if (sighting.ended) return;
    sighting.ended = true;
    if (sighting.used) {
      this.#endUsed(sighting);
      return;
    }
    this.#ended.add(sighting);
    if (this.#ended.size <= this.#limits.sightings) return;
    const oldest = this.#ended.oldest!;
    const { service } = oldest.connection;
    const until = Math.min(oldest.endedBy, servedUntil(oldest.connection));
    service.sightingsKnownSince = Math.max(service.sightingsKnownSince, until);
    this.#counters.forgottenSightings++;
    this.forget(oldest);
  }

  forget(sighting: Sighting): void {
    sighting.forgotten = true;
    sighting.order?.delete(sighting);
    const { service } = sighting.connection;
    service.forgottenSightings++;
    if (service.forgottenSightings > 64 && service.forgottenSightings * 2 > service.sightings.length) {
      service.sightings = service.sightings.filter((s) => !s.forgotten);
      service.withoutId = service.withoutId.filter((s) => !s.forgotten);
      for (const [id, repeated] of service.repeated) {
        const left = repeated.filter((s) => !s.forgotten);
        if (left.length > 0) service.repeated.set(id, left);
        else service.repeated.delete(id);
      }
      service.forgottenSightings = 0;
    }
    if (sighting.id === undefined || sighting.repeats === 0) return;
    const youngest = this.#byId.get(sighting.id);
    if (youngest === sighting) {
      if (sighting.older) this.#byId.set(sighting.id, sighting.older);
      else this.#byId.delete(sighting.id);
      return;
    }
    for (let s = youngest; s; s = s.older) {
      if (s.older === sighting) {
        s.older = sighting.older;
        return;
      }
    }
  }

  #endUsed(sighting: Sighting): void {
    this.#used.add(sighting);
    if (this.#used.size > this.#limits.usedSightings) this.forget(this.#used.oldest!);
  }
}
