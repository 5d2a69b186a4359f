import type { App } from '../app.ts';
import { ERRORS, type ErrorCode } from '../errors.ts';
import { ERROR, type Schema, text } from './schemas.ts';

/** Errors of every route. */
const EVERYWHERE: readonly ErrorCode[] = ['bad-request', 'wrong-host', 'too-many-requests', 'internal'];

interface RouteSchema {
  summary?: string;
  description?: string;
  querystring?: Schema;
  response?: Record<string, { description?: string; content?: Record<string, { schema: Schema }> } & Schema>;
}

interface Operation {
  summary: string;
  description?: string;
  parameters: object[];
  responses: Record<string, object>;
}

/**
 * Collects the routes that are added to `app` from here on and serves them as an OpenAPI 3.1 document at
 * `/openapi.json`. Routes without a summary are left out.
 */
export function describeRoutes(app: App, version: string): void {
  const paths: Record<string, { get: Operation }> = {};
  app.addHook('onRoute', ({ method, url, schema, config }) => {
    const described = schema as RouteSchema | undefined;
    if (method !== 'GET' || !described?.summary) return;
    const { summary, description, querystring, response = {} } = described;
    const errors: ErrorCode[] = [...(config?.errors ?? []), ...EVERYWHERE];
    if (querystring && !errors.includes('bad-parameter')) errors.push('bad-parameter');
    const path = url.replace(/:(\w+)/g, '{$1}');
    paths[path] = {
      get: {
        summary,
        ...(description === undefined ? {} : { description }),
        parameters: [...inPath(url), ...inQuery(querystring)],
        responses: { ...successes(response), ...failures(errors) },
      },
    };
  });
  app.get(
    '/openapi.json',
    {
      schema: {
        summary: 'This description',
        response: { 200: { type: 'object', additionalProperties: true } },
      },
    },
    async () => ({
      openapi: '3.1.0',
      info: { title: 'realpod sidecar', version, license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } },
      paths,
      components: { schemas: { Error: ERROR } },
    }),
  );
}

function inPath(url: string): object[] {
  return [...url.matchAll(/:(\w+)/g)].map(([, name]) => ({
    name,
    in: 'path',
    required: true,
    schema: { type: 'string' },
  }));
}

function inQuery(schema: Schema | undefined): object[] {
  return Object.entries(schema?.properties ?? {}).map(([name, { description, ...rest }]) => ({
    name,
    in: 'query',
    required: schema?.required?.includes(name) ?? false,
    ...(description === undefined ? {} : { description }),
    schema: rest,
  }));
}

function successes(response: NonNullable<RouteSchema['response']>): Record<string, object> {
  return Object.fromEntries(
    Object.entries(response).map(([status, schema]) => {
      if (schema.content) {
        return [status, { description: schema.description ?? 'Success', content: schema.content }];
      }
      return [status, { description: 'Success', content: { 'application/json': { schema } } }];
    }),
  );
}

function failures(codes: readonly ErrorCode[]): Record<string, object> {
  const byStatus = new Map<number, ErrorCode[]>();
  for (const code of codes) {
    const { status } = ERRORS[code];
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  return Object.fromEntries(
    [...byStatus].map(([status, kinds]) => [
      String(status),
      {
        description: kinds.map((code) => `\`${code}\`: ${ERRORS[code].when}`).join(' '),
        content: {
          'application/json': {
            schema: {
              ...ERROR,
              properties: {
                error: {
                  ...ERROR.properties!.error,
                  properties: {
                    ...ERROR.properties!.error!.properties,
                    code: { ...text('stable, for programs'), enum: kinds },
                  },
                },
              },
            },
          },
        },
      },
    ]),
  );
}
