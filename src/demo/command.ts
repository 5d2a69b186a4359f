import { once } from 'node:events';
import { appendFile, mkdtemp, readFile, rename, rm, stat, truncate } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { COMMAND, type DemoOptions, type SidecarOptions } from '../config/commands.ts';
import { readOptions } from '../config/read.ts';
import { Feed } from '../feed/feed.ts';
import { createApp } from '../http/app.ts';
import { addFeedRoutes } from '../http/helper/feed-routes.ts';
import { HttpServer } from '../http/server.ts';
import type { PodsAnswer } from '../http/sidecar/answers.ts';
import { canonicalIp } from '../parse/address.ts';
import { compileLogFormat } from '../parse/log-format.ts';
import { untilSignal } from '../signals.ts';
import { lookOf } from '../terminal/table.ts';
import {
  expectedLines,
  movedInTime,
  RecordedNames,
  type Recording,
  readRecording,
  startOf,
} from './recording.ts';
import { ReplayedCapture } from './replay.ts';
import { linePair, podTable, resultOf, resultText } from './show.ts';

const FOLDER = new URL('../../demo/', import.meta.url);
const PLAY_STEP_MS = 20;
/** Time limit for the last lines after the end of the play (ms). */
const PATIENCE_MS = 15_000;
/** --max-wait of the sidecar: on a busy machine the play itself is late. */
const MAX_WAIT = '10s';
/** Pairs of lines that are printed. */
const SHOWN_LINES = 12;
/** Bytes of the log at which the repeating play rotates it, so that a demo left running fills no disk. */
const ROTATE_AT = 4 * 1024 * 1024;
/** The page alone sends many requests. */
const ROOMY = { connectionsPerSource: 20, requestsPerSecond: 5_000 };

/** The sidecar as the command line composes it. Resolves with its exit code after `stop` aborts. */
export type RunSidecar = (options: SidecarOptions, stop: AbortSignal) => Promise<number>;

interface Stage {
  recorded: Recording;
  /** The recording with its times moved to now. */
  recording: Recording;
  capture: ReplayedCapture;
  /** nginx's log, and the enriched one. */
  paths: { before: string; after: string };
  stop: AbortSignal;
}

/**
 * `realpod demo`: a recorded run through the real feed and the real sidecar. Needs no rights and no network. Exit 1
 * unless every line that the recording can name comes out with its pod.
 */
