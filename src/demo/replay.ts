import type { Capture, CaptureSink, Subscription } from '../capture/capture.ts';
import type { FeedCapture } from '../feed/feed.ts';
import type { CloseRecord, FeedRecord, Observation, OpenRecord } from '../model/feed.ts';

/**
 * The recorded nginx had served nothing before the recording began, so the record is complete for longer than that (ms). On a
 * busy machine, and at more than the recorded pace, the windows of the first lines begin earlier than the recording.
 */
const NOTHING_BEFORE_MS = 60_000;

/**
 * Plays recorded records into a feed in place of the kernel. What stands before the first watermark is what a new reader
 * gets at its start; the rest follows at the recorded pace. A recording may be played several times in a row: its
 * connections end with it.
 */
export class ReplayedCapture implements FeedCapture, Pick<Capture, 'lookup'> {
  readonly #sink: CaptureSink;
  readonly #completeSince: Subscription['completeSince'] = {};
  /** The connections that are open at this point of the play, by `src:sport`. */
  readonly #open = new Map<string, OpenRecord>();
  #records: readonly FeedRecord[] = [];
  #next = 0;
  #batch: Observation[] = [];
  /** The last recorded watermark that was played, ms since the epoch. */
  #watermark = -Infinity;
  #ended = false;
  /** Source port of the last request that was played, 0 before. */
  lastPort = 0;

  constructor(records: readonly FeedRecord[], sink: CaptureSink) {
    this.#sink = sink;
    this.load(records);
    for (; this.#next < records.length; this.#next++) {
      const record = records[this.#next]!;
      if (record.kind === 'tick') break;
      if (record.kind === 'gap') this.#completeSince[record.source] = record.t - NOTHING_BEFORE_MS;
      else this.#note(record);
    }
  }

  /** Goes on with these records. */
  load(records: readonly FeedRecord[]): void {
    this.#records = records;
    this.#next = 0;
  }

  /** Leaves out what the records have before their first watermark: a reader that is there knows it. */
  skipBeginning(): void {
    while (this.#next < this.#records.length && this.#records[this.#next]!.kind !== 'tick') this.#next++;
  }

  get finished(): boolean {
    return this.#next >= this.#records.length;
  }

  /** Delivers everything up to `t`, ms since the epoch. Never call it with a time that the clock does not show yet. */
  advance(t: number): void {
    for (
      let record = this.#records[this.#next];
      record && record.t <= t;
      record = this.#records[++this.#next]
    ) {
      if (record.kind === 'tick') {
        this.#watermark = record.t;
        this.#sink.batch(this.#batch.splice(0), record.t);
      } else if (record.kind !== 'name' && record.kind !== 'endpoint') this.#batch.push(record);
      this.#note(record);
    }
  }

  /** Ends every connection at `t`, as far as they are open. */
  closeAll(t: number): void {
    const closed = [...this.#open.values()].map(
      ({ preexisting, kernelTime, openedAfter, ...flow }): Omit<CloseRecord, 'seq'> => ({
        ...flow,
        kind: 'close',
        t,
      }),
    );
    this.#open.clear();
    this.#watermark = t;
    this.#sink.batch([...this.#batch.splice(0), ...closed], t);
  }

  /** After the recording's end: nothing more has happened up to `t`. A line waits until the feed has reached its time of reading. */
  quiet(t: number): void {
    this.#watermark = t;
    this.#sink.batch(this.#batch.splice(0), t);
  }

  async subscribe(): Promise<Subscription> {
    const flows = [...this.#open.values()].map((flow) => ({ ...flow, preexisting: true as const }));
    return { flows, completeSince: this.#completeSince };
  }

  unsubscribe(): void {}

  readPromptly(): void {}

  gather(): void {}

  /** Nothing more is played: a line that waits for a watermark gets one at once. */
  end(): void {
    this.#ended = true;
    this.quiet(Date.now());
  }

  /** The feed leaves out watermarks that follow each other closely: this gives the last one again. */
  async flush(): Promise<void> {
    if (this.#ended) this.quiet(Date.now());
    else if (this.#watermark > -Infinity) this.#sink.batch([], this.#watermark);
  }

  /** The connection that is open on this port at this point of the play. */
  async lookup(src: string, sport: number): ReturnType<Capture['lookup']> {
    const found = this.#open.get(`${src}:${sport}`);
    if (!found) return [];
    const { t, preexisting, ...flow } = found;
    return [{ ...flow, from: t, preexisting: preexisting === true, ended: false }];
  }

  #note(record: FeedRecord): void {
    if (record.kind === 'request') this.lastPort = record.sport;
    if (record.kind === 'open') this.#open.set(`${record.src}:${record.sport}`, record);
    if (record.kind === 'close' && !record.update) this.#open.delete(`${record.src}:${record.sport}`);
  }
}
