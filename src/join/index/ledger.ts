/** Spent answers of one pod that are kept: more of them than of candidates by which its pod is named. */
const KEPT_SPENT = 64;

/** The beginning of an answer. */
export interface Answer<C> {
  /** It began to come back at an instant in [from, to] (ms since the epoch). */
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
 * Answers that lines can have had, of which some are spent. Which one a line had is never known: the answers of a pod go
 * when as many are spent as there are of that pod, and all go when as many are spent as there are in all.
 */
class Ledger<C extends { readonly backend: object }> {
  /** By pod. Each has more answers than are spent. */
  readonly #pods = new Map<object, OfPod<C>>();
  /** The number of answers, less the spent ones whose pod is known. */
  #count = 0;
  /** Spent answers whose pod is not known. */
  #spent = 0;

  get count(): number {
    return this.#count;
  }

  /** All answers, where they are of one pod. */
  get ofOnePod(): readonly Answer<C>[] | undefined {
    if (this.#pods.size !== 1) return undefined;
    for (const { answers } of this.#pods.values()) return answers;
    return undefined;
  }

  add(answer: Answer<C>): void {
    const { backend } = answer.connection;
    const pod = this.#pods.get(backend);
    if (pod) pod.answers.push(answer);
    else this.#pods.set(backend, { answers: [answer], spent: 0 });
    this.#count++;
  }

  spend(backend: object | undefined): boolean {
    if (backend === undefined) {
      if (this.#count === 0) return false;
      this.#spent++;
    } else {
      const pod = this.#pods.get(backend);
      if (!pod) return false;
      pod.spent++;
      if (pod.spent >= pod.answers.length) this.#pods.delete(backend);
      else if (pod.spent >= 2 * KEPT_SPENT) forgetOldest(pod);
      this.#count--;
    }
    this.#clearIfSpent();
    return true;
  }

  absorb(other: Ledger<C>): void {
    for (const [backend, { answers, spent }] of other.#pods) {
      const pod = this.#pods.get(backend);
      if (!pod) this.#pods.set(backend, { answers, spent });
      else {
        for (const answer of answers) pod.answers.push(answer);
        pod.spent += spent;
      }
    }
    this.#count += other.#count;
    this.#spent += other.#spent;
  }

  drop(isOver: (answer: Answer<C>) => boolean): void {
    let dropped = 0;
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
    this.#spent = Math.max(0, this.#spent - dropped);
    this.#clearIfSpent();
  }

  forgetSpent(): void {
    this.#spent = 0;
  }

  #clearIfSpent(): void {
    if (this.#spent < this.#count) return;
    this.#pods.clear();
    this.#count = 0;
    this.#spent = 0;
  }
}

/** As many of the youngest stay as can be unspent, and some more: the pod may have had another name when they came. */
function forgetOldest<C>(pod: OfPod<C>): void {
  pod.answers.splice(0, pod.spent - KEPT_SPENT);
  pod.spent = KEPT_SPENT;
}

/**
 * Where the answers to a request stand: what is known of its content, coarse to fine. Cut short where the rest is not known.
 * Requests of equal content have equal places.
 */
export type Place = readonly number[];

/**
 * A ledger for each content: a line had the answer to a request of its own content. Of an answer or a line with a place
 * that is cut short, any content that begins so is possible: the ledgers of all these are one from then on, until every
 * answer in it is spent.
 */
export class Ledgers<C extends { readonly backend: object }> {
  /** The one ledger of all contents that begin like this place; without it, `#parts` has them. */
  #ledger: Ledger<C> | undefined;
  readonly #parts = new Map<number, Ledgers<C>>();

  get isEmpty(): boolean {
    return this.#ledger === undefined && this.#parts.size === 0;
  }

  /** Answers that lines can have had. Visits every ledger. */
  get count(): number {
    let count = this.#ledger?.count ?? 0;
    for (const part of this.#parts.values()) count += part.count;
    return count;
  }

  add(answer: Answer<C>, place: Place, depth = 0): void {
    if (this.#ledger === undefined && depth < place.length) {
      const key = place[depth]!;
      let part = this.#parts.get(key);
      if (!part) {
        part = new Ledgers();
        this.#parts.set(key, part);
      }
      part.add(answer, place, depth + 1);
      return;
    }
    this.#joined(place, depth);
    this.#ledger ??= new Ledger();
    this.#ledger.add(answer);
  }

  /** All answers that a line of this place can have had, where they are of one pod. */
  ofOnePod(place: Place, depth = 0): readonly Answer<C>[] | undefined {
    const ledger = this.#joined(place, depth);
    if (ledger || depth === place.length) return ledger?.ofOnePod;
    return this.#parts.get(place[depth]!)?.ofOnePod(place, depth + 1);
  }

  /** A line had one of the answers: of this pod, or, if undefined, of any. False if there is none that it can have had. */
  spend(backend: object | undefined, place: Place, depth = 0): boolean {
    const ledger = this.#joined(place, depth);
    if (ledger || depth === place.length) {
      const had = ledger?.spend(backend) === true;
      if (ledger?.count === 0) this.#ledger = undefined;
      return had;
    }
    const key = place[depth]!;
    const part = this.#parts.get(key);
    const had = part?.spend(backend, place, depth + 1) === true;
    if (part?.isEmpty) this.#parts.delete(key);
    return had;
  }

  /** Drops the answers that are over. */
  drop(isOver: (answer: Answer<C>) => boolean): void {
    this.#ledger?.drop(isOver);
    if (this.#ledger?.count === 0) this.#ledger = undefined;
    for (const [key, part] of this.#parts) {
      part.drop(isOver);
      if (part.isEmpty) this.#parts.delete(key);
    }
  }

  /** It is no longer known how many answers are spent, except by pod. */
  forgetSpent(): void {
    this.#ledger?.forgetSpent();
    for (const part of this.#parts.values()) part.forgetSpent();
  }

  clear(): void {
    this.#ledger = undefined;
    this.#parts.clear();
  }

  /** The one ledger of this place. Where the place ends here, the parts become one. */
  #joined(place: Place, depth: number): Ledger<C> | undefined {
    if (depth < place.length || this.#parts.size === 0) return this.#ledger;
    const ledger = new Ledger<C>();
    for (const part of this.#parts.values()) {
      const all = part.#joined([], 0);
      if (all) ledger.absorb(all);
    }
    this.#parts.clear();
    this.#ledger = ledger;
    return ledger;
  }
}
