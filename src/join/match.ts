import type { Flow } from '../record/feed.ts';
import type { Attempt, ParsedLine } from '../record/line.ts';
import type { Evidence, Outcome, Resolved } from '../record/outcome.ts';
import { countsAgree, hasCounts, mayHold } from './byte-counts.ts';
import { connectionsIn, fits, mayBe, Remaining } from './candidates.ts';
import { type Connection, type Service, type Sighting, UNCLEAR_KEPT_MS, unclearUntil } from './connection.ts';
import type { FlowIndex } from './flow-index.ts';
import { attemptWindows, UNTIMED_MS, type Window, wasCarried, wasSent } from './window.ts';

/** Where the line has no times: how long before the first sighting of its id the record has to be whole (ms). */
const BEFORE_SEEN_MS = 250;
/** Requests looked at for one attempt where no id selects them. With more in the window, the attempt is left alone. */
const MAX_LOOKED_AT = 512;
/** The same where byte counts select one. */
const MAX_COUNTED = 4_096;
/**
 * Where requests are told by byte counts: how much later than the line says one is still looked at (ms). Covers an nginx
 * whose clock moves only now and then (`timer_resolution`).
 */
export const COUNTED_SLACK_MS = 100;
/** Where the line has no times: how long before it a connection can have been opened for it (ms). */
const LOGGED_UNTIMED_MS = 2_000;
/** A connection that opened this short a time before the line was read may be about to carry its first request (ms). */
const UNRIPE_MS = 100;

/** The outcomes, in step with the line's attempts, and what the index may learn from them (`FlowIndex.learn`). */
export interface Match {
  outcomes: Outcome[];
  /** Sightings that belong to this line. */
  used: readonly Sighting[];
  /** Connections just opened may yet turn out not to be meant; with the next watermark the line can be settled. */
  unripe: boolean;
}

const NONE: readonly Sighting[] = [];

/**
 * Which pod served each attempt of a line.
 *
 * One idea: take every connection and request that could have served the attempt, drop those that contradict the
 * line, and if all that remain lead to one pod, and the record is whole over that time, that is the pod. Everything
 * here errs towards keeping a candidate: one too many leaves a line as it was, one too few can name a wrong pod.
 *
 * `readAt`: when the line was read, ms since the epoch.
 */
export function matchLine(line: ParsedLine, readAt: number, index: FlowIndex): Match {
  const { attempts } = line;
  const windows = attemptWindows(line, readAt);
  const outcomes = new Array<Outcome>(attempts.length);
  const match: Match = { outcomes, used: NONE, unripe: false };
  for (let k = 0; k < attempts.length; k++) {
    const attempt = attempts[k]!;
    if (attempt.kind !== 'ip') {
      outcomes[k] = { reason: 'not-ip' };
      continue;
    }
    const service = index.service(attempt.ip, attempt.port);
    if (!outcomes[k] && line.id !== undefined && typeof attempt.localPort !== 'number') {
      matchById(line, k, windows, service, index, match);
    }
    const byId = outcomes[k];
    if (byId && ('evidence' in byId || byId.reason === 'ambiguous' || byId.reason === 'direct')) continue;
    const byElimination = matchByElimination(line, k, windows[k]!, readAt, service, index, match);
    outcomes[k] = byId && 'reason' in byElimination ? byId : byElimination;
  }
  return match;
}

/**
 * By the id on the wire, for all attempts on the same address together: they were sent one after another, so with the
 * sightings in the order of the wire only order-keeping assignments are possible. Leaves outcomes unset where the id
 * was not seen.
 */
