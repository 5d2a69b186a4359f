import type { Client } from '../model/client.ts';
import type { ParsedLine, UnparsedReason } from '../model/line.ts';
import type { Outcome } from '../model/outcome.ts';
import { Edits } from './edits.ts';

/** A line of a block of log bytes. */
export interface LogLine {
  /** Byte span in the block, without the newline. */
  readonly start: number;
  readonly end: number;
  readonly parsed: ParsedLine | UnparsedReason;
}

/** A style's edits of one line. */
export interface LineEditor {
  /**
   * Adds the edits of `line`, from left to right. `outcomes` is in step with its attempts; undefined for a line that was not
   * parsed. `client`: undefined where `$remote_addr` stays what it is.
   */
  edit(
    edits: Edits,
    line: LogLine,
    outcomes: readonly Outcome[] | undefined,
    block: Buffer,
    client: Client | undefined,
  ): void;
}

const NO_CLIENTS: readonly undefined[] = [];

/** Writes lines in one style. */
export class Style {
  readonly #editor: LineEditor;
  readonly #edits = new Edits();

  constructor(editor: LineEditor) {
    this.#editor = editor;
  }

  /**
   * The output of a run of lines, in chunks to be written one after another.
   *
   * `lines` is a run of lines of `block`, in order and with nothing but a newline between two; `outcomes` and `clients` are in
   * step with it. Chunks may be views of `block`. A newline behind the last line in `block` belongs to the run; a missing one is not
   * added.
   */
  render(
    block: Buffer,
    lines: readonly LogLine[],
    outcomes: readonly (readonly Outcome[] | undefined)[],
    clients: readonly (Client | undefined)[] = NO_CLIENTS,
  ): Buffer[] {
    if (lines.length === 0) return [];
    const edits = this.#edits;
    edits.clear();
    for (let i = 0; i < lines.length; i++)
      this.#editor.edit(edits, lines[i]!, outcomes[i], block, clients[i]);
    const end = Math.min(lines[lines.length - 1]!.end + 1, block.length);
    return [edits.apply(block, lines[0]!.start, end)];
  }
}
