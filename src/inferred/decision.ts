/** Decides the attempts of one Service that have ended, together: which connections each can have had. */
import { type Possible, possibleEdges } from './matching.ts';
import type { TimedAttempt } from './timed-attempt.ts';
import type { TimedFlow } from './timed-flow.ts';
import { distrust, keptConnections, mayHaveBeenKept, type TimedService } from './timed-service.ts';
import type { LoopIterations } from './turns.ts';

/** Attempts that must have had a connection each, with none left over, before anything is named. */
const ATTEMPTS_TO_TRUST = 100;
/** With a clock coarser than this (`timer_resolution`) nothing is named: the windows would hide the signs (ms). */
const MAX_GRAIN_MS = 20;
/**
 * An attempt whose connection may have opened at any time in a span longer than this (slow clients, slow uploads; ms) could
 * explain every surplus connection. Above a share of such attempts they explain none, and get no name.
 */
const WIDE_MS = 100;
const WIDE_ONE_IN = 10;
/** Attempts that may explain surplus connections, in one decision. Further ones explain none. */
const MAX_EXPLANATIONS = 512;

/** How far the record has come. All times are ms since the epoch. */
export interface RecordSoFar {
  /** Every connection opened after this is known. */
  since: number;
  watermark: number;
  /** The record has the kinds of ends, so refused connections are known. */
  hasKindsOfEnds: boolean;
  turns: LoopIterations;
  /** How late nginx's clock may be (ms). */
  grainMs: number;
  /** Possible connections of one attempt. An attempt with more stays unresolved. */
  candidates: number;
}

export interface DecisionCounters {
  decisions: number;
  named: number;
  unmatched: number;
  tooMany: number;
  distrusted: number;
}

/** Attempts and the connections that each can have had. */
interface Graph {
  attempts: TimedAttempt[];
  flows: TimedFlow[];
  /** By attempt: indices of `flows`. */
  edges: number[][];
  /** By place in the Service's flows: the index in `flows`. */
  indexOf: Map<number, number>;
  /** Attempts with too many possible connections. */
  crowded: TimedAttempt[];
}

/** Sets the outcome of every attempt that ended by `until`, where there is one. */
export function decide(
  service: TimedService,
  until: number,
  record: RecordSoFar,
  counters: DecisionCounters,
): void {
  counters.decisions++;
  const graph = graphOf(service, record);
  counters.tooMany += graph.crowded.length;
  const { attempts, flows, edges } = graph;
  const wanted = flows.map((flow) => flow.openTo <= until);
  const possible = possibleEdges(edges, flows.length, wanted);
  counters.unmatched += possible.unmatched;
  attempts.forEach(({ end }, i) => {
    if (possible.doubtful[i]) distrust(service, end, counters);
  });
  for (const flow of surplus(service, graph, possible, until, record)) {
    distrust(service, flow.openTo, counters);
  }
  service.checkedUntil = Math.max(service.checkedUntil, until);
  service.flows.long = service.flows.long.filter(mayHaveBeenKept);
  counters.named += name(service, graph, possible, until, record);
}

function graphOf(service: TimedService, record: RecordSoFar): Graph {
  const { since, watermark, turns, grainMs, candidates } = record;
  const told = service.attempts.filter(
    ({ unconnected, lo, openBy }) => !unconnected && lo > since && openBy + grainMs <= watermark,
  );
  const narrow = told.filter((attempt) => !isWide(attempt));
  const usable = (told.length - narrow.length) * WIDE_ONE_IN <= told.length ? told : narrow;
  const earliest = usable.reduce((lo, attempt) => Math.min(lo, attempt.lo), Infinity);
  service.flows.narrow(usable, earliest, grainMs);
  const graph: Graph = { attempts: [], flows: [], edges: [], indexOf: new Map(), crowded: [] };
  for (const attempt of usable) {
    attempt.lookedAt = turns.before(attempt.elo);
    const places = service.flows.candidates(attempt, grainMs, candidates);
    if (!places) {
      graph.crowded.push(attempt);
      continue;
    }
    graph.attempts.push(attempt);
    graph.edges.push(places.map((place) => indexIn(graph, service, place, attempt, grainMs)));
  }
  return graph;
}

