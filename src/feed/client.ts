import type { ClientRequest, IncomingMessage } from 'node:http';
import { INSTANCE_HEADER, type ResumePoint } from '../model/resume-point.ts';
import { RecordDecoder } from './codec.ts';
import { COMPACT_FORM, COMPACT_TYPE, FrameDecoder } from './frames.ts';
import { HelperRequests } from './helper-requests.ts';
import { Reconnect } from './reconnect.ts';
import { aheadOf, lastWatermark, youngest } from './record-times.ts';
import { ResumePoints } from './resume-points.ts';
import type { FeedHandlers, FeedSource, ReaderStats } from './source.ts';

/** A helper sends at least one watermark a second. A connection without a byte for this long (ms) is closed. */
const SILENCE_MS = 5_000;
const HELPER_CONNECT_MS = 3_000;
/**
 * A record may be dated this much (ms) after this machine's clock. Helper and sidecar share the node's clock, so more
 * means that the clock was set back, or that the helper's is wrong. With a watermark from the future every line would
 * seem to have all its evidence.
 */
const MAX_AHEAD_MS = 10;
/** Where the helper serves only one address: first and longest interval between requests for all of them (ms). */
const ASK_FOR_ALL_MS = 15_000;
const ASK_FOR_ALL_AT_MOST_MS = 600_000;

export interface ReaderOptions extends FeedHandlers {
  /** The helper, such as `http://10.0.0.5:9797`. */
  url: URL;
  /** nginx's own addresses. */
  addresses: readonly string[];
  /** File with a bearer token. Read for each connection, as kubelet renews it. */
  tokenFile: string | undefined;
  /** Request precise times of connection opens. */
  prompt?: boolean;
  /** Request the beginnings of answers. */
  answers?: boolean;
  /** Request the connections of clients. */
  clients?: boolean;
  /** Request hashes of the content of requests. */
  content?: boolean;
  /** How long records may be gathered (ms). */
  batchMs?: number;
  /** The resume point of an earlier process of this sidecar. */
  resume?: ResumePoint | undefined;
  clock: () => number;
}

/** Pulls the feed of a helper over HTTP until `stop()`. After a failure it connects again and resumes at its cursor. */
export function readFeed(options: ReaderOptions): FeedSource {
  return new Puller(options);
}

class Puller implements FeedSource {
  readonly stats: ReaderStats = {
    connected: false,
    connects: 0,
    failures: 0,
    records: 0,
    bytes: 0,
    lastAt: 0,
  };
  readonly #options: ReaderOptions;
  readonly #helper: HelperRequests;
  readonly #reconnect = new Reconnect();
  /** All of nginx's addresses, or, where the helper refuses them, the one that this process connects from. */
  #addresses: readonly string[];
  /** All of nginx's addresses. */
  #all: readonly string[];
  #askAgain: NodeJS.Timeout | undefined;
  #cursor: number | undefined;
  /** The latest watermark that was read (ms since the epoch). */
  #watermark = 0;
  #instance: string | undefined;
  readonly #points = new ResumePoints();
  #request: ClientRequest | undefined;
  #retry: NodeJS.Timeout | undefined;
  #watchdog: NodeJS.Timeout | undefined;
  #ticking = false;
  #stopped = false;
  #lastNotice = '';
  /** Why the current connection is being closed. */
  #why: string | undefined;

