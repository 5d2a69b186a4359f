import type { CaptureStats } from '../capture.ts';
import type { FlowTablesFound, FlowTablesSource } from './flow-tables.ts';

export interface TakenPastParts {
  flowTables: FlowTablesSource;
  stats: CaptureStats;
  log(level: 'info' | 'warn' | 'error', message: string): void;
}

/** Checks whether requests may have skipped the tap through a flow table, from one reading to the next. */
export class TakenPast {
  readonly #parts: TakenPastParts;
  #before = '';

  constructor(parts: TakenPastParts) {
    this.#parts = parts;
  }

  /**
   * Whether the tap can have missed requests since the last call. Call it after a reading: the packets read are complete
   * only if no flow table exists after them.
   */
  check(): boolean {
    const { flowTables, stats, log } = this.#parts;
    const found = flowTables.find();
    const now = found === 'not-known' ? found : found.tables.join(', ');
    stats.flowTables = found === 'not-known' ? -1 : found.tables.length;
    const before = this.#before;
    this.#before = now;
    if (now !== before) log(...messageOf(found));
    return now !== '' || before !== '';
  }
}

function messageOf(found: FlowTablesFound): ['info' | 'error', string] {
  const unseen = 'lines of Services with several pods stay unchanged';
  if (found === 'not-known')
    return ['error', `the kernel does not list its flow tables: until it does, ${unseen}`];
  const { tables } = found;
  if (tables.length === 0) return ['info', 'no flow table is left: the tap reads all requests again'];
  const names = tables.join(', ');
  return [
    'error',
    `the node has a flow table (${names}), so requests can skip the tap: while it exists, ${unseen}`,
  ];
}
