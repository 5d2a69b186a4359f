import { type EndpointRecord, type NameRecord, NO_CURSOR } from '../model/feed.ts';
import type { PodName } from '../model/outcome.ts';
import { encodeRecord } from './codec.ts';
import { FrameOutbox, type Outbox, TextOutbox } from './outbox.ts';

/** Receives what a reader gets: text, or bytes of the compact feed. The transport closes a reader that is too slow. */
export type Write = (some: string | Buffer) => void;

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
  /** The connections of clients to these addresses. */
  clients?: boolean | undefined;
  /** Hashes of the content of requests. */
  content?: boolean | undefined;
  /** How long its records may be gathered (ms). Default 0: it gets each at once. */
  batchMs?: number | undefined;
  /** Frames instead of NDJSON (frames.ts). */
  compact?: boolean | undefined;
}

/** A reader that comes from the helper before, and has its record up to this time (ms since the epoch). */
export interface Successor {
  watermark: number;
}

export interface OpenReader extends Reader {
  prompt: boolean;
  answers: boolean;
  clients: boolean;
  content: boolean;
  batchMs: number;
  write: Write;
  pending: Outbox;
  /** The size of `pending` that has a watermark behind it. */
  tickedTo: number;
  named: Set<string>;
  /** When it got something last, ms since the epoch. */
  lastTick: number;
  wantsTick: boolean;
  /** It got records last, and no watermark of a later reading. */
  owesTick: boolean;
}

/** A subscribed address. */
export interface Watched {
  readers: Set<OpenReader>;
  /** After this `seq` the records of the address are complete; Infinity until its subscription has succeeded. */
  sinceSeq: number;
  /** The same for a reader that gets answers, and for one that gets clients. */
  answersSinceSeq: number;
  clientsSinceSeq: number;
  lapse: NodeJS.Timeout | undefined;
}

/** What is known of an address in the cluster. */
export type AddressFact = Omit<NameRecord, 'seq'> | Omit<EndpointRecord, 'seq'>;

export interface NameLookup {
  lookup(ip: string): PodName | undefined;
  /** The current name of `ip` and the past ones in memory, oldest first. */
  history(ip: string): Iterable<Omit<NameRecord, 'seq'>>;
  /** What `ip` is and was an endpoint of, likewise. Absent: nothing of the kind is known. */
  endpoints?(ip: string): Iterable<Omit<EndpointRecord, 'seq'>>;
}

/** What is and was known of `ip`, for a reader that has no record of it before `t`. */
export function encodeFacts(names: NameLookup, ip: string, t: number): string {
  let text = '';
  for (const record of names.history(ip)) text += encodeRecord(record, NO_CURSOR);
  // The reader may have an outdated name from an earlier helper.
  const none = { pod: '', namespace: '', node: '', service: '' };
  text ||= encodeRecord({ kind: 'name', t, ip, ...none }, NO_CURSOR);
  for (const record of names.endpoints?.(ip) ?? []) text += encodeRecord(record, NO_CURSOR);
  return text;
}

export function newWatched(sinceSeq: number): Watched {
  return {
    readers: new Set(),
    sinceSeq,
    answersSinceSeq: Infinity,
    clientsSinceSeq: Infinity,
    lapse: undefined,
  };
}

export function newReader(
  addresses: readonly string[],
  { prompt = false, answers = false, clients = false, content = false, batchMs = 0, compact }: ReaderWishes,
  maxBatchMs: number,
  write: Write,
  onClose: (reader: OpenReader) => void,
): OpenReader {
  const reader: OpenReader = {
    addresses: new Set(addresses),
    write,
    prompt,
    answers,
    clients,
    content,
    batchMs: Math.min(batchMs, maxBatchMs),
    pending: compact ? new FrameOutbox() : new TextOutbox(),
    tickedTo: 0,
    named: new Set(),
    lastTick: 0,
    wantsTick: false,
    owesTick: false,
    close: () => onClose(reader),
  };
  return reader;
}

/** Whether the records of the reader's addresses go back to `after`, but for clients. */
export function areRecorded(
  { addresses, answers }: OpenReader,
  all: ReadonlyMap<string, Watched>,
  after: number,
): boolean {
  return [...addresses].every((address) => {
    const watched = all.get(address);
    return watched !== undefined && (answers ? watched.answersSinceSeq : watched.sinceSeq) <= after;
  });
}

/** Whether the record of clients goes back to `after`, where the reader wants it. */
export function haveClients(
  { addresses, clients }: OpenReader,
  all: ReadonlyMap<string, Watched>,
  after: number,
): boolean {
  return (
    !clients || [...addresses].every((address) => (all.get(address)?.clientsSinceSeq ?? Infinity) <= after)
  );
}
