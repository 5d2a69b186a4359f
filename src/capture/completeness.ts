/** The gaps of each source, as records. */
import type { Observation, Source } from '../model/feed.ts';

export type GapObservation = Extract<Observation, { kind: 'gap' }>;

interface Health {
  /** The source is incomplete until `mend`. */
  impaired: boolean;
  /** Events were lost after the last watermark, or, with `from`, after that time. */
  lossy: boolean;
  lost: number;
  from: number;
}

export class Completeness {
  readonly #health = new Map<Source, Health>();

  constructor(sources: readonly Source[]) {
    for (const source of sources) {
      this.#health.set(source, { impaired: false, lossy: false, lost: 0, from: Number.POSITIVE_INFINITY });
    }
  }

  get sources(): Source[] {
    return [...this.#health.keys()];
  }

  /** The source is incomplete from now (or from `from`, if that is earlier than the last watermark) until `mend`. */
  impair(source: Source, from = Number.POSITIVE_INFINITY): void {
    const health = this.#health.get(source);
    if (health === undefined) return;
    health.impaired = true;
    health.from = Math.min(health.from, from);
  }

  /** The source is complete again from now on; one more gap covers the time before. */
  mend(source: Source): void {
    const health = this.#health.get(source);
    if (health === undefined) return;
    if (health.impaired) health.lossy = true;
    health.impaired = false;
  }

  /** The source lost `count` events (0: unknown) between the last watermark (or `from`) and now. */
  lose(source: Source, count: number, from = Number.POSITIVE_INFINITY): void {
    const health = this.#health.get(source)!;
    health.lossy = true;
    health.lost += count;
    health.from = Math.min(health.from, from);
  }

  /** The gaps between the last watermark and `t`. */
  gaps(watermark: number, t: number): GapObservation[] {
    const gaps: GapObservation[] = [];
    for (const [source, health] of this.#health) {
      if (!health.impaired && !health.lossy) continue;
      const gap: GapObservation = { kind: 'gap', t, source, from: Math.min(health.from, watermark) };
      if (health.lost > 0) gap.lost = health.lost;
      gaps.push(gap);
      health.lossy = false;
      health.lost = 0;
      health.from = Number.POSITIVE_INFINITY;
    }
    return gaps;
  }
}
