import type { ParsedLine, UnparsedReason } from '../model/line.ts';

const NEWLINE = 0x0a;

/** One line of a block: its span without the newline, and its parsed values. */
export interface BlockLine {
  start: number;
  end: number;
  parsed: ParsedLine | UnparsedReason;
}

export type Parse = (bytes: Buffer, start: number, end: number) => ParsedLine | UnparsedReason;

/**
 * The lines of a block, parsed when their evidence has come: parsed values are many times as large as the bytes, and a garbage
 * collection has to move all that wait.
 */
export class UnreadLines {
  readonly #bytes: Buffer;
  readonly #parse: Parse;
  readonly #read: BlockLine[] = [];
  #at = 0;

  constructor(bytes: Buffer, parse: Parse) {
    this.#bytes = bytes;
    this.#parse = parse;
  }

  /** Whether a line needs evidence. Parses no line behind the first that does. */
  needEvidence(): boolean {
    while (this.#at < this.#bytes.length) if (needsEvidence(this.#next())) return true;
    return this.#read.some(needsEvidence);
  }

  /** All of them. */
  read(): readonly BlockLine[] {
    while (this.#at < this.#bytes.length) this.#next();
    return this.#read;
  }

  #next(): BlockLine {
    const start = this.#at;
    const newline = this.#bytes.indexOf(NEWLINE, start);
    const end = newline < 0 ? this.#bytes.length : newline;
    const parsed = end === start ? 'empty' : this.#parse(this.#bytes, start, end);
    const line = { start, end, parsed };
    this.#read.push(line);
    this.#at = end + 1;
    return line;
  }
}

function needsEvidence({ parsed }: BlockLine): boolean {
  return typeof parsed !== 'string' && parsed.attempts.length > 0;
}
