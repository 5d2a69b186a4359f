import { Candidates, visitConnections } from '../candidates.ts';
import type { FlowIndex } from '../index/flow-index.ts';
import type { Query, Verdict } from '../query.ts';
import { resolve, sawAllConnections } from '../resolve.ts';

/** By the connections that may have been open when the attempt ran: all of them lead to one backend. */
export function matchBySoleBackend(query: Query, index: FlowIndex): Verdict | undefined {
  const { service, attempt, window, sent } = query;
  if (typeof attempt.localPort === 'number') return undefined;
  // One connection stands for all where they cannot differ.
  const oneBackend = service?.backends.size === 1 && index.unknown.backends.size === 0;
  const alive = new Candidates();
  visitConnections(query, index, (connection) => {
    // An attempt that never connected was on a connection of its own.
    if (sent !== 'no' || connection.openTo >= window.begin) alive.add(connection);
    return !alive.several && !(oneBackend && alive.backend !== undefined);
  });
  const outcome = resolve(query, index, alive, sawAllConnections(query, index), 'sole-backend');
  return { outcome, final: 'reason' in outcome && outcome.reason === 'direct' };
}
