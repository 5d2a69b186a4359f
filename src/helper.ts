import { setTimeout as delay } from 'node:timers/promises';
import { CaptureError } from './capture/error.ts';
import { localAddresses, reachedAt } from './capture/local-addresses.ts';
import { openApi, opening } from './cluster/api.ts';
import { createAuthorizer } from './cluster/authorize.ts';
import { createNames } from './cluster/names.ts';
import { inCluster } from './cluster/pod-credentials.ts';
import { createReviewer } from './cluster/token.ts';
import type { HelperOptions } from './config/commands.ts';
import { nameOf, UsageError } from './config/option.ts';
import type { Feed } from './feed/feed.ts';
import { Takeover } from './feed/takeover.ts';
import { checkSources } from './helper-check.ts';
import { type Cluster, createHelperHttp, type HelperHttp } from './http/helper/app.ts';
import { untilFree, untilTaken } from './http/server.ts';
import { type Log, stderrLog } from './log.ts';
import { untilSignal } from './signals.ts';
import { type Captured, prepareCapture } from './start-capture.ts';
import { ReadyFile } from './write/ready-file.ts';

/** `realpod helper`: runs until SIGTERM or SIGINT. */
export async function runHelper(options: HelperOptions): Promise<number> {
  const log = stderrLog('helper', options.log);
  if (options.check) return checkSources(options, log);
  const stopped = untilSignal();
  let captured: Captured | undefined;
  let cluster: Cluster | undefined;
  let http: HelperHttp | undefined;
  let takeover: Takeover | undefined;
  try {
    // In a cluster the new helper of a node starts while the old one still runs.
    const rolls = inCluster();
    const { start, ...unstarted } = prepareCapture(options, log, rolls);
    const { feed, capture } = unstarted;
    const { joined, found } = joinCluster(options, feed, log);
    cluster = joined;
    http = createHelperHttp(unstarted, cluster, log, options.allowHost);
    const { host, port } = options.listen;
    const ready = new ReadyFile(options.readyFile, log);
    captured = unstarted;
    await start();
    feed.connect(capture, cluster.names);
    // All that can be done before is done when the old one ends: what passes meanwhile nobody sees.
    await Promise.race([untilNamed(cluster.names), stopped, found.then(never)]);
    if (rolls) {
      takeover = new Takeover(feed, capture);
      await rehearse(http.app, capture);
      await takeOver(takeover, log);
    }
    ready.write();
    const ended = rolls
      ? await Promise.race([untilFree(host, port, log), stopped, found.then(never)])
      : undefined;
    if (ended !== undefined) return 0;
    log('info', `serving the feed on port ${await http.server.listen(host, port)}`);
    takeover?.served();
    log('info', `received ${await Promise.race([stopped, found.then(never)])}: ending`);
    if (rolls) {
      http.server.stopListening();
      // The feed is read until the new helper is there, if one is about to be.
      await untilTaken(host, port, SUCCESSOR_MS);
      await captured.flush();
      // Readers must not wait while the rest is closed.
      await http.server.close();
    }
    return 0;
  } catch (error) {
    if (error instanceof UsageError) throw error;
    log('error', whyNot(error, options));
    return 1;
  } finally {
    takeover?.end();
    await captured?.close();
    await cluster?.close();
    await http?.server.close();
  }
}

/** How long a helper that was told to end waits for the next one to listen (ms). */
const SUCCESSOR_MS = 1_000;
/** How long the start waits for names (ms): an API server that is away must not keep the helper from serving addresses. */
const NAMES_MS = 5_000;

/** An address that nobody has (RFC 5737). */
const NOBODY = '192.0.2.1';

/** What is done for a reader is done once before there is one: code that runs first takes a second on a busy node. */
async function rehearse(
  app: HelperHttp['app'],
  capture: Pick<Captured['capture'], 'subscribe' | 'unsubscribe'>,
): Promise<void> {
  await app.ready();
  await app.inject({ url: '/v1/watermark', query: { src: NOBODY }, headers: { host: 'localhost' } });
  await capture.subscribe([NOBODY]);
  capture.unsubscribe([NOBODY]);
}

/** Resolves when the addresses of the helper before are read here, too; without them its readers begin anew. */
async function takeOver(takeover: Takeover, log: Log): Promise<void> {
  const failed = (error: Error): void =>
    log('warn', `${error.message}; the readers of the previous helper begin anew`);
  await takeover.begin().catch(failed);
  void takeover.run().catch(failed);
}

async function untilNamed(names: Cluster['names']): Promise<void> {
  const end = performance.now() + NAMES_MS;
  while (names?.synced === false && performance.now() < end) await delay(20);
}

const never = (): Promise<never> => new Promise(() => {});

/** One line for people, without a stack: these are conditions of the machine. */
function whyNot(error: unknown, options: HelperOptions): string {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof CaptureError) return message;
  if (error instanceof Error && 'code' in error && error.code === 'EADDRINUSE') {
    return `${nameOf(options, 'listen')}: port ${options.listen.port} is in use by another process; choose another`;
  }
  return message;
}

/** `found` rejects where the API server's address or credentials cannot be read. This function does not wait for it. */
function joinCluster(
  options: HelperOptions,
  feed: Feed,
  log: Log,
): { joined: Cluster; found: Promise<unknown> } {
  const kubeconfig = options.kubeconfig;
  const within = kubeconfig !== undefined || inCluster();
  const mode = options.auth ?? (inCluster() ? 'token' : 'source-ip');
  if (!within) {
    if (mode === 'token') {
      throw new UsageError(
        `${nameOf(options, 'auth')}: token needs a cluster to verify tokens; give --kubeconfig, or --auth source-ip`,
      );
    }
    const joined = {
      names: undefined,
      reviewer: undefined,
      authorizer: createAuthorizer({ mode }),
      close: async () => {},
    };
    return { joined, found: Promise.resolve() };
  }
  const found = openApi(kubeconfig);
  const api = opening(found);
  const node = process.env.NODE_NAME;
  const { host, port } = options.listen;
  const own = { port, isAt: reachedAt(host, localAddresses()) };
  const names = createNames({ api, onName: (record) => feed.name(record), log, node, own });
  names.start();
  const reviewer = mode === 'token' ? createReviewer(api, log) : undefined;
  const authorizer =
    mode === 'token' && reviewer
      ? createAuthorizer({ mode, reviewer, names, node })
      : createAuthorizer({ mode: mode === 'none' ? 'none' : 'source-ip' });
  return { joined: { names, reviewer, authorizer, close: () => names.stop() }, found };
}