export async function runDemo(options: DemoOptions, runSidecar: RunSidecar): Promise<number> {
  const stop = new AbortController();
  void untilSignal(undefined, ['SIGTERM', 'SIGINT', 'SIGHUP']).then(() => stop.abort());
  // The reader of the output, or the terminal, may go at any time.
  const onError = (): void => stop.abort();
  process.stdout.on('error', onError);
  process.stderr.on('error', onError);
  const folder = await mkdtemp(join(tmpdir(), 'realpod-demo-'));
  try {
    return await replay(folder, options, runSidecar, stop.signal);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function replay(
  folder: string,
  options: DemoOptions,
  runSidecar: RunSidecar,
  stop: AbortSignal,
): Promise<number> {
  const say = (text: string): void => void process.stdout.write(`${text}\n`);
  const once = options.once || !process.stdout.isTTY;
  const speed = options.speed;
  const formatText = (await readFile(new URL('log_format', FOLDER), 'utf8')).trim();
  const format = compileLogFormat(formatText);
  const recorded = await readRecording(FOLDER, (bytes, start, end) => {
    const line = format.parse(bytes, start, end);
    return typeof line === 'string' ? undefined : line.endMs;
  });
  const recording = movedInTime(recorded, Date.now() - startOf(recorded.records), 0, speed);
  const feed = new Feed(Date.now);
  const capture = new ReplayedCapture(recording.records, feed);
  const names = new RecordedNames(recording.records);
  feed.connect(capture, names);
  const app = createApp(say);
  addFeedRoutes(app, {
    feed,
    capture,
    authorizer: { authorize: async () => ({ ok: true }) },
    names,
    canonical: canonicalIp,
    stats: { cutOff: 0, refused: 0 },
  });
  const limits = { ...ROOMY, connections: 20, headersMs: 5_000 };
  const helper = new HttpServer({ limits, application: app, onError: say });
  const helperPort = await helper.listen('127.0.0.1', 0);
  const src = recording.records.find((record) => 'src' in record);
  const paths = { before: join(folder, 'access.log'), after: join(folder, 'enriched.log') };
  const port = await freePort();
  const page = `http://127.0.0.1:${port}/`;
  say(
    `realpod demo: ${recording.lines.length} lines that nginx wrote in front of two Services, and what the node's kernel`,
  );
  say('saw meanwhile, played again as of now, through the real helper feed and the real sidecar.');
  if (!once) say(`Open ${page} in a browser to see the pods: a slow one and failing ones are marked.`);
  say('');
  const ending = new AbortController();
  const sidecar = runSidecar(
    readOptions(
      COMMAND.sidecar,
      [
        ...['--access-log', paths.before, '--output', paths.after, '--log-format', formatText],
        ...['--helper', `http://127.0.0.1:${helperPort}`, '--listen', `127.0.0.1:${port}`],
        ...['--source-address', src && 'src' in src ? src.src : '127.0.0.1', '--max-wait', MAX_WAIT],
      ],
      {},
    ),
    ending.signal,
  );
  try {
    await until(() => feed.stats.readers > 0 || stop.aborted);
    const stage = { recorded, recording, capture, paths, stop };
    const enriched = await play(stage, say);
    if (stop.aborted) return 0;
    const result = resultOf(recording, expectedLines(recording), enriched);
    say(`${resultText(result)}\n`);
    const pods = (await (await fetch(`${page}pods?window=900`)).json()) as PodsAnswer;
    say(podTable(pods.pods, lookOf(process.stdout, process.env)));
    const url = `${page}lookup?port=${capture.lastPort}`;
    say(`$ curl '${url}'\n${JSON.stringify(await (await fetch(url)).json(), undefined, 2)}`);
    if (!once) {
      say(`\nThe recording now repeats, for the page: ${page}  Ctrl-C ends it.`);
      await repeat(stage);
    }
    return result.wrong === 0 && result.missing === 0 ? 0 : 1;
  } finally {
    capture.end();
    ending.abort();
    await sidecar;
    feed.close();
    await helper.close();
  }
}

/** Plays the recording once and shows some lines as they come out. Resolves with the enriched lines. */
async function play(
  { recording, capture, paths, stop }: Stage,
  say: (text: string) => void,
): Promise<string[]> {
  const { lines } = recording;
  const look = lookOf(process.stdout, process.env);
  const stride = Math.max(1, Math.floor(lines.length / SHOWN_LINES));
  const begun = performance.now();
  let playedAt = Infinity;
  let written = 0;
  let enriched: string[] = [];
  for (let shown = 0; !stop.aborted && enriched.length < lines.length; ) {
    const elapsed = performance.now() - begun;
    if (elapsed > playedAt + PATIENCE_MS) break;
    // No record comes before its own time, and none later: the feed's clock would seem to be behind.
    const now = Date.now();
    capture.advance(now);
    written = await append(paths.before, lines, written, now);
    if (capture.finished) capture.quiet(Date.now());
    if (capture.finished && written === lines.length) playedAt = Math.min(playedAt, elapsed);
    enriched = (await readFile(paths.after, 'latin1').catch(() => '')).split('\n').slice(0, -1);
    for (; shown < enriched.length; shown += stride) {
      say(linePair(lines[shown]!.bytes.toString('latin1').trimEnd(), enriched[shown]!, look));
    }
    await delay(PLAY_STEP_MS, undefined, { signal: stop }).catch(() => {});
  }
  // What the recording has after its last line.
  while (!stop.aborted && !capture.finished) {
    capture.advance(Date.now());
    await delay(PLAY_STEP_MS, undefined, { signal: stop }).catch(() => {});
  }
  return enriched;
}

/** Plays the recording over and over at its own pace until `stop` aborts. */
async function repeat({ recorded, capture, paths, stop }: Stage): Promise<void> {
  for (let pass = 1; !stop.aborted; pass++) {
    const begin = Date.now();
    capture.closeAll(begin);
    await rotate(paths);
    const { records, lines } = movedInTime(recorded, begin - startOf(recorded.records), pass);
    capture.load(records);
    capture.skipBeginning();
    for (let written = 0; !stop.aborted && !(capture.finished && written === lines.length); ) {
      const now = Date.now();
      capture.advance(now);
      written = await append(paths.before, lines, written, now);
      await delay(PLAY_STEP_MS, undefined, { signal: stop }).catch(() => {});
    }
  }
}

/** Writes the lines from `next` on that are due by `now`; resolves with the first that is not. */
async function append(path: string, lines: Recording['lines'], next: number, now: number): Promise<number> {
  let end = next;
  while (end < lines.length && lines[end]!.at <= now) end++;
  if (end > next) await appendFile(path, Buffer.concat(lines.slice(next, end).map(({ bytes }) => bytes)));
  return end;
}

/** All lines have come out, so nothing is lost with the old ones. */
async function rotate({ before, after }: Stage['paths']): Promise<void> {
  if ((await stat(before)).size < ROTATE_AT) return;
  await rename(before, `${before}.1`);
  await truncate(after);
}

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 3_000 && !condition(); i++) await delay(10);
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
