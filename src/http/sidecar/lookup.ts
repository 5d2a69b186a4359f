import type { Connection } from '../../join/index/connection.ts';
import type { FlowIndex } from '../../join/index/flow-index.ts';
import type { Flow } from '../../model/feed.ts';
import type { PodName } from '../../model/outcome.ts';
import { parseHostPort } from '../../parse/address.ts';
import type { App } from '../app.ts';
import { failure, type HttpError } from '../errors.ts';
import type { RecentLines } from './recent.ts';
import { ATTEMPT, LINE, list, MATCH, query } from './schemas.ts';

/** An answer of `/lookup?port=`. Times are ms since the epoch; null where the time is not known or not reached. */
export interface LookupMatch extends Flow, Partial<PodName> {
  from: number | null;
  to: number | null;
  via: string;
}

interface LookupQuery {
  port?: number;
  time?: string;
  upstream?: string;
  request_id?: string;
}

export interface LookupParts {
  index: FlowIndex;
  recent: RecentLines;
  /** Resolves when the lines and records up to now are joined, or after `atMostMs`. */
  catchUp(atMostMs: number): Promise<void>;
  clock: () => number;
}

/** How long a look-up waits for what has been gathered and not been read (ms). */
const CATCH_UP_MS = 20;

/** `GET /lookup`: who was behind a source port, or which pods served a request. */
export function addLookupRoutes(app: App, { index, recent, catchUp, clock }: LookupParts): void {
  app.get<{ Querystring: LookupQuery }>(
    '/lookup',
    {
      config: { errors: ['no-line', 'no-feed', 'gap', 'no-flow'] },
      schema: {
        summary: 'Which pod was behind a source port, or which pods served a request',
        description:
          'With `port`: the connections from that port that were open at `time`; without `time` the open ones, else the last one. LOG records contain no end of a connection: with them alone, the last that began by then. With `request_id`: the youngest line with that id, and its attempts.',
        querystring: query({
          port: { type: 'integer', minimum: 1, maximum: 65_535, description: "nginx's source port" },
          time: {
            type: 'string',
            maxLength: 64,
            description: 'ISO 8601, or seconds or milliseconds since the epoch',
          },
          upstream: {
            type: 'string',
            maxLength: 64,
            description: 'only connections to this address and port, as in $upstream_addr',
          },
          request_id: {
            type: 'string',
            minLength: 1,
            maxLength: 256,
            description: 'the value of $request_id',
          },
        }),
        response: {
          200: {
            type: 'object',
            properties: {
              matches: list(MATCH, 'with `port`: oldest first'),
              ...LINE.properties,
              attempts: list(ATTEMPT, 'with `request_id`: in step with $upstream_addr'),
            },
          },
        },
      },
    },
    async (request) => {
      const { port, time, upstream, request_id: id } = request.query;
      if (id !== undefined) {
        if (!recent.byRequestId(id)) await catchUp(CATCH_UP_MS);
        return byRequestId(recent, id);
      }
      if (port === undefined) {
        throw failure('bad-parameter', 'port: is missing', 'give port=33454, or request_id=…');
      }
      const at = time === undefined ? undefined : parseTime(time);
      if (time !== undefined && at === undefined) {
        throw failure(
          'bad-parameter',
          `time: ${time} is neither ISO 8601 nor seconds or milliseconds since the epoch`,
          'give time=2025-12-04T17:33:23Z or time=1764869603',
        );
      }
      if (!at || at.last > index.coverage.watermark) await catchUp(CATCH_UP_MS);
      return { matches: byPort(index, port, at, target(upstream), clock()) };
    },
  );
}

function byRequestId(recent: RecentLines, id: string): object {
  const line = recent.byRequestId(id);
  if (!line) {
    throw failure('no-line', `no recent line has the request id ${id}`);
  }
  return line;
}

function target(text: string | undefined): { ip: string; port: number } | undefined {
  if (text === undefined) return undefined;
  const bytes = Buffer.from(text);
  const address = parseHostPort(bytes, 0, bytes.length);
  if (address) return address;
  throw failure(
    'bad-parameter',
    `upstream: ${text} is not an address and port`,
    'give it as in $upstream_addr, such as 10.105.148.194:10000',
  );
}

