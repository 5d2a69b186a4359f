import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect, createServer as createPlainServer, Server as PlainServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../log.ts';
import { type Answer, jsonAnswer, type Respond } from './answer.ts';
import type { App } from './app.ts';
import { failure, HttpError } from './errors.ts';
import { isOwnHost } from './host.ts';
import { Malformed } from './malformed.ts';
import { type Refusals, type SourceLimits, Sources } from './sources.ts';

export interface HttpLimits extends SourceLimits {
  /** Open connections; one more is closed at once. */
  connections: number;
  /** A request's head must be complete within this time (ms); a late one is refused within twice of it. */
  headersMs: number;
}

export interface ServerParts {
  limits: HttpLimits;
  /**
   * The application, which gets what `plain` has no answer to: made ready before the server listens, or, if a function makes it,
   * at the first such request.
   */
  application: App | (() => App | Promise<App>);
  /** `GET` of exactly these targets, such as `/healthz`. */
  plain?: ReadonlyMap<string, Respond>;
  /** Gets unexpected errors. */
  onError(message: string): void;
  /** Counts what was refused. */
  refusals?: Refusals;
  /** Allowed `Host` names besides those of `isOwnHost`. */
  allowHost?: readonly string[];
}

/** The longest head of a request, request line included. */
const MAX_HEAD_BYTES = 16_384;

/**
 * The server in front of an application: it has the limits, and admits every request. What probes and scrapes ask it
 * answers by itself, and loads the application, a quarter of an idle sidecar's memory, when somebody asks for more.
 */
export class HttpServer {
  readonly #parts: ServerParts;
  readonly #refusals: Refusals;
  readonly #sources: Sources;
  readonly #server: Server;
  #opened: Promise<App> | undefined;

  constructor(parts: ServerParts) {
    const { limits, refusals = { connections: 0, requests: 0, hosts: 0 } } = parts;
    this.#parts = parts;
    this.#refusals = refusals;
    this.#sources = new Sources(limits, refusals);
    this.#server = createServer(
      {
        // A route may stream for hours, so only a request's head has a time limit.
        requestTimeout: 0,
        headersTimeout: limits.headersMs,
        // Late ones are looked for no more often: each look wakes an idle process.
        connectionsCheckingInterval: limits.headersMs,
        keepAliveTimeout: 30_000,
        maxHeaderSize: MAX_HEAD_BYTES,
        requireHostHeader: false,
      },
      (request, response) => void this.#serve(request, response),
    );
    const malformed = new Malformed({ headersMs: limits.headersMs, headBytes: MAX_HEAD_BYTES });
    malformed.watch(this.#server);
    this.#server.on('clientError', (error, socket) => malformed.answer(error, socket));
    this.#server.maxConnections = limits.connections;
    this.#server.on('drop', () => refusals.connections++);
    this.#server.on('connection', (socket) => {
      const address = socket.remoteAddress ?? '';
      if (!this.#sources.connect(address)) {
        socket.destroy();
        return;
      }
      socket.once('close', () => this.#sources.disconnect(address));
    });
  }

  /** Where the machine has no IPv6, `::` becomes `0.0.0.0`. Resolves with the port. */
  async listen(host: string, port: number): Promise<number> {
    if (typeof this.#parts.application !== 'function') await this.#app();
    try {
      await this.#bind(host, port);
    } catch (error) {
      if (host !== '::' || !(error instanceof Error) || !('code' in error) || error.code !== 'EAFNOSUPPORT')
        throw error;
      await this.#bind('0.0.0.0', port);
    }
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : port;
  }

  /** Frees the port; what is connected stays connected, until `close`. */
  stopListening(): void {
    // The HTTP server's own `close` would also end connections that are idle at the moment.
    PlainServer.prototype.close.call(this.#server);
  }

  /** Ends the application, and every connection. */
  async close(): Promise<void> {
    await (await this.#opened?.catch(() => undefined))?.close();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #bind(host: string, port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen({ host, port }, () => {
        this.#server.off('error', reject);
        resolve();
      });
    });
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      this.#admit(request);
      const respond = request.method === 'GET' ? this.#parts.plain?.get(request.url ?? '') : undefined;
      if (respond) send(response, 200, await respond());
      else (await this.#app()).routing(request, response);
    } catch (error) {
      const known =
        error instanceof HttpError ? error : failure('internal', 'the request failed inside realpod');
      if (known.status === 500) this.#parts.onError(error instanceof Error ? error.message : String(error));
      if (!response.headersSent) send(response, known.status, jsonAnswer({ error: known.body }));
    }
  }

  #admit({ socket, headers: { host }, httpVersion }: IncomingMessage): void {
    const { limits, allowHost = [] } = this.#parts;
    if (!this.#sources.request(socket.remoteAddress ?? '', performance.now()))
      throw failure('too-many-requests', `more than ${limits.requestsPerSecond} requests a second`);
    // HTTP/1.0 needs none, and no browser speaks it.
    if (host === undefined && httpVersion === '1.1')
      throw failure('bad-request', 'the Host header is missing');
    if (host === undefined || isOwnHost(host, allowHost)) return;
    this.#refusals.hosts++;
    throw failure('wrong-host', `this server is not asked by the name ${host}`);
  }

  /** Opens it at the first call, and again after one that failed. */
  #app(): Promise<App> {
    if (this.#opened) return this.#opened;
    const opened = this.#open();
    this.#opened = opened;
    opened.catch(() => {
      this.#opened = undefined;
    });
    return opened;
  }

  async #open(): Promise<App> {
    const { application } = this.#parts;
    const app = typeof application === 'function' ? await application() : application;
    await app.ready();
    return app;
  }
}

function send(response: ServerResponse, status: number, { type, body }: Answer): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
  response.end(body);
}

const LOOK_FOR_PORT_MS = 20;

/** Resolves when no process listens on the port. Any other error is left to `listen`. */
export async function untilFree(host: string, port: number, log: Log): Promise<undefined> {
  for (let told = false; ; told = true) {
    const probe = createPlainServer();
    const code = await new Promise<string | undefined>((resolve) => {
      probe.once('error', (error: NodeJS.ErrnoException) => resolve(error.code));
      probe.listen({ host, port }, () => probe.close(() => resolve(undefined)));
    });
    if (code !== 'EADDRINUSE') return undefined;
    if (!told) log('info', `port ${port} is still in use by the previous helper: waiting for its end`);
    await delay(LOOK_FOR_PORT_MS);
  }
}

/** Resolves when somebody listens on the port, or after `limitMs`. */
export async function untilTaken(host: string, port: number, limitMs: number): Promise<void> {
  const address = host === '::' || host === '0.0.0.0' ? '127.0.0.1' : host;
  const end = performance.now() + limitMs;
  while (performance.now() < end) {
    const taken = await new Promise<boolean>((resolve) => {
      const socket = connect({ host: address, port }, () => resolve(true));
      socket.once('error', () => resolve(false));
      socket.once('close', () => resolve(false));
      socket.setTimeout(LOOK_FOR_PORT_MS * 5, () => socket.destroy());
      socket.once('connect', () => socket.destroy());
    });
    if (taken) return;
    await delay(LOOK_FOR_PORT_MS);
  }
}
