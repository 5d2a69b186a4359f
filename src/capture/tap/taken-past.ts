import type { CaptureStats } from '../capture.ts';
import type { FlowTablesFound, FlowTablesSource } from './flow-tables.ts';

export interface TakenPastParts {
  flowTables: FlowTablesSource;
  stats: CaptureStats;
  log(level: 'info' | 'warn' | 'error', message: string): void;
}

/** Whether a flow table may have taken requests past the tap, from one reading to the next. */
export class TakenPast {
  readonly #parts: TakenPastParts;
  #before = '';

  constructor(parts: TakenPastParts) {
    this.#parts = parts;
  }

  /**
   * Whether the tap can have missed requests since the last call. To be called behind a reading: what was read is whole
   * only up to the moment at which no flow table was there yet.
   */
  check(): boolean {
    const { flowTables, stats, log } = this.#parts;
    const found = flowTables.find();
    const now = found === 'not-known' ? found : found.tables.join(', ');
    stats.flowTables = found === 'not-known' ? -1 : found.tables.length;
    const before = this.#before;
    this.#before = now;
    if (now !== before) log(...told(found));
    return now !== '' || before !== '';
  }
}

function told(found: FlowTablesFound): ['info' | 'error', string] {
  const unseen = 'lines of Services with several pods stay as they are';
  if (found === 'not-known')
    return ['error', `the kernel does not tell which flow tables it has: as long as that is so, ${unseen}`];
  const { tables } = found;
  if (tables.length === 0) return ['info', 'no flow table is left: requests are seen again'];
  const names = tables.join(', ');
  return [
    'error',
    `the node has a flow table (${names}), which takes requests past the tap: as long as it is there, ${unseen}`,
  ];
}
