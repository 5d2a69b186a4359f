import type { SnapshotObservation, Subscription } from '../capture/capture.ts';
import { NO_CURSOR, type Source } from '../model/feed.ts';
import type { ResumePoint } from '../model/resume-point.ts';
import { encodeClients, encodeRecord } from './codec.ts';
import type { OpenReader } from './readers.ts';
import { isLasting, openedBefore } from './replay.ts';
import type { Ring } from './ring.ts';

/** The records after `after` contain every event after `since`. */
export type Place = Omit<ResumePoint, 'instance'> & { watermark?: number };

/** What a reader gets ahead of the records to come. */
export class Beginning {
  readonly #ring: Ring;
  readonly #introduce: (reader: OpenReader, ip: string, t: number) => void;

  /** `introduce` adds what is known of an address of which the reader gets a record of time `t`. */
  constructor(ring: Ring, introduce: (reader: OpenReader, ip: string, t: number) => void) {
    this.#ring = ring;
    this.#introduce = introduce;
  }

  /** A reader that has nothing yet. `toCome`: every event after it is in a record to come, ms since the epoch. */
  anew(reader: OpenReader, { flows, completeSince, clients = [] }: Subscription, toCome: number): void {
    for (const [source, since] of Object.entries(completeSince) as [Source, number][]) {
      // Where the address was subscribed already, earlier records are not for this reader.
      const t = Math.max(since, toCome);
      reader.pending += encodeRecord({ kind: 'gap', t, source }, NO_CURSOR);
    }
    for (const flow of flows) this.#introduceFlow(reader, flow);
    reader.pending += encodeClients(clients, toCome);
  }

  /** A reader with an empty index that goes on at the first of the places. */
  at(
    places: readonly Place[],
    reader: OpenReader,
    { flows, completeSince, clients = [] }: Subscription,
    toCome: number,
  ): void {
    const { after, since } = places[0]!;
    for (const source of Object.keys(completeSince) as Source[]) {
      reader.pending += encodeRecord({ kind: 'gap', t: since, source }, NO_CURSOR);
    }
    const texts: string[] = [];
    for (const { text } of this.#ring.after(after, reader.addresses)) texts.push(text);
    for (const flow of openedBefore(texts, flows, since)) this.#introduceFlow(reader, flow);
    // Earlier `unreadable` records of those connections are still valid.
    for (const { seq, text } of this.#ring.after(NO_CURSOR, reader.addresses))
      if (seq <= after && isLasting(text)) reader.pending += text;
    this.replay(reader, after, places);
    // Which clients were connected at that place is not known: their record begins now.
    reader.pending += encodeClients(clients, toCome);
  }

  /** The records after the cursor. `places`: from there on, each with a watermark that bounds the records behind it. */
  replay(reader: OpenReader, after: number, places: readonly Place[] = []): void {
    let passed = 0;
    for (const { seq, ip, t, text } of this.#ring.after(after, reader.addresses)) {
      for (; passed < places.length && places[passed]!.after < seq; passed++) {
        const { watermark, after: tickSeq } = places[passed]!;
        if (watermark !== undefined) reader.pending += encodeRecord({ kind: 'tick', t: watermark }, tickSeq);
      }
      if (ip !== '') this.#introduce(reader, ip, t);
      reader.pending += text;
    }
  }

  #introduceFlow(reader: OpenReader, flow: SnapshotObservation): void {
    this.#introduce(reader, flow.ip, flow.t);
    if (flow.vip !== undefined) this.#introduce(reader, flow.vip, flow.t);
    reader.pending += encodeRecord(flow, NO_CURSOR);
  }
}
