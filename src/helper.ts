import { CaptureError } from './capture/error.ts';
import { inCluster, openApi } from './cluster/api.ts';
import { createAuthorizer } from './cluster/authorize.ts';
import { createNames } from './cluster/names.ts';
import { createReviewer } from './cluster/token.ts';
import type { HelperOptions } from './config/commands.ts';
import { nameOf, UsageError } from './config/option.ts';
import type { Feed } from './feed/feed.ts';
import { type App, listen } from './http/app.ts';
import { type Cluster, createHelperApp } from './http/helper/app.ts';
import { type Log, stderrLog } from './log.ts';
import { untilSignal } from './signals.ts';
import { type Captured, startCapture } from './start-capture.ts';

/** `realpod helper`: runs until SIGTERM or SIGINT. */
export async function runHelper(options: HelperOptions): Promise<number> {
  const log = stderrLog('helper', options.log);
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
    const { host, port } = options.listen;
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
function whyNot(error: unknown, options: HelperOptions): string {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof CaptureError) return message;
  if (error instanceof Error && 'code' in error && error.code === 'EADDRINUSE') {
    return `${nameOf(options, 'listen')}: port ${options.listen.port} is in use by another process; choose another`;
  }
  return message;
}

async function joinCluster(options: HelperOptions, feed: Feed, log: Log): Promise<Cluster> {
  const kubeconfig = options.kubeconfig;
  const within = kubeconfig !== undefined || inCluster();
  const mode = options.auth ?? (inCluster() ? 'token' : 'source-ip');
  if (!within) {
    if (mode === 'token') {
      throw new UsageError(
        `${nameOf(options, 'auth')}: token needs a cluster to verify tokens; give --kubeconfig, or --auth source-ip`,
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
