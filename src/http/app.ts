import { connect, createServer, Server } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';

import type { Log } from '../log.ts';
import { type ErrorBody, type ErrorCode, failure, HttpError } from './errors.ts';
import { isOwnHost } from './host.ts';
import { Malformed } from './malformed.ts';
import { type Refusals, type SourceLimits, Sources } from './sources.ts';

export { type ErrorBody, HttpError } from './errors.ts';
export type App = FastifyInstance;
export type Request = FastifyRequest;
export type Reply = FastifyReply;

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Errors of the route besides those of every route. */
    errors?: readonly ErrorCode[];
  }
  interface FastifySchema {
    summary?: string;
    description?: string;
  }
}

export interface HttpLimits extends SourceLimits {
  /** Open connections; one more is closed at once. */
  connections: number;
  /** A request's head must be complete within this time (ms). */
  headersMs: number;
}

/** Interval at which Node closes connections whose head is late (ms). */
const LATE_HEAD_CHECK_MS = 1_000;
/** The longest head of a request, request line included. */
const MAX_HEAD_BYTES = 16_384;

/**
 * An HTTP application without routes. Every error has one form and no stack trace. `onError` gets unexpected errors;
 * `refusals` counts what was refused; `names` are allowed `Host` names besides those of `isOwnHost`.
 */
export function createApp(
  limits: HttpLimits,
  onError: (message: string) => void,
  refusals: Refusals = { connections: 0, requests: 0, hosts: 0 },
  names: readonly string[] = [],
): App {
  const malformed = new Malformed({ headersMs: limits.headersMs, headBytes: MAX_HEAD_BYTES });
  const sources = new Sources(limits, refusals);
  const admit = (request: Request): void => {
    if (!sources.request(request.socket.remoteAddress ?? '', performance.now()))
      throw failure('too-many-requests', `more than ${limits.requestsPerSecond} requests a second`);
    const { host } = request.raw.headers;
    // HTTP/1.0 needs none, and no browser speaks it.
    if (host === undefined && request.raw.httpVersion === '1.1')
      throw failure('bad-request', 'the Host header is missing');
    if (host === undefined || isOwnHost(host, names)) return;
    refusals.hosts++;
    throw failure('wrong-host', `this server is not asked by the name ${host}`);
  };
  const app = fastify({
    bodyLimit: 4096,
    // A route may stream for hours, so only a request's head has a time limit.
    requestTimeout: 0,
    connectionTimeout: 0,
    keepAliveTimeout: 30_000,
    forceCloseConnections: true,
    exposeHeadRoutes: true,
    // A misspelt parameter is an error: it must not be ignored.
    ajv: { customOptions: { removeAdditional: false } },
    routerOptions: { maxParamLength: 256 },
    http: {
      headersTimeout: limits.headersMs,
      connectionsCheckingInterval: LATE_HEAD_CHECK_MS,
      maxHeaderSize: MAX_HEAD_BYTES,
      requireHostHeader: false,
    },
    clientErrorHandler: (error, socket) => malformed.answer(error, socket),
    // What the router cannot read reaches no hook.
    frameworkErrors(error, request, reply) {
      const known = describe(refusalOf(() => admit(request)) ?? error);
      void (reply as Reply).code(known.status).send({ error: known.body });
    },
  });
  malformed.watch(app.server);
  app.server.maxConnections = limits.connections;
  app.server.on('drop', () => refusals.connections++);
  app.server.on('connection', (socket) => {
    const address = socket.remoteAddress ?? '';
    if (!sources.connect(address)) {
      socket.destroy();
      return;
    }
    socket.once('close', () => sources.disconnect(address));
  });
  app.addHook('onRequest', async (request) => admit(request));
  app.setErrorHandler(async (error: unknown, _request, reply) => {
    const known = describe(error);
    if (known.status === 500) onError(error instanceof Error ? error.message : String(error));
    return reply.code(known.status).send({ error: known.body });
  });
  app.setNotFoundHandler(async (request, reply) => {
    const path = request.url.split('?', 1)[0];
    const known = failure('no-such-route', `there is no ${request.method} ${path}`);
    return reply.code(known.status).send({ error: known.body });
  });
  return app;
}

function refusalOf(admit: () => void): unknown {
  try {
    admit();
    return undefined;
  } catch (error) {
    return error;
  }
}

interface ValidationError {
  validation: {
    instancePath: string;
    message?: string;
    params?: { missingProperty?: string; additionalProperty?: string };
  }[];
}

function describe(error: unknown): { status: number; body: ErrorBody } {
  if (error instanceof HttpError) return error;
  if (isValidation(error)) {
    const [first] = error.validation;
    const { missingProperty, additionalProperty } = first?.params ?? {};
    const parameter =
      missingProperty ?? additionalProperty ?? first?.instancePath.split('/')[1] ?? 'the request';
    const what = missingProperty
      ? 'is missing'
      : additionalProperty
        ? 'there is no such parameter'
        : (first?.message ?? 'is wrong');
    return failure('bad-parameter', `${parameter}: ${what}`);
  }
  const status = statusOf(error);
  if (status >= 400 && status < 500) {
    return { status, body: failure('bad-request', (error as Error).message).body };
  }
  return failure('internal', 'the request failed inside realpod');
}

function isValidation(error: unknown): error is ValidationError {
  return typeof error === 'object' && error !== null && 'validation' in error;
}

function statusOf(error: unknown): number {
  return typeof error === 'object' && error !== null && 'statusCode' in error
    ? Number(error.statusCode)
    : 500;
}

/** Starts listening; where the machine has no IPv6, `::` becomes `0.0.0.0`. Resolves with the port. */
export async function listen(app: App, host: string, port: number): Promise<number> {
  try {
    await app.listen({ host, port });
  } catch (error) {
    if (host !== '::' || !(error instanceof Error) || !('code' in error) || error.code !== 'EAFNOSUPPORT')
      throw error;
    await app.listen({ host: '0.0.0.0', port });
  }
  const address = app.server.address();
  return typeof address === 'object' && address !== null ? address.port : port;
}

const LOOK_FOR_PORT_MS = 20;

/** Resolves when no process listens on the port. Any other error is left to `listen`. */
export async function untilFree(host: string, port: number, log: Log): Promise<undefined> {
  for (let told = false; ; told = true) {
    const probe = createServer();
    const code = await new Promise<string | undefined>((resolve) => {
      probe.once('error', (error: NodeJS.ErrnoException) => resolve(error.code));
      probe.listen({ host, port }, () => probe.close(() => resolve(undefined)));
    });
    if (code !== 'EADDRINUSE') return undefined;
    if (!told) log('info', `port ${port} is still in use by the previous helper: waiting for its end`);
    await delay(LOOK_FOR_PORT_MS);
  }
}

/** Frees the port; what is connected stays connected, until `close`. */
export function stopListening(app: App): void {
  // The HTTP server's own `close` would also end connections that are idle at the moment.
  Server.prototype.close.call(app.server);
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
