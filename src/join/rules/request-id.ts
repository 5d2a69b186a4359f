import type { Attempt, ParsedLine } from '../../model/line.ts';
import { addUnreadable, Candidates, fits, MAX_LOOKED_AT, mayBe } from '../candidates.ts';
import type { Service, TappedRequest } from '../index/connection.ts';
import type { FlowIndex } from '../index/flow-index.ts';
import type { Match } from '../match-result.ts';
import { resolve, sawAllRequests, sawAllUnusedConnections } from '../resolve.ts';
import { type Window, wasCarried } from '../window.ts';

/** Where the line has no times: how long before the first sighting of its id the record has to be whole (ms). */
const BEFORE_SEEN_MS = 250;
/** A connection that opened this short a time before the line was read may be about to carry its first request (ms). */
const NEW_CONNECTION_GRACE_MS = 100;

/** The longest that a connect takes (ms): Linux gives its SYN up after 127 s, nginx by default after 60. */
const CONNECT_MS = 130_000;
/** How long a location that sets no id is reckoned with after its last request without one (ms). */
const WITHOUT_ID_KEPT_MS = 3_600_000;

const NONE: readonly TappedRequest[] = [];

/**
 * By the id on the wire, for all attempts on the same address together: they were sent one after another, so with the
 * sightings in the order of the wire only order-keeping assignments are possible. Leaves outcomes unset where the id
 * was not seen.
 */
