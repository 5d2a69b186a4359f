import { appendFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { COMMANDS } from '../config/commands.ts';
import type { Options } from '../config/options.ts';
import { readOptions } from '../config/read.ts';
import { Feed } from '../feed/feed.ts';
import { createApp, listen } from '../http/app.ts';
import { addFeedRoutes } from '../http/helper/feed-routes.ts';
import { canonicalIp } from '../parse/address.ts';
import { compileLogFormat } from '../parse/log-format.ts';
import { runSidecar } from '../sidecar.ts';
import { untilSignal } from '../signals.ts';
import {
  movedInTime,
  RecordedNames,
  type Recording,
  ReplayedCapture,
  readRecording,
  startOf,
} from './recording.ts';

const FOLDER = new URL('../../demo/', import.meta.url);
const STEP_MS = 20;
/** How long it takes until all is up and the play begins (ms). */
const SOON_MS = 500;
/** After the recording's end: how often the feed says that nothing has happened (ms). */
const QUIET_MS = 1_000;
/** How long after the recording's end the last lines may take to come out (ms of recorded time). */
const PATIENCE_MS = 3_000;
/** Pairs of lines that are shown; the rest only counts. */
const SHOWN_LINES = 12;

/** `realpod demo`: a recorded run through the real feed and the real sidecar. Needs no rights and no network. */
export async function runDemo(options: Options): Promise<number> {
  const stopped = untilSignal();
  const folder = await mkdtemp(join(tmpdir(), 'realpod-demo-'));
  try {
    return await replay(folder, options, stopped);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** The page alone asks for much. */
const ROOMY = { connectionsPerSource: 20, requestsPerSecond: 5_000 };

async function replay(folder: string, options: Options, stopped: Promise<string>): Promise<number> {
  const say = (text: string): void => void process.stdout.write(`${text}\n`);
  const once = options.flag('once') || !process.stdout.isTTY;
  const speed = options.bytes('speed');
  const formatText = (await readFile(new URL('log_format', FOLDER), 'utf8')).trim();
  const format = compileLogFormat(formatText);
  const recorded = await readRecording(FOLDER, (bytes, start, end) => {
    const line = format.parse(bytes, start, end);
    return typeof line === 'string' ? undefined : line.endMs;
  });
  // The page and the figures are about the last minutes, so the recording is played as if it was of this moment: at its
  // end, where it is played faster, so that no line comes from the future.
  const begin = startOf(recorded.records);
  const hurried = Math.max(0, (recorded.lines.at(-1)!.at - begin) * (1 - 1 / speed));
  const recording = movedInTime(recorded, Date.now() + SOON_MS - hurried - begin);
  const feed = new Feed(Date.now);
  const capture = new ReplayedCapture(recording.records, feed);
  const names = new RecordedNames(recording.records);
  feed.connect(capture, names);
  const helper = createApp({ ...ROOMY, connections: 20, headersMs: 5_000 }, say);
  addFeedRoutes(helper, {
    feed,
    capture,
    authorizer: { authorize: async () => ({ ok: true }) },
    names,
    canonical: canonicalIp,
    stats: { cutOff: 0, refused: 0 },
  });
  const helperPort = await listen(helper, '127.0.0.1', 0);
  const src = recording.records.find((record) => 'src' in record);
  const before = join(folder, 'access.log');
  const after = join(folder, 'enriched.log');
  const port = await freePort();
  const ending = new AbortController();
  const sidecar = runSidecar(
    readOptions(
      COMMANDS.find((command) => command.name === 'sidecar')!,
      [
        ...['--access-log', before, '--output', after, '--log-format', formatText],
        ...['--helper', `http://127.0.0.1:${helperPort}`, '--listen', `127.0.0.1:${port}`],
        ...['--source-address', src && 'src' in src ? src.src : '127.0.0.1'],
      ],
      {},
    ),
    ending.signal,
  );
  const interrupted = { aborted: false };
  void stopped.then(() => {
    interrupted.aborted = true;
  });
  try {
    const page = `http://127.0.0.1:${port}/`;
    say(
      `realpod demo: ${recording.lines.length} lines that nginx wrote in front of two Services, and what the node's kernel`,
    );
    say(
      'saw meanwhile, replayed at their own pace, with the time of this moment, through the real helper feed and the',
    );
    say('real sidecar.');
    if (!once) say(`Open ${page} in a browser to see the pods: one is slow, one fails.`);
    say('');
    await until(() => feed.stats.readers > 0);
    const enriched = await play(recording, capture, { before, after }, speed, interrupted, say);
    say(summary(recording, enriched));
    const url = `${page}lookup?port=${capture.lastPort}`;
    say(`$ curl '${url}'\n${JSON.stringify(await (await fetch(url)).json(), undefined, 2)}`);
    if (!once && !interrupted.aborted) {
      say(`\nIt goes on answering: the page is ${page}. Ctrl-C ends it.`);
      const quiet = setInterval(() => capture.quiet(Date.now()), QUIET_MS);
      await stopped;
      clearInterval(quiet);
    }
    return enriched.length === recording.lines.length || interrupted.aborted ? 0 : 1;
  } finally {
    ending.abort();
    await sidecar;
    feed.close();
    await helper.close();
  }
}

/** Writes the log and delivers the feed at the recorded pace, and shows some lines as they come out. */
async function play(
  { lines }: Recording,
  capture: ReplayedCapture,
  paths: { before: string; after: string },
  speed: number,
  stop: { readonly aborted: boolean },
  say: (text: string) => void,
): Promise<string[]> {
  const begun = performance.now();
  const stride = Math.max(1, Math.floor(lines.length / SHOWN_LINES));
  const end = Math.max(capture.endsAt, lines.at(-1)?.at ?? 0) + PATIENCE_MS;
  let written = 0;
  let enriched: string[] = [];
  for (let shown = 0; !stop.aborted && enriched.length < lines.length; ) {
    const now = capture.startsAt + (performance.now() - begun) * speed;
    if (now > end) break;
    capture.advance(now);
    const due: Buffer[] = [];
    while (written < lines.length && lines[written]!.at <= now) due.push(lines[written++]!.bytes);
    if (due.length > 0) await appendFile(paths.before, Buffer.concat(due));
    enriched = (await readFile(paths.after, 'utf8').catch(() => '')).split('\n').slice(0, -1);
    for (; shown < enriched.length; shown += stride) {
      say(`nginx    ${lines[shown]!.bytes.toString().trimEnd()}\nrealpod  ${enriched[shown]}\n`);
    }
    await delay(STEP_MS);
  }
  return enriched;
}

function summary({ lines }: Recording, enriched: readonly string[]): string {
  const named = enriched.filter((line, i) => line !== lines[i]?.bytes.toString().trimEnd()).length;
  return `${lines.length} lines in, ${enriched.length} out; ${named} now name the pod that answered.\n`;
}

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !condition(); i++) await delay(10);
}

async function freePort(): Promise<number> {
  const app = createApp({ ...ROOMY, connections: 1, headersMs: 1_000 }, () => {});
  const port = await listen(app, '127.0.0.1', 0);
  await app.close();
  return port;
}
