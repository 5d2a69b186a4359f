import type { App, Reply } from '../app.ts';
import { failure } from '../errors.ts';
import { type LineQuery, lineFilter } from './line-filter.ts';
import type { LineOutlet } from './line-stream.ts';
import { LINE, list, object, query, type Schema } from './schemas.ts';
import type { View } from './view.ts';

/** Proxies close idle connections; a comment at this interval (ms) keeps the stream open. */
const HEARTBEAT_MS = 15_000;
const MAX_LISTED_LINES = 1_000;

const FILTER: Record<string, Schema> = {
  pod: {
    type: 'string',
    minLength: 1,
    maxLength: 320,
    description:
      "a pod's name, the beginning of one up to a dash, namespace/ before either, its address, or its address and port",
  },
  status: {
    type: 'string',
    pattern: '^[1-5](\\d\\d|xx)$',
    description: 'three digits, or a class such as 5xx',
  },
  path: {
    type: 'string',
    minLength: 1,
    maxLength: 1024,
    description: "text that the request's target contains",
  },
};

/** `GET /lines` and `GET /lines/stream`. */
export function addLineRoutes(app: App, { recent, stream, nameAt }: View): void {
  app.get<{ Querystring: LineQuery & { limit: number } }>(
    '/lines',
    {
      schema: {
        summary: 'The youngest lines, youngest first',
        querystring: query({
          limit: {
            type: 'integer',
            minimum: 1,
            maximum: MAX_LISTED_LINES,
            default: 100,
            description: 'at most so many',
          },
          ...FILTER,
        }),
        response: { 200: object({ lines: list(LINE, 'youngest first') }) },
      },
    },
    async ({ query: { limit, ...wanted } }) => ({ lines: recent.list(limit, lineFilter(wanted, nameAt)) }),
  );

  app.get<{ Querystring: LineQuery & { last: number } }>(
    '/lines/stream',
    {
      exposeHeadRoute: false,
      config: { errors: ['too-many-streams'] },
      schema: {
        summary: 'Lines as they leave, as server-sent events',
        description:
          'Each event without a name is a line, as in /lines. An event `skipped` with {"lines":N} stands for N lines that were left out: there were more than a reader gets, or it did not read them.',
        querystring: query({
          last: {
            type: 'integer',
            minimum: 0,
            maximum: MAX_LISTED_LINES,
            default: 0,
            description: 'begin with so many of the youngest lines',
          },
          ...FILTER,
        }),
        response: {
          200: {
            description: 'A stream that does not end',
            content: { 'text/event-stream': { schema: { type: 'string' } } },
          },
        },
      },
    },
    async ({ query: { last, ...wanted } }, reply) => {
      const accept = lineFilter(wanted, nameAt);
      const outlet = new EventOutlet(reply);
      const close = stream.open(accept, last, outlet);
      if (!close) throw failure('too-many-streams', 'too many clients read the lines');
      outlet.begin(close);
      return reply.hijack();
    },
  );
}

/** Lines as server-sent events (WHATWG HTML, 9.2). */
class EventOutlet implements LineOutlet {
  readonly #raw: Reply['raw'];

  constructor(reply: Reply) {
    this.#raw = reply.raw;
  }

  begin(onClose: () => void): void {
    this.#head();
    const heartbeat = setInterval(() => this.#raw.write(':\n\n'), HEARTBEAT_MS);
    this.#raw.once('close', () => {
      clearInterval(heartbeat);
      onClose();
    });
    if (this.#raw.destroyed) this.#raw.emit('close');
  }

  lines(lines: readonly object[]): void {
    this.#head();
    let text = '';
    for (const line of lines) text += `data: ${JSON.stringify(line)}\n\n`;
    this.#raw.write(text);
  }

  skipped(count: number): void {
    this.#head();
    this.#raw.write(`event: skipped\ndata: {"lines":${count}}\n\n`);
  }

  get unread(): number {
    return this.#raw.writableLength;
  }

  cutOff(): void {
    this.#raw.destroy();
  }

  #head(): void {
    if (this.#raw.headersSent) return;
    this.#raw.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      // An nginx in between would buffer the stream.
      'x-accel-buffering': 'no',
    });
    this.#raw.write('retry: 2000\n\n');
  }
}
