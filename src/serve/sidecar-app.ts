import { createRequire } from 'node:module';
import { type App, createApp } from './http.ts';
import { addLineRoutes } from './line-routes.ts';
import { addLookupRoutes } from './lookup.ts';
import { describeRoutes } from './openapi.ts';
import { addPageRoutes } from './page.ts';
import { addPodRoutes } from './pod-routes.ts';
import { type SidecarNumbers, sidecarMetrics } from './sidecar-metrics.ts';
import { addStatusRoutes } from './status-routes.ts';

const MAX_CONNECTIONS = 200;
const HEADERS_MS = 5_000;
const { version: VERSION } = createRequire(import.meta.url)('../../package.json') as { version: string };

/** All that the sidecar answers: page, look-ups, lines, pods, metrics, probes. `onError` gets what was not foreseen. */
export function createSidecarApp(numbers: SidecarNumbers, onError: (message: string) => void): App {
  const { index, view, clock } = numbers;
  const app = createApp({ connections: MAX_CONNECTIONS, headersMs: HEADERS_MS }, onError);
  describeRoutes(app, VERSION);
  addPageRoutes(app);
  addLookupRoutes(app, { index, recent: view.recent, clock });
  addLineRoutes(app, view);
  addPodRoutes(app, view, clock);
  addStatusRoutes(app, numbers);
  const metrics = sidecarMetrics(numbers);
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
