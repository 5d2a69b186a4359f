import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Respond } from './answer.ts';
import { type ErrorBody, type ErrorCode, failure, HttpError } from './errors.ts';

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

/**
 * An HTTP application without routes, to stand behind an `HttpServer`, which has the limits and admits the requests. Every
 * error has one form and no stack trace. `onError` gets unexpected errors.
 */
export function createApp(onError: (message: string) => void): App {
  const app = fastify({
    bodyLimit: 4096,
    exposeHeadRoutes: true,
    // A misspelt parameter is an error: it must not be ignored.
    ajv: { customOptions: { removeAdditional: false } },
    routerOptions: { maxParamLength: 256 },
    // What the router cannot read reaches no hook.
    frameworkErrors(error, _request, reply) {
      const known = describe(error);
      void (reply as Reply).code(known.status).send({ error: known.body });
    },
  });
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

/** For the routes that the server answers by itself: with another method, or with a query, they come here. */
export function answering(respond: Respond): (request: Request, reply: Reply) => Promise<Reply> {
  return async (_request, reply) => {
    const { type, body } = await respond();
    return reply.type(type).send(body);
  };
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