export function matchById(
  line: ParsedLine,
  first: number,
  windows: readonly Window[],
  service: Service | undefined,
  index: FlowIndex,
  match: Match,
): void {
  let sighting = index.requestsWithId(line.id!);
  if (!sighting) return;
  const group = attemptsOnSameAddress(line, first);
  let seen: TappedRequest[] | undefined;
  for (; sighting; sighting = sighting.older) {
    for (const k of group) {
      if (!mayBe(sighting, service, line.attempts[k]!, windows[k]!)) continue;
      if (seen) seen.push(sighting);
      else seen = [sighting];
      break;
    }
  }
  if (!seen) return;
  seen.reverse();
  // One sighting that is missing shifts all the others of an assignment. A line without times is taken to have had
  // none before the first that was seen, other than those forgotten: ids are not repeated just before a gap's end.
  const earliest = seen[0]!.from - BEFORE_SEEN_MS;
  let whole = true;
  for (const k of group)
    whole &&= sawAllRequests(index, service, windows[k]!, earliest, windows[k]!.endedAfter);
  // One that is not to be read may be any of the group's, and shifts the others, too.
  const readable = group.length === 1 || noneUnreadable(line, group, windows, service, index);
  // All that was seen fits some attempt of the group: where it has one, that one.
  const possible =
    group.length === 1
      ? undefined
      : readable
        ? assignments(line, group, seen, service, windows)
        : fitting(line, group, seen, service, windows);
  for (let i = 0; i < group.length; i++) {
    const k = group[i]!;
    const attempt = line.attempts[k]!;
    const window = windows[k]!;
    const sightings = possible ? possible[i]! : wasCarried(line, k) === 'no' ? NONE : seen;
    if (sightings.length === 0 || match.outcomes[k]) continue;
    const remaining = new Candidates();
    for (const s of sightings) remaining.add(s.connection);
    withoutReadableId(line.id!, attempt, window, service, index, remaining);
    if (mayBeClients(sightings, service, window)) {
      if (service) addFitting(service.requests, attempt, window, service, remaining, line);
      addFitting(index.unknown.requests, attempt, window, service, remaining, line);
    }
    const certain = wasCarried(line, k) === 'yes';
    if (!certain && !remaining.several) {
      const dialledAfter = Math.max(window.begin, seen[0]!.from - CONNECT_MS * group.length);
      addUnusedConnections(attempt, window, dialledAfter, service, index, remaining, match);
    }
    const outcome = resolve(
      attempt,
      remaining,
      whole && (certain || sawAllUnusedConnections(index, service, window, earliest)),
      window,
      index,
      'request-id',
    );
    match.outcomes[k] = outcome;
    if ('evidence' in outcome && sightings.length === 1) {
      match.matched = match.matched.length === 0 ? sightings : [...match.matched, sightings[0]!];
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
  const unreadable = new Candidates();
  for (const k of group)
    withoutReadableId(line.id!, line.attempts[k]!, windows[k]!, service, index, unreadable);
  return unreadable.none;
}

/** For each attempt of the group, the sightings that fit it. */
function fitting(
  line: ParsedLine,
  group: readonly number[],
  seen: readonly TappedRequest[],
  service: Service | undefined,
  windows: readonly Window[],
): (readonly TappedRequest[])[] {
  return group.map((k) => seen.filter((s) => mayBe(s, service, line.attempts[k]!, windows[k]!)));
}

/** For each attempt of the group, the sightings that some order-keeping assignment of all attempts gives it. */
function assignments(
  line: ParsedLine,
  group: readonly number[],
  seen: readonly TappedRequest[],
  service: Service | undefined,
  windows: readonly Window[],
): (readonly TappedRequest[])[] {
  const n = group.length;
  const m = seen.length;
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
  remaining: Candidates,
): void {
  addUnreadable(index, service, attempt, window, remaining);
  const { unknown } = index;
  if (service) {
    addFitting(service.requestsWithoutId, attempt, window, service, remaining);
    addFitting(service.requestsWithRepeatedId.get(id) ?? NONE, attempt, window, service, remaining);
  }
  addFitting(unknown.requestsWithoutId, attempt, window, service, remaining);
  addFitting(unknown.requestsWithRepeatedId.get(id) ?? NONE, attempt, window, service, remaining);
}

/** With `line`, only those whose id a client may have written. */
function addFitting(
  others: readonly TappedRequest[],
  attempt: Attempt,
  window: Window,
  service: Service | undefined,
  remaining: Candidates,
  line?: ParsedLine,
): void {
  let looked = 0;
  for (let i = others.length - 1; i >= 0; i--) {
    const other = others[i]!;
    if (other.to < window.begin) break;
    if (++looked > MAX_LOOKED_AT) remaining.several = true;
    if (remaining.several) return;
    if (other.forgotten || (line && !mayHaveClientsId(other, line))) continue;
    if (mayBe(other, service, attempt, window)) remaining.add(other.connection);
  }
}

/** Whether an id may be one that a client has written: passed on by a location that sets none, or in a body in chunks. */
function mayBeClients(
  sightings: readonly TappedRequest[],
  service: Service | undefined,
  window: Window,
): boolean {
  const passes =
    service !== undefined &&
    (service.idsBeforeHost || window.end - service.lastWithoutIdAt < WITHOUT_ID_KEPT_MS);
  for (const { idBeforeHost, afterChunks } of sightings)
    if (afterChunks || (passes && !idBeforeHost)) return true;
  return false;
}

/**
 * An id that a client has written can be that of another request. What was sent to the pod instead then carries an id of
 * the client's too, or none, and no other line has found it.
 */
function mayHaveClientsId({ idBeforeHost, matched, id }: TappedRequest, line: ParsedLine): boolean {
  return !idBeforeHost && (!matched || id === line.id);
}

/**
 * An attempt that perhaps never sent its request was on a connection that opened for it and carried none. One that
 * opened just now is more likely to get its request with the next batch.
 *
 * `dialledAfter`: not before. What was seen with the id is then another's, that of a mirror for one, which dialled at the
 * same time and did not take longer than a connect can. Without this bound one refused connection would speak against
 * every later line that has no times.
 */
export function addUnusedConnections(
  attempt: Attempt,
  window: Window,
  dialledAfter: number,
  service: Service | undefined,
  index: FlowIndex,
  remaining: Candidates,
  match: Match,
): void {
  let young = false;
  for (const group of service ? [service, index.unknown] : [index.unknown]) {
    let looked = 0;
    for (const connection of group.connectionsWithoutRequest) {
      if (++looked > MAX_LOOKED_AT) remaining.several = true;
      // Open before the record began: its requests may have come before, and it tells nothing of a line without times.
      if (connection.openFrom === -Infinity && window.begin === -Infinity) continue;
      if (connection.openTo < dialledAfter || !fits(connection, attempt, window)) continue;
      remaining.add(connection);
      if (connection.closeTo === Infinity && connection.openTo > window.end - NEW_CONNECTION_GRACE_MS)
        young = true;
      else if (remaining.several) return;
    }
  }
  if (remaining.several && young) match.retryAtNextWatermark = true;
}
