import { connectionsOf } from '../candidates.ts';
import type { FlowIndex } from '../index/flow-index.ts';
import type { Query, Verdict } from '../query.ts';
import { resolve, sawAllConnections } from '../resolve.ts';

/** By the connections that may have existed when the attempt ran, if all lead to one backend. */
export function matchBySoleBackend(query: Query, index: FlowIndex): Verdict | undefined {
  if (typeof query.attempt.localPort === 'number') return undefined;
  const remaining = connectionsOf(query, index);
  const complete = sawAllConnections(query, index);
  const outcome = resolve(query, index, remaining, complete, 'sole-backend');
  return {
    outcome,
    final: 'reason' in outcome && outcome.reason === 'direct',
    // The attempt was answered, and no connection in the record can have carried it.
    hasCounterpart: complete && query.sent === 'yes' && remaining.none ? false : undefined,
  };
}