function matchById(
  line: ParsedLine,
  first: number,
  windows: readonly Window[],
  service: Service | undefined,
  index: FlowIndex,
  match: Match,
): void {
  let sighting = index.sightingsOf(line.id!);
  if (!sighting) return;
  const group = attemptsOnSameAddress(line, first);
  const seen: Sighting[] = [];
  for (; sighting; sighting = sighting.older) {
    for (const k of group) {
      if (!mayBe(sighting, service, line.attempts[k]!, windows[k]!)) continue;
      seen.push(sighting);
      break;
    }
  }
  if (seen.length === 0) return;
  seen.reverse();
  // One sighting that is missing shifts all the others of an assignment. A line without times is taken to have had
  // none before the first that was seen, other than those forgotten: ids are not repeated just before a gap's end.
  const earliest = seen[0]!.from - BEFORE_SEEN_MS;
  let whole = true;
  for (const k of group)
    whole &&= requestsWhole(index, service, windows[k]!, earliest, windows[k]!.endedAfter);
  // One that is not to be read may be any of the group's, and shifts the others, too.
  const readable = group.length === 1 || noneUnreadable(line, group, windows, service, index);
  const possible = readable
    ? assignments(line, group, seen, service, windows)
    : group.map((k) => seen.filter((s) => mayBe(s, service, line.attempts[k]!, windows[k]!)));
  for (let i = 0; i < group.length; i++) {
    const k = group[i]!;
    const attempt = line.attempts[k]!;
    const window = windows[k]!;
    const sightings = possible[i]!;
    if (sightings.length === 0 || match.outcomes[k]) continue;
    const remaining = new Remaining();
    for (const s of sightings) remaining.add(s.connection);
    withoutReadableId(line.id!, attempt, window, service, index, remaining);
    if (service?.ownIds && !sightings.every((s) => s.own))
      passedOn(line, attempt, window, service, remaining);
    const certain = wasCarried(line, k) === 'yes';
    if (!certain && !remaining.several) unsent(attempt, window, service, index, remaining, match);
    const outcome = settle(
      attempt,
      remaining,
      whole && (certain || emptyWhole(index, service, window, earliest)),
      window,
      index,
      'request-id',
    );
    match.outcomes[k] = outcome;
    if ('evidence' in outcome && sightings.length === 1) {
      match.used = match.used === NONE ? sightings : [...match.used, sightings[0]!];
    }
  }
}

const ONLY_FIRST: readonly number[] = [0];

/** Indexes of the attempts that went to the same address as the attempt `first`. */
function attemptsOnSameAddress({ attempts }: ParsedLine, first: number): readonly number[] {
  if (attempts.length === 1) return ONLY_FIRST;
  const target = attempts[first]!;
  const group: number[] = [];
  for (let k = 0; k < attempts.length; k++) {
    const attempt = attempts[k]!;
    if (attempt.kind === 'ip' && attempt.ip === target.ip && attempt.port === target.port) group.push(k);
  }
  return group;
}

function noneUnreadable(
  line: ParsedLine,
  group: readonly number[],
  windows: readonly Window[],
  service: Service | undefined,
  index: FlowIndex,
): boolean {
  const unreadable = new Remaining();
  for (const k of group)
    withoutReadableId(line.id!, line.attempts[k]!, windows[k]!, service, index, unreadable);
  return unreadable.none;
}

/** For each attempt of the group, the sightings that some order-keeping assignment of all attempts gives it. */
function assignments(
  line: ParsedLine,
  group: readonly number[],
  seen: readonly Sighting[],
  service: Service | undefined,
  windows: readonly Window[],
): (readonly Sighting[])[] {
  const n = group.length;
  const m = seen.length;
  // All that was seen fits some attempt of the group, so this one.
  if (n === 1) return [wasCarried(line, group[0]!) === 'no' ? [] : seen];
  const fit = (i: number, j: number): boolean =>
    mayBe(seen[j]!, service, line.attempts[group[i]!]!, windows[group[i]!]!);
  const sent = group.map((k) => wasCarried(line, k));
  // before[i][j]: attempts < i can all be accounted for with sightings < j. after[i][j]: attempts >= i with sightings >= j.
  const before = grid(n, m);
  const after = grid(n, m);
  for (let i = 0; i <= n; i++) {
    for (let j = 0; j <= m; j++) {
      before[i]![j] =
        i === 0 ||
        (sent[i - 1] !== 'yes' && before[i - 1]![j]!) ||
        (j > 0 &&
          (before[i]![j - 1]! || (sent[i - 1] !== 'no' && before[i - 1]![j - 1]! && fit(i - 1, j - 1))));
    }
  }
  for (let i = n; i >= 0; i--) {
    for (let j = m; j >= 0; j--) {
      after[i]![j] =
        i === n ||
        (sent[i] !== 'yes' && after[i + 1]![j]!) ||
        (j < m && (after[i]![j + 1]! || (sent[i] !== 'no' && after[i + 1]![j + 1]! && fit(i, j))));
    }
  }
  return group.map((_, i) =>
    seen.filter((_s, j) => sent[i] !== 'no' && before[i]![j]! && after[i + 1]![j + 1]! && fit(i, j)),
  );
}

