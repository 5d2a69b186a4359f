import type { SnapshotObservation, Subscription } from '../capture/capture.ts';
import { NO_CURSOR, type Source } from '../model/feed.ts';
import type { ResumePoint } from '../model/resume-point.ts';
import { encodeClients, encodeRecord } from './codec.ts';
import type { OpenReader } from './readers.ts';
import { lastingOf, openedBefore } from './replay.ts';
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
      reader.pending.lines(encodeRecord({ kind: 'gap', t, source }, NO_CURSOR));
    }
    for (const flow of flows) this.#introduceFlow(reader, flow);
    reader.pending.lines(encodeClients(clients, toCome));
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
      reader.pending.lines(encodeRecord({ kind: 'gap', t: since, source }, NO_CURSOR));
    }
    const records = this.#ring.after(after, reader.addresses);
    const open = openedBefore(records, flows, since);
    for (const flow of open) this.#introduceFlow(reader, flow);
    for (const kept of lastingOf(this.#ring.after(NO_CURSOR, reader.addresses), open))
      if (kept.seq <= after) reader.pending.record(kept);
    this.replay(reader, after, places);
    // Which clients were connected at that place is not known: their record begins now.
    reader.pending.lines(encodeClients(clients, toCome));
  }

  /** The records after the cursor. `places`: from there on, each with a watermark that bounds the records behind it. */
  replay(reader: OpenReader, after: number, places: readonly Place[] = []): void {
    let passed = 0;
    for (const kept of this.#ring.after(after, reader.addresses)) {
      for (; passed < places.length && places[passed]!.after < kept.seq; passed++) {
        const { watermark, after: tickSeq } = places[passed]!;
        if (watermark !== undefined)
          reader.pending.lines(encodeRecord({ kind: 'tick', t: watermark }, tickSeq));
      }
      const { record } = kept;
      if (record && 'src' in record && record.kind !== 'line' && record.kind !== 'untraced')
        this.#introduce(reader, record.ip, record.t);
      reader.pending.record(kept);
    }
  }

  #introduceFlow(reader: OpenReader, flow: SnapshotObservation): void {
    this.#introduce(reader, flow.ip, flow.t);
    if (flow.vip !== undefined) this.#introduce(reader, flow.vip, flow.t);
    reader.pending.lines(encodeRecord(flow, NO_CURSOR));
  }
}
