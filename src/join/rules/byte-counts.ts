import type { Attempt } from '../../model/line.ts';
import type { Outcome } from '../../model/outcome.ts';
import { countsAgree, hasCounts, mayHold } from '../byte-counts.ts';
import { Candidates, fits, mayBe } from '../candidates.ts';
import {
  HIDDEN_KEPT_MS,
  mayHoldAnotherUntil,
  type Service,
  type TappedRequest,
} from '../index/connection.ts';
import type { FlowIndex } from '../index/flow-index.ts';
import type { Match } from '../match-result.ts';
import { resolve, sawAllRequests } from '../resolve.ts';
import { UNTIMED_MS, type Window } from '../window.ts';

/** Requests looked at for one attempt. With more in the window, it is left alone. */
const MAX_COUNTED = 4_096;
/**
 * Where requests are told by byte counts: how much later than the line says one is still looked at (ms). Covers an nginx
 * whose clock moves only now and then (`timer_resolution`).
 */
export const COUNTED_SLACK_MS = 100;

/**
 * By the requests in the window where only TCP headers are seen: by what was sent and received. The like of each line has to be on the wire;
 * where it is not, counts are no evidence, for a while (`CountTrust`).
 */
export function matchByCounts(
  attempt: Attempt,
  narrow: Window,
  readAt: number,
  service: Service | undefined,
  index: FlowIndex,
  match: Match,
): Outcome | undefined {
  if (!service || !hasCounts(attempt)) return undefined;
  const window = { ...narrow, end: Math.max(narrow.end, Math.min(readAt, narrow.end + COUNTED_SLACK_MS)) };
  if (!sawAllRequests(index, service, window, window.end - UNTIMED_MS, window.answeredAfter))
    return undefined;
  const remaining = new Candidates();
  let only: TappedRequest | undefined;
  let candidates = 0;
  let looked = 0;
  let agreed = false;
  let reset = false;
  for (const group of [service, index.unknown]) {
    for (let i = group.requests.length - 1; i >= 0; i--) {
      const sighting = group.requests[i]!;
      if (sighting.to < window.begin) break;
      if (++looked > MAX_COUNTED) return undefined;
      if (sighting.forgotten || !mayBe(sighting, service, attempt, window)) continue;
      agreed ||= countsAgree(sighting, attempt);
      reset ||= sighting.reset;
      remaining.add(sighting.connection);
      candidates++;
      only = sighting;
    }
  }
  // nginx has read less than came where it gave up in the middle: no disagreement.
  if (agreed || !reset) service.counts.seen(agreed, window.end);
  unseen(attempt, window, service, index, remaining);
  if (!remaining.backend || !agreed || !service.counts.trusts(window.begin)) return undefined;
  const outcome = resolve(attempt, remaining, true, window, index, 'request-window');
  if ('evidence' in outcome && candidates === 1) match.matched = [...match.matched, only!];
  return outcome;
}

/** Connections whose youngest requests may hold the attempt's. */
function unseen(
  attempt: Attempt,
  window: Window,
  service: Service,
  index: FlowIndex,
  remaining: Candidates,
): void {
  // What is over for longer is not remembered.
  if (window.begin < index.coverage.watermark - HIDDEN_KEPT_MS) remaining.several = true;
  for (const group of [service, index.unknown]) {
    let looked = 0;
    for (const connection of group.withHiddenRequest) {
      if (++looked > MAX_COUNTED) remaining.several = true;
      if (remaining.several) return;
      const { mayHoldAnother } = connection;
      if (
        !mayHoldAnother ||
        mayHoldAnotherUntil(connection) < window.begin ||
        !mayHold(mayHoldAnother, attempt)
      )
        continue;
      if (fits(connection, attempt, window)) remaining.add(connection);
    }
  }
}