function grid(n: number, m: number): boolean[][] {
  return Array.from({ length: n + 1 }, () => new Array<boolean>(m + 1).fill(false));
}

/**
 * nginx may forward the id in some locations only, so a request without a readable id in the window may be the one
 * meant, and the sightings with the id an auth_request's or a mirror's. Its target proves nothing, as nginx may have
 * rewritten it. The same goes for requests with this very id that are too many to be told apart.
 */
function withoutReadableId(
  id: string,
  attempt: Attempt,
  window: Window,
  service: Service | undefined,
  index: FlowIndex,
  remaining: Remaining,
): void {
  for (const group of service ? [service, index.unknown] : [index.unknown]) {
    for (const others of [group.withoutId, group.repeated.get(id) ?? NONE]) {
      let looked = 0;
      for (let i = others.length - 1; i >= 0; i--) {
        const other = others[i]!;
        if (other.to < window.begin) break;
        if (++looked > MAX_LOOKED_AT) remaining.several = true;
        if (remaining.several) return;
        if (!other.forgotten && mayBe(other, service, attempt, window)) remaining.add(other.connection);
      }
    }
  }
}

/** Connections whose youngest requests may hold the attempt's. */
function unseen(
  attempt: Attempt,
  window: Window,
  service: Service,
  index: FlowIndex,
  remaining: Remaining,
): void {
  // What is over for longer is not remembered.
  if (window.begin < index.coverage.watermark - UNCLEAR_KEPT_MS) remaining.several = true;
  for (const group of [service, index.unknown]) {
    let looked = 0;
    for (const connection of group.unclear) {
      if (++looked > MAX_COUNTED) remaining.several = true;
      if (remaining.several) return;
      const { unclear } = connection;
      if (!unclear || unclearUntil(connection) < window.begin || !mayHold(unclear, attempt)) continue;
      if (fits(connection, attempt, window)) remaining.add(connection);
    }
  }
}

/**
 * Where nginx sets the id in some locations and lets the client's own pass in others, an id that a client may have sent
 * can be that of another request. What was sent to the pod instead then carries such an id too.
 */
function passedOn(
  line: ParsedLine,
  attempt: Attempt,
  window: Window,
  service: Service,
  remaining: Remaining,
): void {
  let looked = 0;
  for (let i = service.sightings.length - 1; i >= 0; i--) {
    const other = service.sightings[i]!;
    if (other.to < window.begin) break;
    if (++looked > MAX_LOOKED_AT) remaining.several = true;
    if (remaining.several) return;
    if (other.own || other.forgotten || (other.used && other.id !== line.id)) continue;
    if (mayBe(other, service, attempt, window)) remaining.add(other.connection);
  }
}

/**
 * An attempt that perhaps never sent its request was on a connection that opened for it and carried none. One that
 * opened just now is more likely to get its request with the next batch.
 */
function unsent(
  attempt: Attempt,
  window: Window,
  service: Service | undefined,
  index: FlowIndex,
  remaining: Remaining,
  match: Match,
): void {
  let young = false;
  for (const group of service ? [service, index.unknown] : [index.unknown]) {
    let looked = 0;
    for (const connection of group.withoutRequest) {
      if (++looked > MAX_LOOKED_AT) remaining.several = true;
      // Open before the record began: its requests may have come before, and it tells nothing of a line without times.
      if (connection.openFrom === -Infinity && window.begin === -Infinity) continue;
      if (connection.openTo < window.begin || !fits(connection, attempt, window)) continue;
      remaining.add(connection);
      if (connection.closeTo === Infinity && connection.openTo > window.end - UNRIPE_MS) young = true;
      else if (remaining.several) return;
    }
  }
  if (remaining.several && young) match.unripe = true;
}

