/** Answers for what never becomes a request of the application: what Node's parser refuses, and CONNECT. */
import { type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { type ErrorBody, failure } from './errors.ts';

export interface HeadLimits {
  /** A request's head must be complete within this time (ms). */
  headersMs: number;
  /** The longest head, request line included. */
  headBytes: number;
}

/** What the parser calls it, and what is answered. Everything else is 400. */
const STATUS_OF: Readonly<Record<string, number>> = {
  HPE_HEADER_OVERFLOW: 431,
  HPE_CHUNK_EXTENSIONS_OVERFLOW: 413,
  ERR_HTTP_REQUEST_TIMEOUT: 408,
};

interface ParserError extends Error {
  code?: string;
  /** What the parser did not like, for people. */
  reason?: string;
}

/** Answers in the form of all errors, and closes the connection. */
export class Malformed {
  readonly #limits: HeadLimits;
  /** What is not answered to the end on each connection: how many requests, and the answer to the youngest. */
  readonly #open = new WeakMap<Duplex, { requests: number; youngest: ServerResponse }>();

  constructor(limits: HeadLimits) {
    this.#limits = limits;
  }

  watch(server: Server): void {
    server.on('request', ({ socket }: IncomingMessage, response: ServerResponse) => {
      const open = this.#open.get(socket) ?? { requests: 0, youngest: response };
      open.requests++;
      open.youngest = response;
      this.#open.set(socket, open);
      response.once('close', () => open.requests--);
    });
    server.on('connect', (request: IncomingMessage, socket: Duplex) => {
      const known = failure('no-such-route', `there is no CONNECT ${request.url}`);
      this.#close(socket, known.status, known.body);
    });
    server.on('checkExpectation', ({ headers }: IncomingMessage, response: ServerResponse) => {
      const { body } = failure('bad-request', `Expect: ${headers.expect}: only 100-continue is understood`);
      response.writeHead(417, { 'content-type': 'application/json; charset=utf-8', connection: 'close' });
      response.end(JSON.stringify({ error: body }));
    });
  }

  /** For what the parser refuses, and for a head that does not come in time. */
  answer(error: ParserError, socket: Duplex): void {
    const { requests, youngest } = this.#open.get(socket) ?? { requests: 0 };
    // In the middle of another answer an error would be read as part of it, and before one as that one. A damaged body of the
    // one request that waits is answered.
    const inTurn =
      requests === 0 || (requests === 1 && youngest?.headersSent === false && !youngest.req.complete);
    if (error.code === 'ECONNRESET' || !socket.writable || !inTurn) {
      socket.destroy();
      return;
    }
    const status = STATUS_OF[error.code ?? ''] ?? 400;
    this.#close(socket, status, failure('bad-request', this.#messageOf(status, error)).body);
  }

  #messageOf(status: number, { reason }: ParserError): string {
    if (status === 431) return `the head of the request is longer than ${this.#limits.headBytes} bytes`;
    if (status === 408) return `the head of the request took longer than ${this.#limits.headersMs} ms`;
    return `this is not HTTP/1.1${reason ? `: ${reason}` : ''}`;
  }

  #close(socket: Duplex, status: number, error: ErrorBody): void {
    const body = JSON.stringify({ error });
    const head = [
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
      'Content-Type: application/json; charset=utf-8',
      `Content-Length: ${Buffer.byteLength(body)}`,
      'Connection: close',
    ];
    socket.end(`${head.join('\r\n')}\r\n\r\n${body}`, () => socket.destroy());
  }
}