  constructor(options: ReaderOptions) {
    this.#options = options;
    this.#all = options.addresses;
    this.#addresses = this.#all;
    if (options.resume) this.#reconnect.expect(performance.now());
    this.#helper = new HelperRequests({
      url: options.url,
      tokenFile: options.tokenFile,
      onNotice: (level, text) => this.#notice(level, text),
    });
    void this.#connect();
  }

  get returning(): boolean {
    return !this.stats.connected && this.#reconnect.isExpected(performance.now());
  }

  get resumePoint(): ResumePoint | undefined {
    return this.#points.oldest;
  }

  get addresses(): readonly string[] {
    return this.#addresses;
  }

  subscribe(addresses: readonly string[]): void {
    clearTimeout(this.#askAgain);
    this.#all = addresses;
    this.#addresses = addresses;
    this.#cursor = undefined;
    this.#giveUp(`nginx has other addresses now: ${addresses.join(', ')}; restarting the feed`);
  }

  requestTick(): void {
    if (this.#ticking || !this.stats.connected) return;
    this.#ticking = true;
    void this.#helper
      .send('/v1/watermark', this.#addresses, (response) => {
        response.resume();
      })
      .then((request) => {
        request.setTimeout(HELPER_CONNECT_MS, () => request.destroy());
        request.once('close', () => {
          this.#ticking = false;
        });
        request.once('error', () => {});
      });
  }

  stop(): void {
    this.#stopped = true;
    this.stats.connected = false;
    clearTimeout(this.#retry);
    clearTimeout(this.#watchdog);
    clearTimeout(this.#askAgain);
    this.#request?.destroy();
    this.#helper.close();
  }

  async #connect(): Promise<void> {
    if (this.#stopped) return;
    const prompt = this.#options.prompt ? '&prompt=true' : '';
    const answers = this.#options.answers ? '&answers=true' : '';
    const clients = this.#options.clients ? '&clients=true' : '';
    const content = this.#options.content ? '&content=true' : '';
    const batch = this.#options.batchMs ? `&batch=${this.#options.batchMs}` : '';
    const compact = `&compact=${COMPACT_FORM}`;
    const query = `${this.#start()}${prompt}${answers}${clients}${content}${batch}${compact}`.replace(
      '&',
      '?',
    );
    const asked = this.#addresses;
    const request = await this.#helper.send(`/v1/feed${query}`, asked, (response) => this.#receive(response));
    this.#request = request;
    // Of former addresses it would bring watermarks, and nothing of those that came meanwhile.
    if (this.#stopped || this.#addresses !== asked) request.destroy();
    this.#why = undefined;
    request.setTimeout(HELPER_CONNECT_MS, () => {
      if (!this.stats.connected) this.#giveUp(`no answer within ${HELPER_CONNECT_MS} ms`);
    });
    request.once('error', (error) => {
      this.#why ??= error.message;
    });
    request.once('close', () => this.#ended(this.#why ?? 'the connection was closed'));
  }

  /** Parameters that say where the feed begins. */
  #start(): string {
    const instance = this.#instance === undefined ? '' : `&instance=${encodeURIComponent(this.#instance)}`;
    // A helper that has taken over goes on where the record of the one before ends.
    if (this.#cursor !== undefined) return `&after=${this.#cursor}${instance}&watermark=${this.#watermark}`;
    const { resume } = this.#options;
    if (!resume || this.#addresses !== this.#options.addresses) return '';
    return `&after=${resume.after}&instance=${encodeURIComponent(resume.instance)}&since=${resume.since}`;
  }

  #receive(response: IncomingMessage): void {
    if (response.statusCode !== 200) {
      this.#refused(response);
      return;
    }
    this.stats.connected = true;
    this.stats.connects++;
    const instance = response.headers[INSTANCE_HEADER];
    // Another process numbers its records anew.
    if (this.#instance !== undefined && instance !== this.#instance) this.#cursor = undefined;
    this.#instance = typeof instance === 'string' ? instance : undefined;
    this.#points.connected(this.#instance);
    const awayMs = this.#reconnect.connected(performance.now());
    const again = awayMs === undefined ? '' : ` again after ${(awayMs / 1000).toFixed(1)} s`;
    this.#notice('info', `reading the feed of ${this.#options.url.origin}${again}`);
    // A helper that does not know the compact form answers with NDJSON.
    const isCompact = response.headers['content-type'] === COMPACT_TYPE;
    const decoder = isCompact ? new FrameDecoder() : new RecordDecoder();
    const begunAt = this.#options.clock();
    this.#watch(response);
    response.on('data', (chunk: Buffer) => {
      this.stats.bytes += chunk.length;
      this.stats.lastAt = this.#options.clock();
      const { records, error } = decoder.push(chunk);
      const ahead = aheadOf(records, this.stats.lastAt);
      if (ahead > MAX_AHEAD_MS) {
        // The whole batch is dropped: no record from the future may reach the join.
        this.#forgetCursor();
        this.#giveUp(
          `its clock is ${Math.round(ahead)} ms ahead of this one; synchronise the clocks of helper and sidecar`,
        );
        return;
      }
      if (records.length > 0) {
        this.#reconnect.broughtRecords(this.stats.lastAt - begunAt);
        this.stats.records += records.length;
        this.#cursor = youngest(records, this.#cursor);
        this.#watermark = lastWatermark(records) ?? this.#watermark;
        this.#options.onRecords(records);
        this.#points.read(records, this.#cursor ?? 0, this.#options.clock());
      }
      if (error !== undefined) {
        // The boundaries of records are lost. A fresh start reports the missing time as a gap.
        this.#forgetCursor();
        this.#giveUp(`the feed is damaged: ${error}`);
      }
    });
    response.once('error', (error) => this.#giveUp(error.message));
  }

  /** A pod that has just started may be in no EndpointSlice yet, so the helper does not serve its second address. */
  #askForAll(afterMs = ASK_FOR_ALL_MS): void {
    this.#askAgain = setTimeout(() => void this.#areAllServed(afterMs), afterMs);
    this.#askAgain.unref();
  }

  /** Restarts the feed if the helper serves all addresses now; else asks again after twice `askedAfterMs` (ms). */
  async #areAllServed(askedAfterMs: number): Promise<void> {
    const all = this.#all;
    let served = false;
    const request = await this.#helper.send('/v1/watermark', all, (response) => {
      response.resume();
      served = response.statusCode === 200;
    });
    request.setTimeout(HELPER_CONNECT_MS, () => request.destroy());
    request.once('error', () => {});
    request.once('close', () => {
      // nginx has other addresses since, and those were asked for from the beginning.
      if (this.#stopped || all !== this.#all) return;
      if (!served) {
        this.#askForAll(Math.min(askedAfterMs * 2, ASK_FOR_ALL_AT_MOST_MS));
        return;
      }
      this.#addresses = all;
      this.#forgetCursor();
      this.#giveUp('the helper now serves all addresses; restarting the feed');
    });
  }

  #forgetCursor(): void {
    this.#cursor = undefined;
    this.#points.connected(undefined);
  }

  #giveUp(why: string): void {
    this.#why ??= why;
    this.#request?.destroy();
  }

  /** Reads the reason in the body. If the helper serves each reader its own address only, requests that one. */
  #refused(response: IncomingMessage): void {
    const own = response.socket.localAddress?.replace(/^::ffff:/, '');
    const chunks: Buffer[] = [];
    let length = 0;
    response.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length <= 65_536) chunks.push(chunk);
    });
    response.once('end', () => {
      let message = Buffer.concat(chunks).toString('utf8').slice(0, 500);
      try {
        const { error } = JSON.parse(message) as { error?: { message?: string; next?: string } };
        if (error?.message) message = `${error.message}; ${error.next ?? ''}`;
      } catch {
        // The answer is not from a helper: its text is shown unchanged.
      }
      if (response.statusCode! < 500) this.#reconnect.expectNot();
      const alone = response.statusCode === 403 && own !== undefined && this.#addresses.length > 1;
      if (alone) {
        this.#options.onNotice(
          'info',
          `the helper serves each reader its own address only: asking for ${own} instead of ${this.#addresses.join(', ')}`,
        );
        this.#addresses = [own];
        this.#askForAll();
      }
      this.#giveUp(`refused with ${response.statusCode}: ${message}`);
    });
  }

  #watch(response: IncomingMessage): void {
    const quiet = this.stats.bytes;
    this.#watchdog = setTimeout(() => {
      if (this.stats.bytes === quiet) this.#giveUp(`silent for ${SILENCE_MS} ms`);
      else this.#watch(response);
    }, SILENCE_MS);
    this.#watchdog.unref();
  }

  #ended(why: string): void {
    const now = performance.now();
    this.#reconnect.ended(now, this.stats.connected);
    this.stats.connected = false;
    clearTimeout(this.#watchdog);
    if (this.#stopped) return;
    this.stats.failures++;
    this.#notice(
      'warn',
      `no feed from ${this.#options.url.origin} (${why}); until it is back, no new connection is known`,
    );
    this.#retry = setTimeout(() => void this.#connect(), this.#reconnect.nextDelay(now, Math.random()));
  }

  #notice(level: 'info' | 'warn', text: string): void {
    if (text === this.#lastNotice) return;
    this.#lastNotice = text;
    this.#options.onNotice(level, text);
  }
}
