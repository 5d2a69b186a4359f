import type { LineRecord } from '../model/feed.ts';
import type { ParsedLine } from '../model/line.ts';

const COLON = 0x3a;

/** The records of what nginx wrote that may be the line's, and which entry of nginx's list of states each attempt is. */
export interface TracedLine {
  readonly records: readonly LineRecord[];
  readonly states: readonly number[];
  /** Entries of the list. */
  readonly count: number;
}

/** `bytes`: those that the line was parsed from. */
export function tracedLine(line: ParsedLine, bytes: Buffer, records: readonly LineRecord[]): TracedLine {
  let count = 0;
  const last = line.attempts.length - 1;
  const states = line.attempts.map(({ end }, k) => {
    const state = count;
    // ` : ` stands for an entry without a peer, which an internal redirect leaves.
    count += k < last && bytes[end + 1] === COLON ? 2 : 1;
    return state;
  });
  return { records, states, count };
}
