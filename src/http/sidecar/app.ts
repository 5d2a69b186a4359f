import { createRequire } from 'node:module';
import { type App, createApp, type HttpLimits } from '../app.ts';
import type { Refusals } from '../sources.ts';
import { addLineRoutes } from './line-routes.ts';
import { addLookupRoutes } from './lookup.ts';
import { type SidecarNumbers, sidecarMetrics } from './metrics.ts';
import { describeRoutes } from './openapi.ts';
import { addPageRoutes } from './page.ts';
import { addPodRoutes } from './pod-routes.ts';
import { addStatusRoutes } from './status-routes.ts';

/** `kubectl port-forward` and probes come from one address each, with many connections at most. */
const LIMITS: HttpLimits = {
  connections: 200,
  connectionsPerSource: 100,
  requestsPerSecond: 500,
  headersMs: 5_000,
};
const { version: VERSION } = createRequire(import.meta.url)('../../../package.json') as { version: string };

/**
 * The sidecar's routes: page, look-ups, lines, pods, metrics, probes. `onError` gets unexpected errors; `allowHost` are
 * further allowed `Host` names.
 */
export function createSidecarApp(
  numbers: SidecarNumbers,
  onError: (message: string) => void,
  allowHost: readonly string[] = [],
): App {
  const { index, view, pipeline, clock } = numbers;
  const refusals: Refusals = { connections: 0, requests: 0, hosts: 0 };
  const app = createApp(LIMITS, onError, refusals, allowHost);
  describeRoutes(app, VERSION);
  addPageRoutes(app);
  addLookupRoutes(app, {
    index,
    recent: view.recent,
    catchUp: (atMostMs) => pipeline.catchUp(atMostMs),
    clock,
  });
  addLineRoutes(app, view);
  addPodRoutes(app, view, clock);
  addStatusRoutes(app, numbers);
  const metrics = sidecarMetrics({ ...numbers, refusals });
  app.get(
    '/metrics',
    {
      schema: {
        summary: 'Metrics in the Prometheus text format',
        response: {
          200: { description: 'Metrics', content: { 'text/plain': { schema: { type: 'string' } } } },
        },
      },
    },
    async (_request, reply) => reply.type(metrics.contentType).send(await metrics.text()),
  );
  app.addHook('preClose', async () => view.stream.close());
  return app;
}
