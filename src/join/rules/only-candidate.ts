import type { Attempt, ParsedLine } from '../../model/line.ts';
import type { Outcome } from '../../model/outcome.ts';
import { addUnreadable, Candidates, connectionsIn, MAX_LOOKED_AT, mayBe } from '../candidates.ts';
import type { Service } from '../index/connection.ts';
import type { FlowIndex } from '../index/flow-index.ts';
import type { Match } from '../match-result.ts';
import { resolve, sawAllConnections, sawAllRequests } from '../resolve.ts';
import { UNTIMED_MS, type Window, wasCarried, wasSent } from '../window.ts';
import { matchByCounts } from './byte-counts.ts';
import { addUnusedConnections } from './request-id.ts';

/** Where the line has no times: how long before it a connection can have been opened for it (ms). */
const LOGGED_UNTIMED_MS = 2_000;

/** Without an id: all connections that may have been alive, or all requests seen in the window. */
export function matchByElimination(
  line: ParsedLine,
  k: number,
  window: Window,
  readAt: number,
  service: Service | undefined,
  index: FlowIndex,
  match: Match,
): Outcome {
  const attempt = line.attempts[k]!;
  const byPort = typeof attempt.localPort === 'number';
  const never = wasSent(line, k) === 'no';
  const alive = new Candidates();
  const oneBackend =
    !byPort && service !== undefined && service.backends.size === 1 && index.unknown.backends.size === 0;
  connectionsIn(index, service, attempt, window, (connection) => {
    // An attempt that never connected was on a connection of its own.
    if (!never || connection.openTo >= window.begin) alive.add(connection);
    return !alive.several && !(oneBackend && alive.backend !== undefined);
  });
  if (byPort && !index.coverage.has('conntrack') && index.coverage.has('kernel-log')) {
    return matchByLogged(attempt, window, index, alive);
  }
  const whole = sawAllConnections(index, service, window);
  const evidence = byPort ? 'source-port' : 'sole-backend';
  const byConnection = resolve(attempt, alive, whole, window, index, evidence);
  if ('evidence' in byConnection || byConnection.reason === 'direct') return byConnection;
  if (wasCarried(line, k) !== 'yes') return byConnection;
  const byRequest = index.counted
    ? matchByCounts(attempt, window, readAt, service, index, match)
    : matchByRequests(line, attempt, window, service, index, match);
  return byRequest && 'evidence' in byRequest ? byRequest : byConnection;
}

/**
 * By LOG records, which tell a connection's beginning and never its end, and of some pods perhaps nothing. So a
 * connection counts only if it was opened for this request: an older one may be over, and its port taken by another
 * that no rule has logged. One whose dialled address is not known resolves nothing, and contradicts.
 */
function matchByLogged(attempt: Attempt, window: Window, index: FlowIndex, alive: Candidates): Outcome {
  const { logged, coverage } = index;
  const begin = window.begin === -Infinity ? window.end - LOGGED_UNTIMED_MS : window.begin;
  let dialled = false;
  for (const connection of logged.onPort(attempt.localPort!)) {
    if (connection.openTo < begin || connection.openFrom > window.end) continue;
    const { vip, vport } = connection.service;
    if (vip !== undefined && (vip !== attempt.ip || vport !== attempt.port)) continue;
    dialled ||= vip !== undefined;
    alive.add(connection);
  }
  const whole =
    begin > logged.knownSince &&
    !logged.cycledAround(window.end) &&
    coverage.isComplete('kernel-log', begin, window.end);
  if (whole && !dialled) return { reason: 'no-flow' };
  return resolve(attempt, alive, whole, window, index, 'source-port');
}

/**
 * By the requests seen in the window, whatever connection they were on: those that another line has claimed by its id are
 * not the one meant, nor are those of another size. Method and target on the wire prove nothing, as nginx may have
 * rewritten them.
 */
function matchByRequests(
  line: ParsedLine,
  attempt: Attempt,
  window: Window,
  service: Service | undefined,
  index: FlowIndex,
  match: Match,
): Outcome | undefined {
  if (!service || !sawAllRequests(index, service, window, window.end - UNTIMED_MS, window.answeredAfter))
    return undefined;
  const remaining = new Candidates();
  let looked = 0;
  for (const group of [service, index.unknown]) {
    for (let i = group.requests.length - 1; i >= 0; i--) {
      const sighting = group.requests[i]!;
      if (sighting.to < window.begin) break;
      if (++looked > MAX_LOOKED_AT || remaining.several) return undefined;
      if (sighting.forgotten || !mayBe(sighting, service, attempt, window)) continue;
      // Another id alone proves nothing: where nginx sets no header of its own, the client's passes through.
      if (sighting.matched && sighting.id !== line.id) continue;
      remaining.add(sighting.connection);
    }
  }
  // Connections on which no request was seen: the tap cannot read their protocol, or their packets pass none of its hooks.
  addUnreadable(index, service, attempt, window, remaining);
  if (!remaining.several) addUnusedConnections(attempt, window, -Infinity, service, index, remaining, match);
  return remaining.backend && resolve(attempt, remaining, true, window, index, 'request-window');
}