function byPort(
  index: FlowIndex,
  sport: number,
  at: Instant | undefined,
  upstream: { ip: string; port: number } | undefined,
  now: number,
): LookupMatch[] {
  const meant = ({ service }: Connection) =>
    !upstream || (service.vip === upstream.ip && service.vport === upstream.port);
  // conntrack, where it is read, has every connection with its end.
  const logged = index.coverage.has('conntrack') ? [] : index.logged.onPort(sport).filter(meant);
  const known = index.onPort(sport).filter(meant);
  let found = known.filter((connection) =>
    at ? connection.openFrom <= at.last && connection.closeTo >= at.first : connection.closeTo === Infinity,
  );
  for (const connection of lastBegun(logged, at?.last ?? now)) {
    const { ip, port } = connection.backend;
    if (!found.some(({ backend }) => backend.ip === ip && backend.port === port)) found.push(connection);
  }
  // A connection may last a millisecond, too short for a look-up: without a time, the last one is an answer too.
  if (!at && found.length === 0) found = known.slice(-1);
  if (found.length === 0) throw notFound(index, sport, at, [...known, ...logged], now);
  return found.map((connection) => shownMatch(connection, index, at?.first ?? now));
}

/** LOG records contain no end: for each upstream address, the last connection that began by then. */
function lastBegun(logged: readonly Connection[], until: number): Connection[] {
  const last = new Map<Connection['service'], Connection>();
  for (const connection of logged) if (connection.openFrom <= until) last.set(connection.service, connection);
  return [...last.values()];
}

function notFound(
  index: FlowIndex,
  sport: number,
  at: Instant | undefined,
  known: readonly Connection[],
  now: number,
): HttpError {
  const { coverage } = index;
  const when = at?.first ?? now;
  const sources = coverage.sources();
  if (sources.length === 0) {
    return failure('no-feed', 'the helper has sent nothing yet');
  }
  if (!sources.some((source) => coverage.isComplete(source, when, Math.min(when, coverage.watermark)))) {
    return failure('gap', `the record has a gap at that time, so port ${sport} cannot be looked up`);
  }
  if (known.length > 0) {
    return failure(
      'no-flow',
      `port ${sport} was not in use at that time, but at others`,
      'ask without time for the last one',
    );
  }
  return failure('no-flow', `no connection from source port ${sport} is known`);
}

function shownMatch(connection: Connection, index: FlowIndex, at: number): LookupMatch {
  const { src, sport, service, backend, openFrom, openTo, closeTo, via } = connection;
  return {
    src,
    sport,
    ...(service.vip === undefined ? {} : { vip: service.vip, vport: service.vport! }),
    ip: backend.ip,
    port: backend.port,
    ...index.names.of(backend.ip, openTo, openTo, Math.max(openTo, at)),
    from: openFrom === -Infinity ? null : openTo,
    to: closeTo === Infinity ? null : closeTo,
    via,
  };
}

/** A time of day as a span: as long as its last digit. */
export interface Instant {
  first: number;
  last: number;
}

const ISO = /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?$/;

/** ISO 8601 (UTC where no zone is given), or seconds or milliseconds since the epoch; undefined if it is none of these. */
export function parseTime(text: string): Instant | undefined {
  if (/^\d{9,10}(\.\d{1,6})?$/.test(text)) {
    const first = Number(text) * 1000;
    return { first, last: first + (text.includes('.') ? 1 : 999) };
  }
  if (/^\d{12,13}(\.\d{1,6})?$/.test(text)) return { first: Number(text), last: Number(text) + 1 };
  const match = ISO.exec(text);
  if (!match) return undefined;
  const zone = match[3] ?? 'Z';
  const first = Date.parse(
    `${text
      .slice(0, text.length - (match[3]?.length ?? 0))
      .replace(' ', 'T')
      .replace(',', '.')}${zone}`,
  );
  if (Number.isNaN(first)) return undefined;
  return { first, last: first + (match[2] !== undefined ? 1 : match[1] === undefined ? 59_999 : 999) };
}
