import type { PendingBlock } from '../../join/pending.ts';
import type { Parse } from '../../pipeline.ts';
import { LineStream } from './line-stream.ts';
import type { NameAt } from './name-at.ts';
import { PodTable } from './pods.ts';
import { RecentLines } from './recent.ts';

/** The data of the page and the look-ups, updated as lines leave. */
export class View {
  readonly nameAt: NameAt;
  readonly recent: RecentLines;
  readonly pods: PodTable;
  readonly stream: LineStream;
  readonly startedAt: number;
  readonly #clock: () => number;

  /** `maxRecentBytes`: bytes of lines kept for look-ups by request id and for the page; `parse` reads them again. */
  constructor(maxRecentBytes: number, nameAt: NameAt, clock: () => number, parse: Parse) {
    this.nameAt = nameAt;
    this.recent = new RecentLines(maxRecentBytes, parse);
    this.pods = new PodTable(nameAt);
    this.stream = new LineStream(this.recent, clock);
    this.startedAt = clock();
    this.#clock = clock;
  }

  /** Takes a settled block. Never fails and never waits. */
  add(block: PendingBlock<unknown>): void {
    this.recent.add(block);
    this.pods.add(block, this.#clock());
    this.stream.add(block);
  }
}
