import type { Compared, RequestContent } from '../../model/content.ts';
import { Trust } from '../trust.ts';
import { ANYWHERE, placeOf } from './content.ts';
import { type Answer, Ledgers, type Place } from './ledger.ts';
import type { QuietMoment } from './quiet-moments.ts';

/** Answers kept for one Service. At the limit all are forgotten until the next quiet moment. */
const MAX_ANSWERS = 4_096;
/** The same where some were spent since they were counted, so that they are not counted for each answer. */
const MOST_ANSWERS = 3_072;

/** What this needs of a connection (`connection.ts`). */
interface Answering {
  readonly backend: object;
  readonly closeTo: number;
  readonly latest: { readonly to: number } | undefined;
}

/** An answer that began after the reading of every line so far. */
interface Coming<C> {
  readonly answer: Answer<C>;
  place: Place;
}

/**
 * The answers that have come back through one Service, less those that lines have had. Two facts hold in any traffic: the
 * line of an answered request had one answer, which began before the line was read; and no two lines had the same answer.
 *
 * So a line can have had any answer that began before its reading and that no earlier line had. If all of these are of one
 * pod, that pod answered, and one of the pod's answers is spent. If not, one of all of them is spent (`Ledgers`).
 *
 * Where nginx passes the content of requests on unchanged, and the log has it, a line can have had the answers to requests
 * of its own content only.
 *
 * An answer too many, such as of a request that writes no line, leaves lines unnamed. An answer too few could name a wrong
 * pod. So every doubt ends in `void`: nothing is concluded until a quiet moment shows that all earlier requests are over.
 */
export class Answers<C extends Answering> {
  readonly trust = Trust.given();
  /** Answers that began after the reading of every line so far, in the order of the wire. */
  #coming: Coming<C>[] = [];
  /** The answers that lines can have had. */
  readonly #ledgers = new Ledgers<C>();
  /** Answers in `#ledgers` and those that were spent since they were counted. */
  #kept = 0;
  #compared: Compared | undefined;
  /** Every answer after this time is in here, ms since the epoch; Infinity while nothing may be concluded. */
  #since = Infinity;
  #lineFrom = Infinity;
  #voidUntil: number;
  #endedWithoutAt = -Infinity;

  /** `voidUntil`: answers before that time may be missing. `compared`: what of a request is compared with its line. */
  constructor(voidUntil: number, compared?: Compared) {
    this.#voidUntil = voidUntil;
    this.#compared = compared;
  }

  /** Every answer after this time is in here; Infinity while some may be missing. */
  get since(): number {
    return this.#since;
  }

  /** Whether an attempt has failed since: its connection was refused, or ended without an answer. */
  get someFailed(): boolean {
    return this.#endedWithoutAt >= this.#since;
  }

  /** Answers that lines can have had. */
  get count(): number {
    return this.#ledgers.count;
  }

  /** All answers that a line of this content can have had, where they are of one pod. */
  ofOnePod(content: RequestContent | undefined): readonly { connection: C }[] | undefined {
    return this.#ledgers.ofOnePod(placeOf(content, this.#compared));
  }

  /** An answer to a request of this content began. False if there were too many answers, and all are forgotten. */
  add(connection: C, from: number, to: number, content: RequestContent | undefined): boolean {
    const answer = { from, to, connection, request: connection.latest };
    this.#coming.push({ answer, place: placeOf(content, this.#compared) });
    if (this.#coming.length + this.#kept <= MAX_ANSWERS) return true;
    this.#kept = this.#ledgers.count;
    if (this.#coming.length + this.#kept <= MOST_ANSWERS) return true;
    this.#forgetAll(to);
    return false;
  }

  /** A connection ended at `t` without an answer to its last request. */
  endedWithout(t: number): void {
    this.#endedWithoutAt = Math.max(this.#endedWithoutAt, t);
  }

  /**
   * Admits the answers up to `readAt`, when the line was read, which was written at `endMs` or later. `quiet`: the youngest
   * quiet moment before it. Returns whether the line's answer is among them.
   */
  isReadyFor(endMs: number, readAt: number, quiet: QuietMoment | undefined): boolean {
    if (quiet && (this.#since === Infinity || !this.#ledgers.isEmpty)) this.#begin(quiet);
    let admitted = 0;
    for (const { answer, place } of this.#coming) {
      if (answer.from > readAt) break;
      this.#admit(answer, place);
      admitted++;
    }
    if (admitted > 0) this.#coming = this.#coming.slice(admitted);
    return endMs >= this.#lineFrom;
  }

  /**
   * A line of this content had one of the answers: of this pod, or, if undefined, of any. False if there is none that it can
   * have had.
   */
  spend(backend: object | undefined, content: RequestContent | undefined): boolean {
    const had = this.#ledgers.spend(backend, placeOf(content, this.#compared));
    if (this.#ledgers.isEmpty) this.#kept = 0;
    return had;
  }

  /** The content of requests is not, or no longer, known to be that of their lines. */
  compareNothing(): void {
    this.#compared = undefined;
    this.forgetContents();
  }

  /** Requests were missed: the answers so far may be of any content. All ledgers become one. */
  forgetContents(): void {
    for (const coming of this.#coming) coming.place = ANYWHERE;
    this.#ledgers.ofOnePod(ANYWHERE);
  }

  /**
   * An answer before `t` may be missing, or a line may have used the wrong one. `open`: connections that may carry a missing
   * answer now.
   */
  void(t: number, open: Iterable<C>): void {
    this.#voidUntil = Math.max(this.#voidUntil, t);
    this.#since = Infinity;
    this.#lineFrom = Infinity;
    this.#ledgers.forgetSpent();
    for (const connection of open) {
      if (this.#kept + this.#coming.length >= MAX_ANSWERS) break;
      this.addUnseen(connection, t);
    }
  }

  /** The connection may carry an answer that began unseen, before `t`. */
  addUnseen(connection: C, t: number): void {
    this.#admit({ from: -Infinity, to: t, connection, request: connection.latest }, ANYWHERE);
  }

  /** The clock was set back to `t`. */
  onClockRollback(t: number): void {
    this.#voidUntil = -Infinity;
    this.#endedWithoutAt = -Infinity;
    this.#forgetAll(t);
    this.trust.onClockRollback(t);
  }

  /** Drops the answers whose requests and lines are complete: those before the moment, unless nginx still reads them. */
  #begin({ before, after }: QuietMoment): void {
    if (before < this.#voidUntil) return;
    if (this.#since !== Infinity && before <= this.#since) return;
    const isOver = ({ to, connection, request }: Answer<C>): boolean =>
      to <= before &&
      (connection.closeTo <= before || (connection.latest !== request && connection.latest!.to <= before));
    this.#ledgers.drop(isOver);
    this.#coming = this.#coming.filter(({ answer }) => !isOver(answer));
    this.#since = before;
    this.#lineFrom = after;
    this.#kept = this.#ledgers.count;
  }

  #admit(answer: Answer<C>, place: Place): void {
    this.#ledgers.add(answer, place);
    this.#kept++;
  }

  #forgetAll(t: number): void {
    this.#ledgers.clear();
    this.#kept = 0;
    this.#coming = [];
    this.void(t, []);
  }
}