/** The index of the flow at `place`, whose being open the attempt explains. */
function indexIn(
  { indexOf, flows }: Graph,
  service: TimedService,
  place: number,
  { answered, end, took }: TimedAttempt,
  grainMs: number,
): number {
  let index = indexOf.get(place);
  if (index === undefined) {
    index = flows.length;
    indexOf.set(place, index);
    flows.push(service.flows.at(place));
  }
  const flow = flows[index]!;
  const over = answered ? Math.min(end, flow.openTo + took) + grainMs : Infinity;
  flow.explainedUntil = Math.max(flow.explainedUntil, over);
  return index;
}

/** Connections that were not checked before, and that no attempt explains. */
function surplus(
  service: TimedService,
  { indexOf, crowded }: Graph,
  { leftOver }: Possible,
  until: number,
  { since, grainMs, hasKindsOfEnds }: RecordSoFar,
): TimedFlow[] {
  // Each may have had one unknown connection: it was left out, or may have had none.
  const explanations = service.attempts
    .filter(({ unconnected, lo, end }) => unconnected && hasKindsOfEnds && end - lo <= WIDE_MS)
    .concat(crowded)
    .filter(({ explains }) => !explains)
    .slice(0, MAX_EXPLANATIONS);
  const found: TimedFlow[] = [];
  for (const place of service.flows.openedBetween(Math.max(service.checkedUntil, since), until)) {
    const index = indexOf.get(place);
    if (index !== undefined && !leftOver[index]) continue;
    const flow = service.flows.at(place);
    const explaining = explanations.findIndex(
      ({ lo, openBy, end, unconnected }) =>
        lo <= flow.openTo && flow.openFrom <= (unconnected ? end : openBy) + grainMs,
    );
    if (explaining < 0) {
      found.push(flow);
      continue;
    }
    explanations[explaining]!.explains = true;
    explanations.splice(explaining, 1);
  }
  return found;
}

/** Returns how many attempts got a backend. */
function name(
  service: TimedService,
  { attempts, flows }: Graph,
  { rights, doubtful }: Possible,
  until: number,
  { watermark, grainMs }: RecordSoFar,
): number {
  const kept = keptConnections(service, watermark);
  const clean = (attempt: TimedAttempt, i: number): boolean =>
    !attempt.decided && attempt.end <= until && !doubtful[i] && !isWide(attempt);
  service.clean += attempts.filter(clean).length;
  if (service.clean <= ATTEMPTS_TO_TRUST || grainMs > MAX_GRAIN_MS) return 0;
  let named = 0;
  attempts.forEach((attempt, i) => {
    if (!clean(attempt, i) || attempt.lo <= service.voidUntil) return;
    const own = rights[i]!.map((index) => flows[index]!);
    attempt.outcome = soleBackend(attempt, own, kept, service, grainMs);
    if (attempt.outcome !== undefined) named++;
  });
  return named;
}

function isWide({ lo, openBy }: TimedAttempt): boolean {
  return openBy - lo > WIDE_MS;
}

/** The backend of all connections possible for the attempt, new or kept; undefined if there are several. */
export function soleBackend(
  attempt: TimedAttempt,
  own: readonly TimedFlow[],
  kept: readonly TimedFlow[] | undefined,
  service: Pick<TimedService, 'keptUnknownUntil'>,
  grainMs: number,
): string | undefined {
  const backend = own[0]?.backend;
  if (backend === undefined || own.some((flow) => flow.backend !== backend)) return undefined;
  if (attempt.fresh) return backend;
  if (kept === undefined || attempt.lo <= service.keptUnknownUntil) return undefined;
  for (const flow of kept) {
    if (flow.backend === backend || flow.explainedUntil >= attempt.end) continue;
    if (flow.openFrom <= attempt.openBy + grainMs && flow.closeTo + grainMs >= attempt.lookedAt)
      return undefined;
  }
  return backend;
}
