import { isIP } from 'node:net';
import type { Capture } from '../../capture/capture.ts';
import type { Authorizer } from '../../cluster/authorize.ts';
import type { Feed, NameLookup, Successor } from '../../feed/feed.ts';
import { COMPACT_FORM, COMPACT_TYPE } from '../../feed/frames.ts';
import { INSTANCE_HEADER, type ResumePoint } from '../../model/resume-point.ts';
import { type App, HttpError, type Request } from '../app.ts';
import { Unread } from './unread.ts';

/** Concurrent look-ups: for each the kernel may walk its table of connections. */
const MAX_LOOKUPS = 2;
/** Addresses one reader may name. */
const MAX_READER_ADDRESSES = 64;

export interface FeedRoutes {
  feed: Feed;
  capture: Pick<Capture, 'lookup'>;
  authorizer: Authorizer;
  names: NameLookup | undefined;
  /** Brings an address to canonical text. */
  canonical(text: string): string | undefined;
  stats: { cutOff: number; refused: number };
}

interface FeedQuery {
  src: string[];
  after?: number;
  /** With `since`: the reader's index is empty up to `after` (`ResumePoint`). */
  instance?: string;
  since?: number;
  /** The last watermark that the reader has, where `instance` is the helper before. */
  watermark?: number;
  prompt?: boolean;
  answers?: boolean;
  clients?: boolean;
  content?: boolean;
  /** How long records may be gathered (ms). */
  batch?: number;
  compact?: number;
}

interface LookupQuery {
  src: string;
  sport: number;
  at?: number;
}

const srcSchema = { type: 'array', items: { type: 'string' }, minItems: 1, maxItems: MAX_READER_ADDRESSES };

/** The reader's cursor or resume point; undefined for a fresh start. */
function startOf(
  { after, instance, since, watermark }: FeedQuery,
  own: string,
): number | ResumePoint | Successor | undefined {
  if (after === undefined) return undefined;
  // The schema accepts infinity.
  if (!Number.isSafeInteger(after) || !Number.isFinite(since ?? 0) || !Number.isFinite(watermark ?? 0)) {
    throw new HttpError(400, 'bad-parameter', 'after: is no cursor', 'give the seq of a record');
  }
  // After the clock was set back a new process can use the `seq` of an earlier one.
  if (instance !== undefined && instance !== own) return watermark === undefined ? undefined : { watermark };
  return since === undefined ? after : { instance: own, after, since };
}

/** `/v1/feed`, `/v1/watermark` and `/v1/lookup`: the requests of a sidecar. */
export function addFeedRoutes(app: App, routes: FeedRoutes): void {
  const { feed, capture, authorizer, names, stats } = routes;
  let lookups = 0;

  const admit = async (request: Request, src: readonly string[]): Promise<string[]> => {
    const addresses = src.map((text) => {
      const address = isIP(text) ? routes.canonical(text) : undefined;
      if (address === undefined) {
        throw new HttpError(
          400,
          'bad-parameter',
          `src: ${text.slice(0, 60)} is not an IP address`,
          'give nginx’s own address',
        );
      }
      return address;
    });
    const verdict = await authorizer.authorize({
      authorization: request.headers.authorization,
      peer: request.socket.remoteAddress ?? '',
      src: addresses,
    });
    if (!verdict.ok) {
      stats.refused++;
      throw new HttpError(verdict.status, verdict.code, verdict.message, verdict.next);
    }
    return addresses;
  };

  app.get<{ Querystring: FeedQuery }>(
    '/v1/feed',
    {
      exposeHeadRoute: false,
      schema: {
        querystring: {
          type: 'object',
          required: ['src'],
          properties: {
            src: srcSchema,
            after: { type: 'integer', minimum: 0 },
            instance: { type: 'string', maxLength: 64 },
            since: { type: 'number' },
            watermark: { type: 'number' },
            prompt: { type: 'boolean' },
            answers: { type: 'boolean' },
            clients: { type: 'boolean' },
            content: { type: 'boolean' },
            batch: { type: 'integer', minimum: 0 },
            compact: { type: 'integer', minimum: 0 },
          },
        },
      },
    },
    async (request, reply) => {
      const addresses = await admit(request, request.query.src);
      const { prompt, answers, clients, content, batch: batchMs } = request.query;
      // Of a form that this helper does not know, as of none: the reader sees from the type what it gets.
      const compact = request.query.compact === COMPACT_FORM;
      const from = startOf(request.query, feed.instance);
      const { raw } = reply;
      let gone = raw.destroyed;
      raw.once('close', () => {
        gone = true;
      });
      const begin = (): void => {
        if (raw.headersSent) return;
        raw.writeHead(200, {
          'content-type': compact ? COMPACT_TYPE : 'application/x-ndjson',
          'cache-control': 'no-store',
          [INSTANCE_HEADER]: feed.instance,
        });
        raw.flushHeaders();
      };
      const unread = new Unread();
      const write = (some: string | Buffer): void => {
        begin();
        raw.write(some);
        if (unread.isTooMuch(Buffer.byteLength(some), raw.writableLength, feed.stats.readers)) {
          stats.cutOff++;
          raw.destroy();
        }
      };
      const opened = await feed.open(addresses, from, write, {
        prompt,
        answers,
        clients,
        content,
        batchMs,
        compact,
      });
      if ('refused' in opened) {
        throw new HttpError(
          503,
          'too-many-readers',
          'this helper serves no more readers, or no more of this address',
          'look for readers that are not sidecars',
        );
      }
      if (gone) {
        opened.reader.close();
        return reply.hijack();
      }
      raw.once('close', () => opened.reader.close());
      begin();
      return reply.hijack();
    },
  );

  app.get<{ Querystring: { src: string[] } }>(
    '/v1/watermark',
    { schema: { querystring: { type: 'object', required: ['src'], properties: { src: srcSchema } } } },
    async (request) => {
      const addresses = await admit(request, request.query.src);
      await feed.flush(addresses);
      return { t: feed.watermark };
    },
  );

  app.get<{ Querystring: LookupQuery }>(
    '/v1/lookup',
    {
      schema: {
        querystring: {
          type: 'object',
          required: ['src', 'sport'],
          properties: {
            src: { type: 'string' },
            sport: { type: 'integer', minimum: 1, maximum: 65_535 },
            at: { type: 'number' },
          },
        },
      },
    },
    async (request) => {
      const { sport, at } = request.query;
      const [src] = await admit(request, [request.query.src]);
      if (lookups >= MAX_LOOKUPS) {
        stats.refused++;
        throw new HttpError(
          503,
          'too-many-lookups',
          `${MAX_LOOKUPS} look-ups are under way`,
          'try again at once, or ask the sidecar',
        );
      }
      lookups++;
      const flows = await capture.lookup(src!, sport).finally(() => {
        lookups--;
      });
      const matches = flows
        .filter((flow) => at === undefined || flow.preexisting || flow.from <= at)
        .map((flow) => ({ ...flow, ...names?.lookup(flow.ip) }));
      if (matches.length === 0) {
        throw new HttpError(
          404,
          'no-flow',
          `conntrack has no connection from ${src} port ${sport}${at === undefined ? '' : ' at that time'}`,
          'ask soon after the connection, or ask the sidecar, which remembers longer',
        );
      }
      return { matches };
    },
  );
}
