import { adviceFor, excerpt, type ReachFields } from './format-reach.ts';
import type { BlockLine } from './join/pending.ts';
import type { Log } from './log.ts';
import type { UntracedRecord } from './model/feed.ts';
import { isResolved, NOTHING_TO_NAME, type Outcome, REASONS, type Reason } from './model/outcome.ts';
import type { LogFormat } from './parse/log-format.ts';

/** Resolvable attempts after which the share of resolved ones is reported. */
const JUDGED_AFTER = 100;
/** Reasons why nginx is not traced that are told. */
const MOST_UNTRACED = 8;
/** Attempts in a gap that do not count: before the record begins, no format helps. */
const PATIENCE_WITH_GAPS = 1_000;

export interface FirstLinesParts {
  format: LogFormat;
  fields: ReachFields;
  idHeader: string;
  /** How the format was given, such as `--log-format`. */
  formatName: string;
  log: Log;
}

/** Reports what a newcomer must know from a log's first lines: lines that do not fit, upstreams that are not named. */
export class FirstLines {
  readonly #parts: FirstLinesParts;
  #lines = 0;
  #unfit = 0;
  /** The number of lines that do not fit at which the next report is due: 1, 10, 100, … */
  #sayAt = 1;
  #named = 0;
  #unnamed = 0;
  #reasons: Partial<Record<Reason, number>> = {};
  #judged = false;
  readonly #untraced = new Set<string>();

  constructor(parts: FirstLinesParts) {
    this.#parts = parts;
  }

  add(block: {
    bytes: Buffer;
    lines: readonly BlockLine[];
    outcomes: readonly (readonly Outcome[])[];
  }): void {
    this.#lines += block.lines.length;
    for (const line of block.lines) if (line.parsed === 'format') this.#misfit(block.bytes, line);
    if (this.#judged) return;
    for (const outcomes of block.outcomes) for (const outcome of outcomes) this.#count(outcome);
    const gaps = this.#reasons.gap ?? 0;
    const attempts = this.#named + this.#unnamed;
    if (attempts - gaps < JUDGED_AFTER && gaps < PATIENCE_WITH_GAPS) return;
    this.#judged = true;
    const missed = gaps < PATIENCE_WITH_GAPS ? this.#unnamed - gaps : this.#unnamed;
    if (this.#named < missed) this.#sayShare(missed);
  }

  /** The helper traces nginx, but not this one. */
  untraced({ why }: UntracedRecord): void {
    if (this.#untraced.has(why) || this.#untraced.size >= MOST_UNTRACED) return;
    this.#untraced.add(why);
    this.#parts.log(
      'warn',
      `the helper does not trace the nginx here: ${why}; the other evidence names its lines`,
    );
  }

  #misfit(bytes: Buffer, { start, end }: BlockLine): void {
    if (++this.#unfit < this.#sayAt) return;
    this.#sayAt *= 10;
    const { formatName, log } = this.#parts;
    log(
      'warn',
      `${this.#unfit} of ${this.#lines} lines do not fit ${formatName} and pass unchanged, such as: ${excerpt(bytes.subarray(start, end))}`,
    );
  }

  #count(outcome: Outcome): void {
    if (isResolved(outcome)) {
      this.#named++;
    } else if (!NOTHING_TO_NAME.has(outcome.reason)) {
      this.#unnamed++;
      this.#reasons[outcome.reason] = (this.#reasons[outcome.reason] ?? 0) + 1;
    }
  }

  #sayShare(missed: number): void {
    const { format, fields, idHeader, log } = this.#parts;
    const reasons = REASONS.map((reason) => ({ reason, count: this.#reasons[reason] ?? 0 }))
      .filter(({ reason, count }) => count > 0 && (reason !== 'gap' || count >= PATIENCE_WITH_GAPS))
      .sort((a, b) => b.count - a.count);
    const listed = reasons.map(({ reason, count }) => `${count} ${reason}`).join(', ');
    const advice = adviceFor(reasons[0]?.reason ?? 'gap', format, fields, idHeader);
    log(
      'warn',
      `of the first ${this.#named + missed} upstream addresses ${this.#named} were named (${listed}). ${advice}`,
    );
  }
}