/** Without an id: all connections that may have been alive, or all requests seen in the window. */
function matchByElimination(
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
  const alive = new Remaining();
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
  const whole = connectionsWhole(index, service, window);
  const evidence = byPort ? 'source-port' : 'sole-backend';
  const byConnection = settle(attempt, alive, whole, window, index, evidence);
  if ('evidence' in byConnection || byConnection.reason === 'direct') return byConnection;
  if (wasCarried(line, k) !== 'yes') return byConnection;
  const byRequest = index.counted
    ? matchByCounts(attempt, window, readAt, service, index, match)
    : matchByRequests(line, attempt, window, service, index);
  return byRequest && 'evidence' in byRequest ? byRequest : byConnection;
}

/**
 * By LOG records, which tell a connection's beginning and never its end, and of some pods perhaps nothing. So a
 * connection counts only if it was opened for this request: an older one may be over, and its port taken by another
 * that no rule has logged. One whose dialled address is not known resolves nothing, and contradicts.
 */
function matchByLogged(attempt: Attempt, window: Window, index: FlowIndex, alive: Remaining): Outcome {
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
    coverage.whole('kernel-log', begin, window.end);
  if (whole && !dialled) return { reason: 'no-flow' };
  return settle(attempt, alive, whole, window, index, 'source-port');
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
): Outcome | undefined {
  if (!service || !requestsWhole(index, service, window, window.end - UNTIMED_MS, window.answeredAfter))
    return undefined;
  const remaining = new Remaining();
  let looked = 0;
  for (const group of [service, index.unknown]) {
    for (let i = group.sightings.length - 1; i >= 0; i--) {
      const sighting = group.sightings[i]!;
      if (sighting.to < window.begin) break;
      if (++looked > MAX_LOOKED_AT || remaining.several) return undefined;
      if (sighting.forgotten || !mayBe(sighting, service, attempt, window)) continue;
      // Another id alone proves nothing: where nginx sets no header of its own, the client's passes through.
      if (sighting.used && sighting.id !== line.id) continue;
      remaining.add(sighting.connection);
    }
  }
  return remaining.backend && settle(attempt, remaining, true, window, index, 'request-line');
}

/**
 * The same where only TCP headers are seen: by what was sent and received. The like of each line has to be on the wire;
 * where it is not, counts are no evidence, for a while (`CountTrust`).
 */
function matchByCounts(
  attempt: Attempt,
  narrow: Window,
  readAt: number,
  service: Service | undefined,
  index: FlowIndex,
  match: Match,
): Outcome | undefined {
  if (!service || !hasCounts(attempt)) return undefined;
  const window = { ...narrow, end: Math.max(narrow.end, Math.min(readAt, narrow.end + COUNTED_SLACK_MS)) };
  if (!requestsWhole(index, service, window, window.end - UNTIMED_MS, window.answeredAfter)) return undefined;
  const remaining = new Remaining();
  let only: Sighting | undefined;
  let candidates = 0;
  let looked = 0;
  let agreed = false;
  let reset = false;
  for (const group of [service, index.unknown]) {
    for (let i = group.sightings.length - 1; i >= 0; i--) {
      const sighting = group.sightings[i]!;
      if (sighting.to < window.begin) break;
      if (++looked > MAX_COUNTED) return undefined;
      if (sighting.forgotten || !mayBe(sighting, service, attempt, window)) continue;
      agreed ||= countsAgree(sighting, attempt);
      reset ||= sighting.reset;
      remaining.add(sighting.connection);
      candidates++;
      only = sighting;
    }
  }
  // nginx has read less than came where it gave up in the middle: no disagreement.
  if (agreed || !reset) service.counts.seen(agreed, window.end);
  unseen(attempt, window, service, index, remaining);
  if (!remaining.backend || !agreed || !service.counts.trusts(window.begin)) return undefined;
  const outcome = settle(attempt, remaining, true, window, index, 'request-line');
  if ('evidence' in outcome && candidates === 1) match.used = [...match.used, only!];
  return outcome;
}

