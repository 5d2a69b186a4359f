import type { ParsedLine, UnparsedReason } from '../model/line.ts';
import type { Outcome } from '../model/outcome.ts';

/** A line of a block of log bytes. */
export interface LogLine {
  /** Byte span in the block, without the newline. */
  readonly start: number;
  readonly end: number;
  readonly parsed: ParsedLine | UnparsedReason;
}

export interface Style {
  /**
   * The lines as they are to be written, in chunks to be written one after another.
   *
   * `lines` is a run of lines of `block`, in order and with nothing but a newline between two. `outcomes[i]` is in step
   * with the attempts of `lines[i]`; for a line that was not parsed it is not looked at, and may be missing. Chunks may
   * be parts of `block`. A newline that `block` has after the last line belongs to the run; none is added where there is none.
   */
  render(
    block: Buffer,
    lines: readonly LogLine[],
    outcomes: readonly (readonly Outcome[] | undefined)[],
  ): Buffer[];
}
