import { type Capture, CaptureError, type CaptureOptions, createCapture } from './capture/capture.ts';
import { inCluster, openApi } from './cluster/api.ts';
import { type AuthMode, createAuthorizer } from './cluster/authorize.ts';
import { createNames, type Names } from './cluster/names.ts';
import { createReviewer, type Reviewer } from './cluster/token.ts';
import { Feed } from './feed/feed.ts';
import { type Authorizer, addFeedRoutes } from './feed/routes.ts';
import { type Log, stderrLog } from './log.ts';
import { UsageError } from './options/option.ts';
import type { Options } from './options/options.ts';
import { canonicalIp } from './parse/address.ts';
import type { Source } from './record/feed.ts';
import { helperMetrics } from './serve/helper-metrics.ts';
import { type App, createApp, HttpError, type HttpLimits, listen } from './serve/http.ts';
import { untilSignal } from './signals.ts';

/** Connections kept at a time over all subscribed pods. About 600 bytes each. */
const MAX_FLOWS = 200_000;
/** A sidecar has two connections, and asks for a watermark some hundred times a second at most. */
const LIMITS: HttpLimits = {
  connections: 1_000,
  connectionsPerSource: 64,
  requestsPerSecond: 2_000,
  headersMs: 5_000,
};
/** A helper that has delivered no watermark for this long (ms) is not ready. */
const READY_WITHIN_MS = 10_000;

/** The capturing half, in a process of its own or inside a sidecar. */
export interface Captured {
  feed: Feed;
  capture: Capture;
  close(): Promise<void>;
}

/** Rejects with CaptureError where this machine or its rights do not allow it, and with UsageError. */
export async function startCapture(options: Options, log: Log): Promise<Captured> {
  const feed = new Feed(Date.now);
  const capture = createCapture(
    {
      sources: options.list('sources') as Source[],
      tap: options.text('tap') as CaptureOptions['tap'],
      tapGroup: options.number('tap-group'),
      snaplen: options.bytes('tap-snaplen'),
      requestIdHeader: options.text('request-id-header'),
      paths: !options.flag('no-paths'),
      receiveBufferBytes: options.bytes('receive-buffer'),
      maxFlows: MAX_FLOWS,
      kernelLog: options.text('kernel-log'),
      logRule: options.flag('log-rule'),
      log,
    },
    feed,
  );
  await capture.start();
  feed.connect(capture);
  return {
    feed,
    capture,
    async close() {
      feed.close();
      await capture.close();
    },
  };
}

/** What the helper knows of the cluster; without one, addresses only. */
interface Cluster {
  names: Names | undefined;
  reviewer: Reviewer | undefined;
  authorizer: Authorizer;
  close(): Promise<void>;
}

/** `realpod helper`: runs until SIGTERM or SIGINT. */
export async function runHelper(options: Options): Promise<number> {
  const log = stderrLog('helper');
  const stopped = untilSignal();
  let captured: Captured | undefined;
  let cluster: Cluster | undefined;
  let app: App | undefined;
  try {
    captured = await startCapture(options, log);
    const { feed, capture } = captured;
    cluster = await joinCluster(options, feed, log);
    feed.connect(capture, cluster.names);
    app = createHelperApp(captured, cluster, log);
    const { host, port } = options.listen('listen');
    log('info', `serving the feed on port ${await listen(app, host, port)}`);
    log('info', `ending on ${await stopped}`);
    return 0;
  } catch (error) {
    if (error instanceof UsageError) throw error;
    log('error', whyNot(error, options));
    return 1;
  } finally {
    await captured?.close();
    await cluster?.close();
    await app?.close();
  }
}

/** One line for people, without a stack: these are conditions of the machine. */
function whyNot(error: unknown, options: Options): string {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof CaptureError) return message;
  if (error instanceof Error && 'code' in error && error.code === 'EADDRINUSE') {
    return `${options.text('listen')} is in use by another process; choose another with --listen`;
  }
  return message;
}

async function joinCluster(options: Options, feed: Feed, log: Log): Promise<Cluster> {
  const kubeconfig = options.optional('kubeconfig');
  const within = kubeconfig !== undefined || inCluster();
  const mode = (options.optional('auth') ?? (inCluster() ? 'token' : 'source-ip')) as AuthMode;
  if (!within) {
    if (mode === 'token') {
      throw new UsageError(
        '--auth token: needs a cluster to verify tokens; give --kubeconfig, or --auth source-ip',
      );
    }
    return {
      names: undefined,
      reviewer: undefined,
      authorizer: createAuthorizer({ mode }),
      close: async () => {},
    };
  }
  const api = await openApi(kubeconfig);
  const names = createNames({ api, onName: (record) => feed.name(record), log });
  names.start();
  const reviewer = mode === 'token' ? createReviewer(api, log) : undefined;
  const authorizer =
    mode === 'token' && reviewer
      ? createAuthorizer({ mode, reviewer, names, node: process.env.NODE_NAME })
      : createAuthorizer({ mode: mode === 'none' ? 'none' : 'source-ip' });
  return { names, reviewer, authorizer, close: () => names.stop() };
}

export function createHelperApp(
  { feed, capture }: Pick<Captured, 'feed' | 'capture'>,
  { names, reviewer, authorizer }: Omit<Cluster, 'close'>,
  log: Log,
): App {
  const refusals = { connections: 0, requests: 0 };
  const app = createApp(LIMITS, (message) => log('error', message), refusals);
  const routes = { cutOff: 0, refused: 0 };
  addFeedRoutes(app, { feed, capture, authorizer, names, canonical: canonicalIp, stats: routes });
  const { stats, kernelLog } = capture;
  const cluster = { names: names?.stats, reviewer: reviewer?.stats };
  const metrics = helperMetrics({
    capture: stats,
    kernelLog,
    feed,
    routes,
    refusals,
    cluster,
    clock: Date.now,
  });
  app.get('/metrics', async (_request, reply) => reply.type(metrics.contentType).send(await metrics.text()));
  // Without counts `--evidence inferred` names fewer lines; nothing else needs them.
  app.get('/healthz', async () => ({ status: 'ok', accounting: stats.accounting }));
  app.get('/readyz', async () => {
    const age = Date.now() - feed.watermark;
    // Nothing is read for nobody, so a helper without readers is as ready as it can be.
    if (feed.addresses.length === 0 || age <= READY_WITHIN_MS) return { status: 'ok' };
    throw new HttpError(
      503,
      'no-watermark',
      `nothing read from the kernel for ${Math.round(age)} ms`,
      'see the log',
    );
  });
  return app;
}
