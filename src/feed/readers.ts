import type { NameRecord } from '../model/feed.ts';
import type { PodName } from '../model/outcome.ts';

/** Receives a reader's text. The transport closes a reader that is too slow. */
export type Write = (text: string) => void;

export interface Reader {
  readonly addresses: ReadonlySet<string>;
  close(): void;
}

/** What a reader gets beside the records that every reader gets. */
export interface ReaderWishes {
  /** Exact times of openings and ends, for deductions from them. */
  prompt?: boolean | undefined;
  /** The beginnings of answers. */
  answers?: boolean | undefined;
}

/** A reader that comes from the helper before, and has its record up to this time (ms since the epoch). */
export interface Successor {
  watermark: number;
}

export interface OpenReader extends Reader {
  prompt: boolean;
  answers: boolean;
  write: Write;
  pending: string;
  named: Set<string>;
  lastTick: number;
  wantsTick: boolean;
}

/** A subscribed address. */
export interface Watched {
  readers: Set<OpenReader>;
  /** After this `seq` the records of the address are complete. */
  sinceSeq: number;
  /** The same for a reader that gets answers. */
  answersSinceSeq: number;
  lapse: NodeJS.Timeout | undefined;
}

export interface NameLookup {
  lookup(ip: string): PodName | undefined;
  /** The current name of `ip` and the past ones in memory, oldest first. */
  history(ip: string): Iterable<Omit<NameRecord, 'seq'>>;
}

export function newWatched(sinceSeq: number): Watched {
  return { readers: new Set(), sinceSeq, answersSinceSeq: Infinity, lapse: undefined };
}
