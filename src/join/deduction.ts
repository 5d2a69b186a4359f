/**
 * The one way to src/inferred, which names what the rules leave `ambiguous` from when connections were opened and closed:
 * where nginx opens one for each attempt, attempts and connections are pairs. The rules never ask it.
 */
import { LIVE, OFFLINE, TIMING_LIMITS, Timing } from '../inferred/timing.ts';

export type Deduction = Timing;

/** For `--evidence inferred`; `offline`: of a finished log, whose lines may come long after their evidence. */
export function deductionFor(
  evidence: 'exact' | 'inferred',
  { offline = false } = {},
): Deduction | undefined {
  if (evidence !== 'inferred') return undefined;
  if (!offline) return new Timing(TIMING_LIMITS, LIVE);
  const { flows, attempts, candidates } = TIMING_LIMITS;
  return new Timing({ flows: flows * 10, attempts: attempts * 10, candidates }, OFFLINE);
}
