import type { Capture } from '../../capture/capture.ts';
import type { Authorizer } from '../../cluster/authorize.ts';
import type { ClusterNames } from '../../cluster/names.ts';
import type { Reviewer } from '../../cluster/token.ts';
import type { Feed } from '../../feed/feed.ts';
import type { Log } from '../../log.ts';
import { canonicalIp } from '../../parse/address.ts';
import { jsonAnswer, type Respond } from '../answer.ts';
import { type App, answering, createApp, HttpError } from '../app.ts';
import { type HttpLimits, HttpServer } from '../server.ts';
import { addFeedRoutes } from './feed-routes.ts';
import { helperMetrics } from './metrics.ts';

/** A sidecar has two connections, and requests a watermark some hundred times a second at most. */
const LIMITS: HttpLimits = {
  connections: 1_000,
  connectionsPerSource: 64,
  requestsPerSecond: 2_000,
  headersMs: 5_000,
};
/** A helper that has delivered no watermark for this long (ms) is not ready. */
const READY_WITHIN_MS = 10_000;

/** Names and tokens of the cluster; without a cluster there are addresses only. */
export interface Cluster {
  names: ClusterNames | undefined;
  reviewer: Reviewer | undefined;
  authorizer: Authorizer;
  close(): Promise<void>;
}

/** The helper's HTTP interface: the server, and the application behind it. */
export interface HelperHttp {
  server: HttpServer;
  app: App;
}

export function createHelperHttp(
  { feed, capture }: { feed: Feed; capture: Capture },
  { names, reviewer, authorizer }: Omit<Cluster, 'close'>,
  log: Log,
  allowHost: readonly string[] = [],
): HelperHttp {
  const refusals = { connections: 0, requests: 0, hosts: 0 };
  const onError = (message: string): void => log('error', message);
  const app = createApp(onError);
  const routes = { cutOff: 0, refused: 0 };
  addFeedRoutes(app, { feed, capture, authorizer, names, canonical: canonicalIp, stats: routes });
  const { stats, kernelLog, trace } = capture;
  const cluster = { names: names?.stats, reviewer: reviewer?.stats };
  const metrics = helperMetrics({
    capture: stats,
    kernelLog,
    trace,
    feed,
    routes,
    refusals,
    cluster,
    clock: Date.now,
  });
  const plain = new Map<string, Respond>([
    ['/metrics', () => ({ type: metrics.contentType, body: metrics.text() })],
    // Only `--evidence inferred` needs the counts, and names fewer lines without them.
    ['/healthz', () => jsonAnswer({ status: 'ok', accounting: stats.accounting })],
    [
      '/readyz',
      () => {
        const age = Date.now() - feed.watermark;
        // Without readers the helper reads nothing, so it is ready.
        if (feed.addresses.length === 0 || age <= READY_WITHIN_MS) return jsonAnswer({ status: 'ok' });
        throw new HttpError(
          503,
          'no-watermark',
          `nothing read from the kernel for ${Math.round(age)} ms`,
          'see the log',
        );
      },
    ],
  ]);
  for (const [path, respond] of plain) app.get(path, answering(respond));
  const server = new HttpServer({ limits: LIMITS, application: app, plain, onError, refusals, allowHost });
  return { server, app };
}
