import { isOneWrite } from '../byte-counts.ts';
import {
  addHidden,
  addUnreadable,
  addUnusedConnections,
  Candidates,
  MAX_LOOKED_AT,
  mayBe,
  servicesOf,
} from '../candidates.ts';
import type { FlowIndex } from '../index/flow-index.ts';
import type { Query, Verdict } from '../query.ts';
import { beganWithinRecord, remembersUnusedConnections, resolve, sawAllRequests } from '../resolve.ts';
import { UNTIMED_MS } from '../window.ts';

/**
 * By the requests in the window, on any connection, without those that another line was resolved by and those of another
 * size. Method and target on the wire prove nothing, as nginx may have rewritten them. Where only TCP headers are seen,
 * sizes are for the rule byte-counts, which learns whether they are those of the log; here the time alone counts, of requests
 * whose beginning is on record with their end.
 */
export function matchByRequestWindow(given: Query, index: FlowIndex): Verdict | undefined {
  const counted = index.counted.active;
  if (counted && !isOneWrite(given.attempt)) return undefined;
  const query = counted ? { ...given, attempt: { ...given.attempt, bytesReceived: undefined } } : given;
  const { line, service, window, carried } = query;
  if (carried !== 'yes' || !service) return undefined;
  if (!beganWithinRecord(query, index)) return undefined;
  if (!sawAllRequests(query, index, window.writtenAfter - UNTIMED_MS, window.answeredAfter)) return undefined;
  if (!remembersUnusedConnections(query, index)) return undefined;
  const remaining = new Candidates();
  let visited = 0;
  for (const each of servicesOf(query, index)) {
    for (let i = each.requests.length - 1; i >= 0; i--) {
      const request = each.requests[i]!;
      if (request.to < window.begin) break;
      index.counters.visited++;
      if (++visited > MAX_LOOKED_AT || remaining.several) return undefined;
      if (request.forgotten || !mayBe(request, query)) continue;
      // A different id alone proves nothing: where nginx sets no header, the client's passes through.
      if (request.matched && request.id !== line.id) continue;
      remaining.add(request.connection);
    }
  }
  // Connections without a readable request: another protocol, or packets that do not pass the tap's hooks.
  addUnreadable(query, index, remaining);
  if (counted) addHidden(query, index, remaining);
  const retryAtNextWatermark = !remaining.several && addUnusedConnections(query, -Infinity, index, remaining);
  const outcome = resolve(query, index, remaining, true, 'request-window');
  return { outcome, hasCounterpart: !remaining.none, retryAtNextWatermark };
}
