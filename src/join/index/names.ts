import { LRUCache } from '../../lru.ts';
import type { NameRecord } from '../../model/feed.ts';
import type { PodName } from '../../model/outcome.ts';

export interface NameLimits {
  /** Addresses with a name. At the limit the one named longest ago goes, and is counted. */
  addresses: number;
  /** Names that one address is known to have had. */
  perAddress: number;
  /** Names that hold no more, over all addresses, and addresses of which only that they had one is known. */
  past: number;
  /** How long a name that holds no more is remembered (ms): lines of long requests come late. */
  rememberMs: number;
}

export const NAME_LIMITS: NameLimits = {
  addresses: 20_000,
  perAddress: 8,
  past: 20_000,
  rememberMs: 10 * 60_000,
};

/** `none`: nobody that the helper knew of. `forgotten`: somebody, and who is not remembered. */
type Holder = PodName | 'none' | 'forgotten';

interface Held {
  since: number;
  holder: Holder;
}

/**
 * What addresses are and were called. An address is reused, so who it belonged to is asked for the time that a
 * connection to it was opened: a connection ends with its pod.
 */
export class Names {
  /** Addresses given up for the limit, and names that went before their time. */
  readonly counters = { dropped: 0 };
  readonly #limits: NameLimits;
  /** Oldest first, and the first one holds since ever. */
  readonly #byIp: LRUCache<string, Held[]>;
  /** What is to be forgotten next. */
  readonly #past = new Set<{ ip: string; ended: number }>();
  /** Addresses that had a name which is forgotten. */
  readonly #gone: LRUCache<string, true>;

  constructor(limits: NameLimits = NAME_LIMITS) {
    this.#limits = limits;
    this.#gone = new LRUCache({ max: limits.past });
    this.#byIp = new LRUCache({
      max: limits.addresses,
      dispose: (_, ip, reason) => {
        if (reason !== 'evict') return;
        this.counters.dropped++;
        this.#gone.set(ip, true);
      },
    });
  }

  /** Addresses that have a name, or had one a short time ago. */
  get size(): number {
    return this.#byIp.size;
  }

  /** Names that hold no more and are remembered. */
  get past(): number {
    return this.#past.size;
  }

  /** Records of one address may come in any order, and again. */
  set({ ip, t, pod, namespace, node, service }: NameRecord): void {
    const holder: Holder = pod === '' && service === '' ? 'none' : { pod, namespace, node, service };
    let history = this.#byIp.get(ip);
    if (!history) {
      if (holder === 'none') return;
      history = [{ since: -Infinity, holder: this.#gone.delete(ip) ? 'forgotten' : 'none' }];
      this.#byIp.set(ip, history);
    }
    let i = history.length;
    while (i > 1 && history[i - 1]!.since > t) i--;
    const before = history[i - 1]!;
    if (same(before.holder, holder)) {
      // Its Service or node may be another.
      before.holder = holder;
      return;
    }
    if (before.since === t) before.holder = holder;
    else history.splice(i, 0, { since: t, holder });
    const next = history[i + 1];
    if (next && same(next.holder, holder)) history.splice(i + 1, 1);
    // Out of sight for a while, and nobody else was seen.
    if (before.holder === 'none' && i > 1 && same(history[i - 2]!.holder, holder)) history.splice(i - 1, 2);
    if (history.length > this.#limits.perAddress) {
      this.counters.dropped++;
      shorten(history, history[2]!.since);
    }
    if (history.length > 2) this.#past.add({ ip, ended: t });
  }

  /** The clock was set back to `t`: who holds an address does, and who held it before is not to be told by time. */
  onClockRollback(t: number): void {
    for (const history of this.#byIp.values()) {
      const { since, holder } = history.at(-1)!;
      if (since > t)
        history.splice(0, history.length, { since: -Infinity, holder: 'forgotten' }, { since: t, holder });
    }
  }

  /** Lets go what ended too long before `now` (ms since the epoch), or is too much. */
  forget(now: number): void {
    const { rememberMs, past } = this.#limits;
    for (const oldest of this.#past) {
      const crowded = this.#past.size > past;
      if (oldest.ended > now - rememberMs && !crowded) return;
      if (crowded) this.counters.dropped++;
      this.#past.delete(oldest);
      const history = this.#byIp.get(oldest.ip);
      if (!history) continue;
      shorten(history, oldest.ended);
      if (history.length > 2 || history.at(-1)!.holder !== 'none') continue;
      this.#byIp.delete(oldest.ip);
      this.#gone.set(oldest.ip, true);
    }
  }

  /** The name of `ip` at an instant. */
  at(ip: string, t: number): PodName | undefined {
    return this.of(ip, t, t, t);
  }

  /**
   * The name of the pod that connections led to which were opened to `ip` between `first` and `last`. Undefined where
   * it is not known, or they may have led to different pods.
   *
   * A pod that was deleted keeps its name for the connections that were opened to it. One opened while nobody was known
   * to have the address led to whoever was heard of next, if that was by `by`, when an exchange on it was not yet over.
   */
  of(ip: string, first: number, last: number, by: number): PodName | undefined {
    const history = this.#byIp.get(ip);
    if (!history) return undefined;
    let found: PodName | undefined;
    for (let i = 0; i < history.length; i++) {
      const { since, holder } = history[i]!;
      const next = history[i + 1];
      if (since > last) break;
      if (next && next.since <= first) continue;
      const meant = holder === 'none' && next && next.since <= by ? next.holder : holder;
      if (typeof meant === 'string' || (found && !same(found, meant))) return undefined;
      found = meant;
    }
    return found;
  }
}

/** Forgets who held the address before `t`. */
function shorten(history: Held[], t: number): void {
  let over = 0;
  while (history[over + 1] && history[over + 1]!.since <= t) over++;
  if (over > 1) history.splice(0, over, { since: -Infinity, holder: 'forgotten' });
}

/** A Service's address and hand-made endpoints have no pod. */
function same(a: Holder, b: Holder): boolean {
  if (typeof a === 'string' || typeof b === 'string') return a === b;
  return a.pod === b.pod && a.namespace === b.namespace && (a.pod !== '' || a.service === b.service);
}
