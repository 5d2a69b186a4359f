/**
 * The source `trace`: which upstream connections the request behind each line of nginx's logs used, read from the memory of
 * nginx's workers on this node (bpf/trace.bpf.c).
 *
 * A line is reported before nginx writes it. So when the loader has passed on all that it had at a time, every line that can
 * have been read by then is in the feed, and the watermark of that time may follow.
 */
import type { Observation } from '../../model/feed.ts';
import type {
  Capture,
  CaptureSink,
  CaptureStats,
  KernelLogStats,
  KnownFlow,
  Subscription,
  TraceStats,
  Wishes,
} from '../capture.ts';
import { Completeness } from '../completeness.ts';
import { TracedBinaries } from './binaries.ts';
import { parseTracedLine } from './line.ts';
import type { Loader, LoaderCounts, LoaderParts } from './loader.ts';
import type { Found } from './processes.ts';

/** Interval of looking for processes of nginx (ms), while an address is subscribed. */
const LOOK_MS = 1_000;
/** A worker of a binary that is found now may have written lines for this long (ms). */
const UNSEEN_MS = 2 * LOOK_MS;
/** A sidecar that has come since is told within this time which nginx is not traced (ms). */
const UNTRACED_AGAIN_MS = 60_000;
/** Waits before the loader is started again (ms): the first one, and the longest. */
const FIRST_RESTART_MS = 200;
const LAST_RESTART_MS = 10_000;

export interface TraceOptions {
  start(parts: LoaderParts): Promise<Loader>;
  find(addresses: ReadonlySet<string>): Found;
  read(path: string): Buffer;
  clock: { wall(): number };
  log(level: 'info' | 'warn' | 'error', message: string): void;
}

/** Adds the trace to another Capture. */
export class TracedCapture implements Capture {
  readonly trace: TraceStats = {
    lines: 0,
    malformed: 0,
    lost: 0,
    contradicted: 0,
    unexpected: 0,
    binaries: 0,
    restarts: 0,
  };
  readonly #capture: Capture;
  readonly #options: TraceOptions;
  readonly #sink: CaptureSink;
  readonly #addresses = new Set<string>();
  readonly #completeness = new Completeness(['trace']);
  readonly #binaries: TracedBinaries;
  /** Observations of the other sources since the last delivery, and lines. */
  #pending: Observation[] = [];
  #lines: Observation[] = [];
  #innerWatermark: number;
  #watermark: number;
  #loader: Loader | undefined;
  /** When it was last told of an address that nginx is not traced there, and why. */
  #untraced = new Map<string, number>();
  #counts: LoaderCounts = NOTHING;
  #cycle: Promise<void> | undefined;
  #again = false;
  #looking: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #restart: NodeJS.Timeout | undefined;
  #restartMs = FIRST_RESTART_MS;
  #closed = false;

  /** `capture` makes the Capture of the other sources. */
  constructor(capture: (sink: CaptureSink) => Capture, options: TraceOptions, sink: CaptureSink) {
    this.#options = options;
    this.#sink = sink;
    this.#watermark = options.clock.wall();
    this.#innerWatermark = this.#watermark;
    this.#binaries = new TracedBinaries(options);
    this.#capture = capture({ batch: (observations, watermark) => this.#take(observations, watermark) });
  }

  get stats(): CaptureStats {
    return this.#capture.stats;
  }

  get kernelLog(): KernelLogStats | undefined {
    return this.#capture.kernelLog;
  }

