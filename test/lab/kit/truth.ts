/**
 * Who answered what, by the reading of the pods themselves: their own logs, and what tcpdump saw arrive at them
 * (witness.ts). Shares no code with the product.
 */

/** One request as a pod saw it. */
export interface Sighting {
  /** The pod's `ip:port`. */
  pod: string;
  /** The request target that arrived. */
  uri: string;
  /** When it came, seconds since the epoch. */
  at: number;
}

/** A connection on which nothing was ever sent to the pod. */
export interface Knock {
  pod: string;
  at: number;
}

export interface Served {
  /** By request id, oldest first. */
  byId: ReadonlyMap<string, readonly Sighting[]>;
  /** With this, all that came to the pods is here. Without, only what they logged. */
  knocks?: readonly Knock[];
}

/** What is known of who served an attempt: one of these pods. */
export interface Truth {
  pods: readonly string[];
}

/** Reads the backends' logs (nginx.ts, odd-backend.ts): `ID IP:PORT CLIENT:PORT METHOD URI SECONDS [TOOK]`. */
export function readServed(logs: readonly string[]): Served {
  const byId = new Map<string, Sighting[]>();
  for (const text of logs)
    for (const line of text.split('\n')) {
      const [id, pod, , , uri, seconds, took = '0'] = line.split(' ');
      if (!id || id === '-' || !pod || !uri || seconds === undefined) continue;
      addSighting(byId, id, { pod, uri, at: Number(seconds) - Number(took) });
    }
  return { byId: inOrder(byId) };
}

export function addSighting(byId: Map<string, Sighting[]>, id: string, sighting: Sighting): void {
  const known = byId.get(id);
  if (known) known.push(sighting);
  else byId.set(id, [sighting]);
}

export function inOrder(byId: Map<string, Sighting[]>): Map<string, Sighting[]> {
  for (const sightings of byId.values()) sightings.sort((a, b) => a.at - b.at);
  return byId;
}

const REQUEST = /^\S+ - \S+ \[[^\]]*\] "\S+ (\S+)/;
const ID = /" "([0-9a-f]{32})" /;
/** The fields of FORMATS.full and FORMATS.times before the pod's own: times, statuses and bytes of each attempt. */
const TIMED =
  /" (\d+\.\d{3}) (\d+\.\d{3}) "[^"]*" "[^"]*" "[^"]*" "([^"]*)" "([^"]*)" "[^"]*" "[^"]*" "[^"]*"$/;
/** What the last attempt's answer said of its pod. */
export const SAID = /"([^"]*)" "([^"]*)" "[^"]*"$/;
/** How far the line's times and the pods' may differ (s): nginx's clock stands still during a turn. */
const CLOCK_S = 0.1;

/** In step with the line's attempts; undefined where nothing is known. */
export function truthOf(line: string, attempts: number, served: Served | undefined): (Truth | undefined)[] {
  const truth: (Truth | undefined)[] = Array.from({ length: attempts });
  if (served) bySightings(line, truth, served);
  const said = SAID.exec(line);
  // A stale answer from nginx's cache names the pod that it once came from, so what tcpdump saw goes first.
  const seen = served?.knocks !== undefined && truth[attempts - 1]?.pods.length === 1;
  if (!seen && said && said[1] !== '-' && said[1] !== '') {
    const ip = said[1]!;
    truth[attempts - 1] = { pods: [ip.includes(':') ? `[${ip}]:${said[2]}` : `${ip}:${said[2]}`] };
  }
  return truth;
}

function bySightings(line: string, truth: (Truth | undefined)[], served: Served): void {
  const attempts = truth.length;
  const uri = REQUEST.exec(line)?.[1] ?? '';
  const all = served.byId.get(ID.exec(line)?.[1] ?? '') ?? [];
  // A subrequest carries the same id to another target; a redirect of the lab keeps the first target as its end.
  const own = all.filter((sighting) => sighting.uri.endsWith(uri));
  const timed = TIMED.exec(line);
  const end = timed ? Number(timed[1]) + CLOCK_S : Infinity;
  const begin = timed ? end - Number(timed[2]) - 2 * CLOCK_S : -Infinity;
  const during = ({ at }: { at: number }) => at >= begin && at <= end;
  const seen = (own.length > 0 ? own : all).filter(during);
  const sent = sentAttempts(line, attempts);
  const carried = sent ?? truth.map((_, k) => k);
  const distinct = new Set(seen.map(({ at }) => at)).size === seen.length;
  if (seen.length === carried.length && distinct) {
    // Attempts follow one another.
    carried.forEach((k, i) => {
      truth[k] = { pods: [seen[i]!.pod] };
    });
  } else if (seen.length > 0 && (served.knocks || seen.length >= carried.length)) {
    for (const k of carried) truth[k] = { pods: seen.map(({ pod }) => pod) };
  }
  if (!sent || !served.knocks) return;
  const pods = served.knocks.filter(during).map(({ pod }) => pod);
  for (let k = 0; k < attempts; k++) if (!sent.includes(k)) truth[k] = { pods };
}

/** The attempts that sent something, by `$upstream_bytes_sent`; undefined where the line does not tell. */
function sentAttempts(line: string, attempts: number): number[] | undefined {
  const bytes = TIMED.exec(line)?.[4]?.split(/, | : /);
  if (!bytes || bytes.length !== attempts) return undefined;
  return bytes.flatMap((entry, k) => (Number(entry) > 0 ? [k] : []));
}
