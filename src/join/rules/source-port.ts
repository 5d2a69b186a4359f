import { connectionsOf } from '../candidates.ts';
import type { FlowIndex } from '../index/flow-index.ts';
import type { Query, Verdict } from '../query.ts';
import { resolve, sawAllConnections } from '../resolve.ts';

/** By the upstream connection's local port, where the line has it: the connections from that port in the window. */
export function matchBySourcePort(query: Query, index: FlowIndex): Verdict | undefined {
  if (typeof query.attempt.localPort !== 'number' || index.coverage.hasOnlyLogRecords) return undefined;
  const remaining = connectionsOf(query, index);
  const outcome = resolve(query, index, remaining, sawAllConnections(query, index), 'source-port');
  return { outcome, final: 'reason' in outcome && outcome.reason === 'direct' };
}
