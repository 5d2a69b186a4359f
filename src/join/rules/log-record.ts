import { connectionsFromPort } from '../candidates.ts';
import type { FlowIndex } from '../index/flow-index.ts';
import type { Query, Verdict } from '../query.ts';
import { resolve } from '../resolve.ts';

/** Where the line has no times: how long before it a connection can have opened for it (ms). */
const UNTIMED_OPEN_MS = 2_000;

/**
 * By the local port, with LOG records, which show how a connection begins and never how it ends, and may be missing for
 * some pods. Its evidence is `source-port`. Only a connection that opened for this request counts: an older one may be
 * closed, and its port reused by one without a record. A connection without a VIP resolves nothing, but contradicts
 * another pod.
 */
export function matchByLogRecord(query: Query, index: FlowIndex): Verdict | undefined {
  const { attempt, window } = query;
  if (typeof attempt.localPort !== 'number' || !index.coverage.hasOnlyLogRecords) return undefined;
  const remaining = connectionsFromPort(query, index);
  const { logged, coverage } = index;
  const begin = window.begin === -Infinity ? window.writtenAfter - UNTIMED_OPEN_MS : window.begin;
  let sameVip = false;
  for (const connection of logged.onPort(attempt.localPort)) {
    if (connection.openTo < begin || connection.openFrom > window.end) continue;
    const { vip, vport } = connection.service;
    if (vip !== undefined && (vip !== attempt.ip || vport !== attempt.port)) continue;
    sameVip ||= vip !== undefined;
    remaining.add(connection);
  }
  const complete =
    begin > logged.knownSince &&
    index.blindSpots.isServed(attempt.ip, begin, window.end) &&
    !logged.cycledAround(window.end) &&
    coverage.isComplete('kernel-log', begin, window.end);
  if (complete && !sameVip) return { outcome: { reason: 'no-flow' }, final: true };
  return { outcome: resolve(query, index, remaining, complete, 'source-port'), final: true };
}
