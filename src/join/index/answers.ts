import { Trust } from '../trust.ts';
import type { QuietMoment } from './quiet-moments.ts';

/** Answers kept for one Service. At the limit all are forgotten until the next quiet moment. */
const MAX_ANSWERS = 4_096;

/** What this needs of a connection (`connection.ts`). */
interface Answering {
  readonly backend: object;
  readonly closeTo: number;
  readonly latest: { readonly to: number } | undefined;
}

/** An answer that began to come back, at an instant in [from, to] (ms since the epoch). */
interface Answer<C> {
  readonly from: number;
  readonly to: number;
  readonly connection: C;
  /** The youngest request on the connection at that time. */
  readonly request: object | undefined;
}

/** The answers of one pod that lines can have had, oldest first, and the number of those that lines have had. */
interface OfPod<C> {
  answers: Answer<C>[];
  spent: number;
}

/**
 * The answers that have come back through one Service, less those that lines have had. Two facts hold in any traffic: the
 * line of an answered request had one answer, which began before the line was read; and no two lines had the same answer.
 *
 * So a line can have had any answer that began before its reading and that no earlier line had. If all of these are of one
 * pod, that pod answered, and one of the pod's answers is spent. If not, one of all of them is spent. Which one is never
 * known: the answers of a pod go when as many are spent as there are of that pod, and all go when as many are spent as
 * there are in all.
 *
 * An answer too many, such as of a request that writes no line, leaves lines unnamed. An answer too few could name a wrong
 * pod. So every doubt ends in `void`: nothing is concluded until a quiet moment shows that all earlier requests are over.
 */
export class Answers<C extends Answering> {
  readonly trust = new Trust(true);
  /** Answers that began after the reading of every line so far, in the order of the wire. */
  #coming: Answer<C>[] = [];
  /** The answers that lines can have had, by pod. Each pod has more of them than are spent. */
  readonly #pods = new Map<object, OfPod<C>>();
  /** Their number, less the spent ones whose pod is known. */
  #count = 0;
  /** Spent answers whose pod is not known. */
  #spent = 0;
  /** Every answer after this time is in here, ms since the epoch; Infinity while nothing may be concluded. */
  #since = Infinity;
  #lineFrom = Infinity;
  #voidUntil: number;
  #endedWithoutAt = -Infinity;

  /** `voidUntil`: answers before that time may be missing. */
  constructor(voidUntil: number) {
    this.#voidUntil = voidUntil;
  }

  /** Every answer after this time is in here; Infinity while some may be missing. */
  get since(): number {
    return this.#since;
  }

  /** Whether an attempt has failed since: its connection was refused, or ended without an answer. */
  get someFailed(): boolean {
    return this.#endedWithoutAt >= this.#since;
  }

  /** Answers that the next line can have had. */
  get count(): number {
    return this.#count;
  }

  /** All answers that a line can have had, where they are of one pod. */
  get ofOnePod(): readonly { connection: C }[] | undefined {
    if (this.#pods.size !== 1) return undefined;
    for (const { answers } of this.#pods.values()) return answers;
    return undefined;
  }

  /** False if there were too many, and all are forgotten. */
  add(connection: C, from: number, to: number): boolean {
    this.#coming.push({ from, to, connection, request: connection.latest });
    if (this.#coming.length + this.#count <= MAX_ANSWERS) return true;
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
    if (quiet && (this.#since === Infinity || this.#count > 0)) this.#begin(quiet);
    let admitted = 0;
    for (const answer of this.#coming) {
      if (answer.from > readAt) break;
      this.#admit(answer);
      admitted++;
    }
    if (admitted > 0) this.#coming = this.#coming.slice(admitted);
    return endMs >= this.#lineFrom;
  }

  /** A line had one of the answers: of this pod, or, if undefined, of any. False if there is none that it can have had. */
  spend(backend: object | undefined): boolean {
    if (backend === undefined) {
      if (this.#count === 0) return false;
      this.#spent++;
    } else {
      const pod = this.#pods.get(backend);
      if (!pod) return false;
      pod.spent++;
      if (pod.spent >= pod.answers.length) this.#pods.delete(backend);
      this.#count--;
    }
    if (this.#spent >= this.#count) this.#clear();
    return true;
  }

  /**
   * An answer before `t` may be missing, or a line may have used the wrong one. `open`: connections that may carry a missing
   * answer now.
   */
  void(t: number, open: Iterable<C>): void {
    this.#voidUntil = Math.max(this.#voidUntil, t);
    this.#since = Infinity;
    this.#lineFrom = Infinity;
    this.#spent = 0;
    for (const connection of open) {
      if (this.#count + this.#coming.length >= MAX_ANSWERS) break;
      this.addUnseen(connection, t);
    }
  }

  /** The connection may carry an answer that began unseen, before `t`. */
  addUnseen(connection: C, t: number): void {
    this.#admit({ from: -Infinity, to: t, connection, request: connection.latest });
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
    let dropped = 0;
    const isOver = ({ to, connection, request }: Answer<C>): boolean =>
      to <= before &&
      (connection.closeTo <= before || (connection.latest !== request && connection.latest!.to <= before));
    for (const [backend, pod] of this.#pods) {
      const { length } = pod.answers;
      pod.answers = pod.answers.filter((answer) => !isOver(answer));
      const over = length - pod.answers.length;
      dropped += over;
      // The spent answers may be among those that were dropped.
      const spent = Math.max(0, pod.spent - over);
      this.#count -= over - (pod.spent - spent);
      pod.spent = spent;
      if (spent >= pod.answers.length) this.#pods.delete(backend);
    }
    this.#coming = this.#coming.filter((answer) => !isOver(answer));
    this.#spent = Math.max(0, this.#spent - dropped);
    this.#since = before;
    this.#lineFrom = after;
    if (this.#spent >= this.#count) this.#clear();
  }

  #admit(answer: Answer<C>): void {
    const { backend } = answer.connection;
    const pod = this.#pods.get(backend);
    if (pod) pod.answers.push(answer);
    else this.#pods.set(backend, { answers: [answer], spent: 0 });
    this.#count++;
  }

  #clear(): void {
    this.#pods.clear();
    this.#count = 0;
    this.#spent = 0;
  }

  #forgetAll(t: number): void {
    this.#clear();
    this.#coming = [];
    this.void(t, []);
  }
}
