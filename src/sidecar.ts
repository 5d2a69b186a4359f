import { accessSync, constants, existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { ownAddresses } from './addresses.ts';
import { readSocketTables } from './client-sockets.ts';
import type { SidecarOptions } from './config/commands.ts';
import { logFormatOf } from './config/format.ts';
import { nameOf } from './config/option.ts';
import { cpuMs } from './cpu-time.ts';
import { ConfWatch } from './doctor/conf-watch.ts';
import { type LogPlan, planLog } from './doctor/nginx-conf.ts';
import { readFeed } from './feed/client.ts';
import { readEmbeddedFeed } from './feed/embedded.ts';
import type { FeedHandlers, FeedSource } from './feed/source.ts';
import { FirstLines } from './first-lines.ts';
import { FollowError, openFollower } from './follow/follower.ts';
import { comparedBy, needsAnswers, reachOf } from './format-reach.ts';
import { YoungGeneration } from './heap.ts';
import { createSidecarServer } from './http/sidecar/server.ts';
import { View } from './http/sidecar/view.ts';
import { ClientFinder, missingForClients } from './join/clients/client-finder.ts';
import { ClientTable } from './join/clients/client-table.ts';
import { deductionFor } from './join/deduction.ts';
import { FlowIndex } from './join/index/flow-index.ts';
import { DEFAULT_LIMITS } from './join/index/limits.ts';
import { type Log, stderrLog } from './log.ts';
import { NamespaceWatch } from './namespace-watch.ts';
import { DEFAULT_LOG_FORMAT, type LogFormat } from './parse/log-format.ts';
import { type Parse, Pipeline } from './pipeline.ts';
import { createStyle, showsClient } from './rewrite/create.ts';
import { untilSignal } from './signals.ts';
import type { Captured } from './start-capture.ts';
import { openSink } from './write/open-sink.ts';
import { ReadyFile } from './write/ready-file.ts';
import { SinkError } from './write/sink.ts';

/** Bytes of pending lines; in memory they are several times as large. Without a helper, most of a second at 20,000 lines a second. */
const MAX_WAITING_BYTES = 4 * 1024 * 1024;
/** Time limit for writing the pending lines at the end (ms). */
const DRAIN_MS = 3_500;
const MAX_UNWRITTEN_BYTES = 1 * 1024 * 1024;
const MAX_RECENT_BYTES = 2 * 1024 * 1024;
/** A line waits for up to two batches and more, so one is at most this share of `--max-wait`. */
const BATCH_SHARE = 1 / 5;
/** A log without a line for this long after the start (ms) may be the wrong one. */
const ABSENT_AFTER_MS = 60_000;
const NO_FEED = { connected: false, connects: 0, failures: 0, records: 0, bytes: 0, lastAt: 0 };

/** `realpod sidecar`: runs until SIGTERM or SIGINT, or until `end` aborts, then flushes pending lines. */
export async function runSidecar(options: SidecarOptions, end?: AbortSignal): Promise<number> {
  const log = stderrLog('sidecar', options.log);
  const plan = planLog(options, {
    accessLog: options.given.accessLog === undefined ? undefined : options.accessLog,
    requestIdHeader: options.given.requestIdHeader === undefined ? undefined : options.requestIdHeader,
  });
  if (plan.notice !== undefined) log('info', plan.notice);
  const fields = { ...plan, localPortField: options.localPortField };
  const format = logFormatOf(fields);
  log('info', reachOf(format, fields, plan.requestIdHeader));
  for (const warning of format.warnings) log('warn', warning);
  const addresses = options.sourceAddress.length > 0 ? options.sourceAddress : ownAddresses();
  const stopped = untilSignal(end);
  return orSay(run({ ...options, ...pathsOf(options, plan) }, format, plan, addresses, stopped, log), log);
}

/**
 * The sidecar where options cannot be used: every line is written as nginx wrote it, so that none is lost, the log is
 * given back, and nginx does not suffer. `sound`: all options that can be used. `why`: what is wrong, for people.
 */
export async function passLines(sound: Partial<SidecarOptions>, why: string): Promise<number> {
  // Every option but the helper has a default that can be used.
  const options = { ...(sound as SidecarOptions), helper: undefined, evidence: 'exact' } as const;
  const log = stderrLog('sidecar', options.log);
  const fate = 'until a start with good options every line is written as nginx wrote it, without a pod';
  log('error', `${why}; ${fate}: mend the option, then start the pod again`);
  const plain = {
    nginxConf: undefined,
    logFormat: DEFAULT_LOG_FORMAT,
    requestIdField: 'request_id',
    given: {},
  };
  const plan = planLog(plain, { accessLog: undefined, requestIdHeader: undefined });
  const format = logFormatOf({ ...plan, localPortField: undefined });
  return orSay(run(options, format, plan, [], untilSignal(), log), log);
}

/** Says what the machine does not allow, in one line. */
async function orSay(running: Promise<number>, log: Log): Promise<number> {
  try {
    return await running;
  } catch (error) {
    if (error instanceof FollowError || error instanceof SinkError) {
      log('error', error.message);
      return 1;
    }
    throw error;
  }
}

/** Without a helper no line is read: each leaves as nginx wrote it, counted as `format`. */
async function run(
  options: Omit<SidecarOptions, 'helper'> & { readonly helper: SidecarOptions['helper'] | undefined },
  format: LogFormat,
  plan: LogPlan,
  addresses: readonly string[],
  stopped: Promise<string>,
  log: Log,
): Promise<number> {
  const clock = Date.now;
  const { accessLog, output: outputs, helper } = options;
  const young = new YoungGeneration(true);
  const needed = needsAnswers(format, { ...plan, localPortField: options.localPortField });
  const answers = needed && plan.outlivesClients === undefined;
  if (needed && !answers)
    log(
      'info',
      `nginx has ${plan.outlivesClients}, so a line may come when its client is long gone: only-answer names nothing`,
    );
  const compared = answers ? comparedBy(format, plan.passedOn) : undefined;
  const index = new FlowIndex(DEFAULT_LIMITS, compared);
  let conf = compared && plan.texts && new ConfWatch(options.nginxConf!, plan.texts);
  const timing = deductionFor(options.evidence);
  const parse: Parse =
    helper === undefined ? () => 'format' : (bytes, start, end) => format.parse(bytes, start, end);
  const firstLines = new FirstLines({
    format,
    fields: { requestIdField: plan.requestIdField, localPortField: options.localPortField },
    idHeader: plan.requestIdHeader,
    formatName: plan.formatName,
    log,
  });
  const view = new View(MAX_RECENT_BYTES, (ip, at) => index.names.at(ip, at), clock, parse);
  const reclaimer = options.reclaim
    ? (await import('./write/reclaim.ts')).openReclaimer(accessLog, { onNotice: log })
    : undefined;
  const clientTable = wantsClients(options, format, plan, log) ? new ClientTable() : undefined;
  const clients =
    clientTable && new ClientFinder({ format, table: clientTable, index, unchanged: plan.leavesClient });
  const ready = new ReadyFile(options.readyFile, log);
  let feed: FeedSource | undefined;
  const sink = await openSink({
    outputs,
    state: options.state ?? stateBeside(outputs, accessLog),
    log: accessLog,
    onNotice: log,
    onCheckpoint: (position) => reclaimer?.advance(position),
    feed: () => feed?.resumePoint,
    clock,
  });
  const batchMs = Math.floor(Math.min(options.batch, options.maxWait * BATCH_SHARE));
  const following = { resume: sink.resume, onNotice: log, clock, prompt: answers, batchMs };
  const follower = openFollower(accessLog, following);
  const pipeline: Pipeline = new Pipeline({
    follower,
    parse,
    index,
    timing,
    style: createStyle(options.style, format, options.client),
    clients,
    write: (chunks, end) => sink.write(chunks, end),
    requestTick: () => feed?.requestTick(),
    feedState: () => (feed?.stats.connected ? 'read' : feed?.returning ? 'returning' : 'away'),
    onSettled(block) {
      view.add(block);
      if (helper !== undefined) firstLines.add(block);
      young.tune(clock());
    },
    limits: {
      maxWaitMs: options.maxWait,
      maxBytes: MAX_WAITING_BYTES,
      maxUnwrittenBytes: MAX_UNWRITTEN_BYTES,
    },
    batchMs,
    clock,
  });
  const watch = new NamespaceWatch({
    blindSpots: index.blindSpots,
    addresses: options.sourceAddress.length > 0 ? undefined : ownAddresses,
    served: () => feed?.addresses ?? addresses,
    subscribe(all) {
      feed?.subscribe(all);
      return !!feed;
    },
    sockets: readSocketTables,
    // Without one, only-answer never begins, even if another reader makes the helper report answers.
    onQuiet: answers ? (moment) => index.quiet.add(moment) : undefined,
    isQuietWanted: () => index.quiet.isWanted(clock()),
    clockSetBack: () => pipeline.counters.clockSetBack,
    ownPort: options.listen.port,
    clock,
    cpuMs,
  });
  const handlers: FeedHandlers = {
    onRecords(records) {
      const { watermark } = index.coverage;
      for (const record of records) {
        clientTable?.apply(record, index.coverage.watermark);
        index.apply(record);
        if (record.kind === 'gap') watch.recordBegins();
        if (record.kind === 'untraced') firstLines.untraced(record);
        timing?.apply(record);
      }
      ready.write();
      // Before a line of nginx's new configuration is joined.
      if (conf && !conf.isUnchanged(performance.now())) {
        conf = undefined;
        index.compareNothing();
        log(
          'info',
          `${options.nginxConf} has changed: until the next start, requests and lines are not compared by content`,
        );
      }
      // Without a new watermark no line can leave.
      if (index.coverage.watermark !== watermark) pipeline.advance();
    },
    onNotice: log,
  };
  const reading = {
    addresses,
    prompt: timing !== undefined,
    answers,
    clients: clientTable !== undefined,
    content: compared !== undefined,
    batchMs,
    clock,
    ...handlers,
  };
  const server = createSidecarServer(
    {
      pipeline,
      index,
      view,
      follower: follower.stats,
      sink: sink.stats,
      feed: () => feed?.stats ?? NO_FEED,
      badOptions: helper === undefined,
      clock,
    },
    (message) => log('error', message),
    options.allowHost,
  );

  const reopen = (): void => {
    sink.reopen().catch((error: Error) => log('error', error.message));
  };
  const absence = setTimeout(() => {
    if (follower.stats.bytes === 0) log('warn', absenceOf(accessLog));
  }, ABSENT_AFTER_MS);
  process.on('SIGUSR1', reopen);
  process.on('SIGHUP', reopen);
  let captured: Captured | undefined;
  try {
    const { host, port } = options.listen;
    await server.listen(host, port).then(
      (bound) => log('info', `answering on port ${bound}`),
      // Lines matter more than look-ups: without a port, the sidecar still writes them.
      (error: Error) =>
        log(
          'error',
          `${nameOf(options, 'listen')}: cannot listen: ${error.message}; no look-ups, no metrics`,
        ),
    );
    const running = pipeline.run();
    const ended = running.then(
      () => undefined,
      (error: unknown) => error ?? new Error('the pipeline failed'),
    );
    if (helper === undefined) ready.write();
    else if (helper === 'embedded') {
      const { startCapture } = await import('./start-capture.ts');
      captured = await startCapture(options, log);
      feed = await readEmbeddedFeed({ feed: captured.feed, ...reading });
    } else {
      feed = readFeed({ url: helper, ...reading, tokenFile: options.tokenFile, resume: sink.resumeFeed });
    }
    const first = await Promise.race([stopped, ended]);
    if (typeof first === 'string') {
      log(
        'info',
        first === 'request' ? 'ending: flushing pending lines' : `received ${first}: flushing pending lines`,
      );
    }
    follower.stop();
    await Promise.race([running, delay(DRAIN_MS, undefined, { ref: false })]);
    // Does not wait for a blocked output: its rest is read again after the next start.
    await sink.close();
    await running.catch((error: unknown) => {
      if (!(error instanceof SinkError && error.code === 'CLOSED')) throw error;
      log('warn', 'not all lines could be written in time; the rest is read again after the next start');
    });
    return 0;
  } finally {
    clearTimeout(absence);
    watch.close();
    feed?.stop();
    await captured?.close();
    await sink.close();
    await reclaimer?.close();
    await server.close();
    process.off('SIGUSR1', reopen);
    process.off('SIGHUP', reopen);
  }
}

/** Whether the output shows real clients, and the format has what finding them needs. */
function wantsClients(
  { client, style, helper }: Pick<SidecarOptions, 'client' | 'style'> & { helper: unknown },
  format: LogFormat,
  { leavesClient }: LogPlan,
  log: Log,
): boolean {
  if (helper === undefined || !showsClient(style, client)) return false;
  const missing = missingForClients(format);
  if (missing !== undefined) {
    log('info', `real clients are not looked for: the log format has no ${missing}`);
    return false;
  }
  if (!leavesClient && !format.variables.includes('realip_remote_addr'))
    log(
      'info',
      'real clients are named only while nginx has one client: its realip module may change $remote_addr; give --nginx-conf, or add $realip_remote_addr $realip_remote_port to log_format',
    );
  return true;
}

/** The settings from `--nginx-conf` beside the format. */
function pathsOf(
  options: SidecarOptions,
  plan: LogPlan,
): Pick<SidecarOptions, 'accessLog' | 'requestIdHeader'> {
  return { accessLog: plan.accessLog ?? options.accessLog, requestIdHeader: plan.requestIdHeader };
}

/** Beside the first output file; with stdout alone beside the log, or none if that directory is not writable. */
function stateBeside(outputs: readonly string[], accessLog: string): string | undefined {
  const file = outputs.find((output) => output !== '-');
  if (file !== undefined) return `${file}.realpod-state`;
  try {
    accessSync(dirname(accessLog), constants.W_OK);
    return `${accessLog}.realpod-state`;
  } catch {
    return undefined;
  }
}

function absenceOf(path: string): string {
  return existsSync(path)
    ? `${path} has been empty for a minute: does nginx write there? Its access_log line says where; give that path as --access-log`
    : `${path} has not appeared in a minute: does nginx write there, and is its directory mounted here? Images of bitnami log to /opt/bitnami/nginx/logs, of openresty to /usr/local/openresty/nginx/logs, of angie to /var/log/angie`;
}
