import type { LineRecord, TracedAttempt } from '../../model/feed.ts';
import type { Outcome } from '../../model/outcome.ts';
import { Candidates, fits, mayBeOf } from '../candidates.ts';
import type { FlowIndex } from '../index/flow-index.ts';
import type { Query, Verdict } from '../query.ts';
import { resolve, sawAllOpen } from '../resolve.ts';
import type { TracedLine } from '../traced-line.ts';

/** Between the record of a line and its write another line's may come: two workers on one log, one of them held up (ms). */
const OVERTAKEN_MS = 1_000;
/** Between times of the trace and those at which the helper read an event (ms). */
const EXACT_TO_MS = 5;
/** Between times of the trace and the kernel's own of a connection: one clock, but for the conversion (bpf/loader.c). */
const KERNEL_EXACT_TO_MS = 0.02;

/**
 * By the trace of nginx's workers: the connection that was open on the port when nginx wrote the attempt's request to it. Where
 * that is not certain, the other rules decide.
 */
export function matchByTrace(query: Query, index: FlowIndex): Verdict | undefined {
  const { traced } = query;
  if (traced === undefined || traced.records.length === 0) return undefined;
  const outcome = outcomeOf(query, traced, index);
  if (outcome === undefined) return undefined;
  if ('reason' in outcome && outcome.reason !== 'direct') return undefined;
  return { outcome, final: true };
}

function outcomeOf(query: Query, traced: TracedLine, index: FlowIndex): Outcome | undefined {
  const all = new Candidates();
  let complete = true;
  let last = query;
  for (const record of traced.records) {
    const attempt = attemptOf(query, traced, record);
    if (!attempt || !sawAllLines(record.t - OVERTAKEN_MS, query.readAt, index)) return undefined;
    last = asLogged(query, attempt);
    const remaining = openThen(last, attempt[4], index);
    complete &&= sawAllOpen(last, index);
    if (traced.records.length === 1) return resolve(last, index, remaining, complete, 'source-port');
    if (!remaining.sole) return undefined;
    all.add(remaining.connection!);
  }
  return resolve(last, index, all, complete, 'source-port');
}

/** Whether every line of that time has its record in the index: one with equal bytes may otherwise be another's. */
function sawAllLines(from: number, to: number, { coverage, traced }: FlowIndex): boolean {
  return traced.forgottenUntil < from && coverage.isComplete('trace', from, to);
}

/**
 * The connections on the attempt's port that were open when it was written to, at `writtenAt`. One that was closed by then is none
 * of them: nginx may go on to read from such, but not write.
 */
function openThen(query: Query, writtenAt: number, index: FlowIndex): Candidates {
  const open = new Candidates();
  const onPort = index.onPort(query.attempt.localPort!);
  // Where a port comes round at once, the events of one connection may be read after the next one's.
  let since = -Infinity;
  for (const { openedExactly, openTo } of onPort)
    if (openedExactly && openTo <= writtenAt - KERNEL_EXACT_TO_MS && openTo > since) since = openTo;
  for (const connection of onPort) {
    index.counters.visited++;
    const { closeTo, overBy, openTo, openedExactly } = connection;
    if (closeTo < query.window.begin || overBy <= since) continue;
    if (openedExactly && openTo > writtenAt + KERNEL_EXACT_TO_MS) continue;
    if (mayBeOf(connection, query) && fits(connection, query)) open.add(connection);
  }
  return open;
}

/** What the record says of the query's attempt; undefined where it says nothing, or contradicts the line. */
function attemptOf(
  { line, attempt }: Query,
  { states, count }: TracedLine,
  record: LineRecord,
): TracedAttempt | undefined {
  if (!record.attempts || record.states !== count) return undefined;
  const state = states[line.attempts.indexOf(attempt)];
  const traced = record.attempts.find((each) => each[0] === state);
  return traced && traced[2] === attempt.ip && traced[3] === attempt.port ? traced : undefined;
}

/** The query as if the line had the local port and the time. */
function asLogged(query: Query, [, localPort, , , writtenAt]: TracedAttempt): Query {
  const begin = writtenAt - EXACT_TO_MS;
  // It was before the line was read, and the record need not go further.
  const end = Math.min(writtenAt + EXACT_TO_MS, query.readAt);
  return {
    ...query,
    attempt: { ...query.attempt, localPort },
    window: { begin, end, answeredAfter: begin, endedAfter: begin, writtenAfter: end },
    // nginx writes to connections that are established.
    sent: 'yes',
    carried: 'yes',
  };
}
