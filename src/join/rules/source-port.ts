import type { Outcome } from '../../model/outcome.ts';
import { type Candidates, connectionsFromPort } from '../candidates.ts';
import type { FlowIndex } from '../index/flow-index.ts';
import type { Query, Verdict } from '../query.ts';
import { beganWithinRecord, resolve, sawAllConnections, sawAllRequests, sawItsPackets } from '../resolve.ts';
import { UNTIMED_MS } from '../window.ts';

const AMBIGUOUS: Outcome = { reason: 'ambiguous' };

/**
 * By the upstream connection's local port, where the line has it: the connections from that port in the window. They are in the
 * record by conntrack, or by their own packets.
 */
export function matchBySourcePort(query: Query, index: FlowIndex): Verdict | undefined {
  const { attempt, service, direct, window, sent } = query;
  if (typeof attempt.localPort !== 'number' || index.coverage.hasOnlyLogRecords) return undefined;
  const remaining = connectionsFromPort(query, index);
  const complete = sawAllConnections(query, index) || sawItsPackets(query, index);
  const unexplained = remaining.sole !== undefined && !isExplained(query, remaining);
  // An attempt that failed may never have connected; a format may tell of none whether it did.
  const told = sent !== 'unknown' || attempt.status === undefined;
  const learns = service && told && !unexplained && isShown(query);
  if (learns && (complete || sawItsRequest(query, index))) {
    service.ports.seen(
      attempt.localPort,
      !remaining.none,
      index.connections,
      window.end,
      complete && sent === 'yes',
    );
  }
  const begin = window.begin === -Infinity ? window.end : window.begin;
  const believed = service?.ports.trusts(begin) === true;
  let outcome = resolve(query, index, remaining, complete, 'source-port');
  if ('evidence' in outcome && (unexplained || !believed)) outcome = AMBIGUOUS;
  // The rules after this one would select by the port, too, and by what is known of endpoints so far.
  const final = !believed || direct !== undefined || ('reason' in outcome && outcome.reason === 'direct');
  return { outcome, final };
}

/** Whether the one pod that is left is known to be of the Service. */
function isExplained({ service, direct }: Query, { connection }: Candidates): boolean {
  return direct === undefined || connection!.service === service || direct.explains(connection!);
}

/** Whether connections for the Service are in the record; not where some of its direct ones may pass unseen. */
function isShown({ service, direct }: Query): boolean {
  return direct !== undefined || service!.backends.size > 0 || service!.forgottenBackend !== undefined;
}

/**
 * Whether the attempt's request is in the record, and with it its connection: enough to learn by, where nothing tells of all
 * connections and the rules after this one name by the requests from the port. Of direct connections none of them does.
 */
function sawItsRequest(query: Query, index: FlowIndex): boolean {
  const { carried, direct, window } = query;
  return (
    carried === 'yes' &&
    direct === undefined &&
    beganWithinRecord(query, index) &&
    sawAllRequests(query, index, window.writtenAfter - UNTIMED_MS, window.answeredAfter)
  );
}