/** Whether every connection that was alive in the window was seen, and is still remembered. */
function connectionsWhole(
  index: FlowIndex,
  service: Service | undefined,
  { answeredAfter, end }: Window,
): boolean {
  const from = answeredAfter === -Infinity ? end - UNTIMED_MS : answeredAfter;
  const since = Math.max(
    service === undefined ? index.servicesKnownSince : knownSince(service),
    index.unknown.connectionsKnownSince,
  );
  return since < from && index.coverage.whole('conntrack', from, end);
}

/** Where all connections that were forgotten led to the backend that all the others lead to, nothing was forgotten. */
function knownSince(service: Service): number {
  if (
    service.backends.size === 1 &&
    service.forgottenBackend &&
    service.backends.has(service.forgottenBackend)
  ) {
    return -Infinity;
  }
  return service.connectionsKnownSince;
}

/**
 * The same for connections that carried no request. `earliest`: since when that is asked for where the line does not
 * say how long it took.
 */
function emptyWhole(
  index: FlowIndex,
  service: Service | undefined,
  { answeredAfter, end }: Window,
  earliest: number,
): boolean {
  const timed = answeredAfter !== -Infinity;
  const since = Math.max(service?.emptyKnownSince ?? index.servicesKnownSince, index.unknown.emptyKnownSince);
  return (
    since < (timed ? answeredAfter : end - UNTIMED_MS) &&
    index.coverage.whole('conntrack', timed ? answeredAfter : earliest, end)
  );
}

/**
 * Whether every request of the window was seen, and is still remembered if it can be the one meant: what its record
 * says to have been over before `lastedUntil` cannot. `untimedFrom` as above.
 */
function requestsWhole(
  index: FlowIndex,
  service: Service | undefined,
  { begin, end }: Window,
  untimedFrom: number,
  lastedUntil: number,
): boolean {
  const timed = begin !== -Infinity;
  const since = Math.max(
    service?.sightingsKnownSince ?? index.servicesKnownSince,
    index.unknown.sightingsKnownSince,
  );
  return (
    since < (timed ? lastedUntil : untimedFrom) &&
    index.coverage.whole('tap', timed ? begin : untimedFrom, end)
  );
}

function settle(
  attempt: Attempt,
  remaining: Remaining,
  whole: boolean,
  window: Window,
  index: FlowIndex,
  evidence: Evidence,
): Outcome {
  const backend = remaining.sole;
  if (backend && whole) {
    if (backend.ip === attempt.ip && backend.port === attempt.port) return { reason: 'direct' };
    const { ip, port } = backend;
    // Of a Service's only backend not all connections were looked at.
    const all = evidence !== 'sole-backend';
    const first = all ? remaining.firstOpened : -Infinity;
    const last = all ? remaining.lastOpened : window.end;
    const name = index.names.of(ip, first, last, window.end);
    const resolved: Resolved = { evidence, ip, port };
    if (name) resolved.name = name;
    const only = remaining.only;
    if (only && all) resolved.flow = flowOf(only);
    return resolved;
  }
  if (!whole) return { reason: window.end > index.coverage.watermark ? 'late' : 'gap' };
  return { reason: remaining.several ? 'ambiguous' : 'no-flow' };
}

/** As the outcomes of all its lines share it. */
function flowOf(connection: Connection): Flow {
  if (connection.flow === undefined) {
    const { src, sport, service, backend } = connection;
    const { vip, vport } = service;
    const dialled = vip === undefined || vport === undefined ? {} : { vip, vport };
    connection.flow = { src, sport, ...dialled, ip: backend.ip, port: backend.port };
  }
  return connection.flow;
}
