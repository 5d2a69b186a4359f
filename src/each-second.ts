const SECOND_MS = 1_000;
/**
 * How long before a full second (ms). Lines that bear whole seconds then divide at that moment into those of requests before and
 * after it.
 */
const BEFORE_MS = 10;

/**
 * Until the moment of this second, or the next one, for all that is looked at once a second (ms): looks at one moment share a
 * wake-up. `now`: ms since the epoch.
 */
export function untilLook(now: number): number {
  const left = SECOND_MS - BEFORE_MS - (now % SECOND_MS);
  return left > BEFORE_MS ? left : left + SECOND_MS;
}