  async start(): Promise<void> {
    // Beside each other: a helper that was ended is missed until both are there.
    const loading = this.#startLoader().then((started) => {
      this.#loader = started;
    });
    const [loader, others] = await Promise.allSettled([loading, this.#capture.start()]);
    if (others.status === 'rejected') {
      this.#loader?.close();
      throw others.reason;
    }
    if (loader.status === 'rejected') {
      await this.#capture.close();
      throw loader.reason;
    }
    this.#timer = setInterval(() => void this.#look(), LOOK_MS);
    this.#timer.unref();
  }

  async subscribe(addresses: readonly string[], wishes?: Wishes): Promise<Subscription> {
    for (const address of addresses) this.#addresses.add(address);
    await this.#look();
    const subscription = await this.#capture.subscribe(addresses, wishes);
    subscription.completeSince.trace = this.#options.clock.wall();
    return subscription;
  }

  unsubscribe(addresses: readonly string[]): void {
    for (const address of addresses) this.#addresses.delete(address);
    void this.#look();
    this.#capture.unsubscribe(addresses);
  }

  readPromptly(prompt: boolean): void {
    this.#capture.readPromptly(prompt);
  }

  gather(ms: number): void {
    this.#capture.gather(ms);
  }

  async flush(): Promise<void> {
    await this.#capture.flush();
    await this.#deliver();
  }

  lookup(src: string, sport: number): Promise<KnownFlow[]> {
    return this.#capture.lookup(src, sport);
  }

  addressesBeside(): Promise<{ addresses: string[]; answered: string[] }> {
    return this.#capture.addressesBeside();
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    clearTimeout(this.#restart);
    this.#loader?.close();
    await this.#capture.close();
    await this.#cycle;
  }

  #take(observations: readonly Observation[], watermark: number): void {
    for (const observation of observations) this.#pending.push(observation);
    this.#innerWatermark = watermark;
    void this.#deliver();
  }

  /** Resolves when what there was at this call has been delivered. */
  #deliver(): Promise<void> {
    this.#again = true;
    this.#cycle ??= this.#cycles().finally(() => {
      this.#cycle = undefined;
    });
    return this.#cycle;
  }

  async #cycles(): Promise<void> {
    while (this.#again && !this.#closed) {
      this.#again = false;
      // What comes while the loader answers belongs to the next delivery.
      const out = this.#pending;
      const watermark = this.#innerWatermark;
      this.#pending = [];
      const loader = this.#loader;
      // Nothing is watched for no one: a wait would only delay the others.
      const counts = this.#addresses.size > 0 ? await loader?.sync() : this.#counts;
      if (this.#closed) return;
      if (counts && loader === this.#loader) this.#count(counts);
      for (const line of this.#lines) out.push(line);
      this.#lines = [];
      for (const gap of this.#completeness.gaps(this.#watermark, this.#options.clock.wall())) out.push(gap);
      this.#watermark = watermark;
      this.#sink.batch(out, watermark);
    }
  }

  /** What was lost since the last reading is a gap. */
  #count(counts: LoaderCounts): void {
    const before = this.#counts;
    const lost = counts.lost - before.lost;
    const contradicted = counts.contradicted - before.contradicted;
    this.#counts = counts;
    this.trace.lost += lost;
    this.trace.contradicted += contradicted;
    this.trace.unexpected += counts.unexpected - before.unexpected;
    if (lost + contradicted > 0) this.#completeness.lose('trace', lost);
  }

  #onLine(text: string): void {
    const line = parseTracedLine(text);
    if (line === undefined) {
      this.trace.malformed++;
      this.#completeness.lose('trace', 1);
      return;
    }
    this.trace.lines++;
    if (this.#addresses.has(line.src)) this.#lines.push(line);
  }

  async #startLoader(): Promise<Loader> {
    this.#counts = NOTHING;
    const loader = await this.#options.start({
      onLine: (text) => this.#onLine(text),
      onEnd: (why) => this.#onEnd(why),
    });
    this.#binaries.restart(loader);
    return loader;
  }

  #onEnd(why: string): void {
    if (this.#closed) return;
    this.#loader = undefined;
    this.#completeness.impair('trace');
    this.#options.log(
      'error',
      `the trace of nginx stopped, ${why}; lines are named without it until it runs again`,
    );
    this.#restartLater();
  }

  #restartLater(): void {
    this.#restart = setTimeout(() => void this.#tryAgain(), this.#restartMs);
    this.#restart.unref();
    this.#restartMs = Math.min(LAST_RESTART_MS, this.#restartMs * 2);
  }

  async #tryAgain(): Promise<void> {
    try {
      const loader = await this.#startLoader();
      if (this.#closed) {
        loader.close();
        return;
      }
      this.#loader = loader;
      this.trace.restarts++;
      await this.#look();
      if (this.#loader !== loader) return;
      this.#completeness.mend('trace');
      this.#options.log('info', 'nginx is traced again');
    } catch (error) {
      this.#options.log('error', (error as Error).message);
      if (!this.#closed) this.#restartLater();
    }
  }

  /** Attaches to the binaries that run now. Resolves when that is done. */
  #look(): Promise<void> {
    this.#looking = (this.#looking ?? Promise.resolve()).then(async () => {
      if (this.#closed || this.#loader === undefined) return;
      const fresh = await this.#binaries.look(this.#addresses);
      this.trace.binaries = this.#binaries.attached;
      // Lines of its workers until now are among those of others'.
      if (fresh) this.#completeness.lose('trace', 0, this.#options.clock.wall() - UNSEEN_MS);
      else this.#restartMs = FIRST_RESTART_MS;
      this.#tellUntraced();
    });
    this.#looking = this.#looking.catch((error: Error) => {
      this.#options.log('warn', `the processes of nginx cannot be looked for: ${error.message}`);
    });
    return this.#looking;
  }

  #tellUntraced(): void {
    const t = this.#options.clock.wall();
    const told = new Map<string, number>();
    for (const { address, why } of this.#binaries.untraced()) {
      const key = `${address} ${why}`;
      const last = this.#untraced.get(key);
      const isDue = last === undefined || Math.abs(t - last) >= UNTRACED_AGAIN_MS;
      if (isDue && this.#addresses.has(address))
        this.#lines.push({ kind: 'untraced', t, src: address, via: 'trace', why });
      told.set(key, isDue ? t : last);
    }
    this.#untraced = told;
  }
}

const NOTHING: LoaderCounts = { lost: 0, contradicted: 0, unexpected: 0, lines: 0 };
