import { createRequire } from 'node:module';
import { type App, answering, createApp } from '../app.ts';
import { addLineRoutes } from './line-routes.ts';
import { addLookupRoutes } from './lookup.ts';
import type { SidecarNumbers } from './metrics.ts';
import { describeRoutes } from './openapi.ts';
import { addPageRoutes } from './page.ts';
import type { Plain } from './plain.ts';
import { addPodRoutes } from './pod-routes.ts';
import { addStatusRoutes } from './status-routes.ts';

const { version: VERSION } = createRequire(import.meta.url)('../../../package.json') as { version: string };

/**
 * The sidecar's routes: page, look-ups, lines, pods, and `plain`, which the server answers by itself: metrics and probes.
 * `onError` gets unexpected errors.
 */
export function createSidecarApp(
  numbers: SidecarNumbers,
  plain: Plain,
  onError: (message: string) => void,
): App {
  const { index, view, pipeline, clock } = numbers;
  const app = createApp(onError);
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
  addStatusRoutes(app, numbers, plain);
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
    answering(plain.metrics),
  );
  app.addHook('preClose', async () => view.stream.close());
  return app;
}
