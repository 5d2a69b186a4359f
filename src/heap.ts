import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8';

/** The size that V8 reports for a young generation with two halves of 4 MB. */
const YOUNG_BYTES = 8 * 1024 * 1024;
const TUNE_EVERY_MS = 100;

/**
 * Lines and records are short-lived. With V8's default young generation (3 × 16 MB) a busy process would retain mostly garbage,
 * and with the initial 1 MB a sidecar would spend half of its CPU in collections. So the young generation grows to 4 MB and no further; V8 itself
 * shrinks it when the process is idle.
 */
export class YoungGeneration {
  #looked = Number.NEGATIVE_INFINITY;
  #growing = true;

  /** `smallOld`: the old generation is small, and is collected earlier, too. */
  constructor(smallOld: boolean) {
    if (smallOld) setFlagsFromString('--heap-growing-percent=20');
  }

  /** Call it often. `now`: ms. */
  tune(now: number): void {
    if (Math.abs(now - this.#looked) < TUNE_EVERY_MS) return;
    this.#looked = now;
    const size = getHeapSpaceStatistics().find((space) => space.space_name === 'new_space')?.space_size ?? 0;
    const grow = size < YOUNG_BYTES;
    if (grow === this.#growing) return;
    this.#growing = grow;
    setFlagsFromString(`--semi-space-growth-factor=${grow ? 2 : 1}`);
  }
}
