import { countsAgree, hasCounts } from '../byte-counts.ts';
import { addHidden, addUnreadable, Candidates, MAX_COUNTED, mayBe, servicesOf } from '../candidates.ts';
import type { TappedRequest } from '../index/connection.ts';
import type { FlowIndex } from '../index/flow-index.ts';
import type { Query, Verdict } from '../query.ts';
import { beganWithinRecord, resolve, sawAllRequests } from '../resolve.ts';
import { UNTIMED_MS } from '../window.ts';

/**
 * How much later than the line's end a request may be seen (ms). Covers an nginx whose clock moves in coarse steps
 * (`timer_resolution`).
 */
export const COUNTED_SLACK_MS = 100;

/**
 * By the bytes sent and received, where the tap copies TCP headers only: the requests in the window with the line's counts.
 * Its evidence is `request-window`. Each line must have such a request in the record; after one that has none, counts are
 * no evidence for a while (`Trust`, which learns here from each line).
 */
export function matchByByteCounts(given: Query, index: FlowIndex): Verdict | undefined {
  const { service, attempt, readAt, carried } = given;
  if (carried !== 'yes' || !index.counted.active || !service || !hasCounts(attempt)) return undefined;
  const { end } = given.window;
  const window = { ...given.window, end: Math.max(end, Math.min(readAt, end + COUNTED_SLACK_MS)) };
  const query: Query = { ...given, window };
  if (!beganWithinRecord(query, index)) return undefined;
  if (!sawAllRequests(query, index, window.writtenAfter - UNTIMED_MS, window.answeredAfter)) return undefined;
  const remaining = new Candidates();
  let only: TappedRequest | undefined;
  let candidates = 0;
  let visited = 0;
  let agreed = false;
  let unclear = false;
  for (const each of servicesOf(query, index)) {
    // More of them change nothing once one has the line's counts and they lead to several pods.
    for (let i = each.requests.length - 1; i >= 0 && !(agreed && remaining.several); i--) {
      const request = each.requests[i]!;
      if (request.to < window.begin) break;
      if (++visited > MAX_COUNTED) return undefined;
      index.counters.visited++;
      if (request.forgotten || !mayBe(request, query)) continue;
      agreed ||= countsAgree(request, attempt);
      unclear ||= request.reset || request.sent === undefined;
      remaining.add(request.connection);
      candidates++;
      only = request;
    }
  }
  const trust = index.counted.trust(service);
  // Where nginx aborted the exchange it has read less than was sent, and one that began unseen has no counts: no disagreement.
  if (agreed || !unclear) trust.seen(agreed, window.end);
  addUnreadable(query, index, remaining);
  addHidden(query, index, remaining);
  if (!remaining.backend || !agreed || !trust.trusts(window.begin)) return undefined;
  const outcome = resolve(query, index, remaining, true, 'request-window');
  return { outcome, matched: 'evidence' in outcome && candidates === 1 ? only : undefined };
}
