import { LRUCache } from '../../lru.ts';
import type { NameRecord } from '../../model/feed.ts';
import type { PodName } from '../../model/outcome.ts';

export interface NameLimits {
  /** Addresses with a name. At the limit the one used longest ago is dropped and counted. */
  addresses: number;
  /** Names remembered for one address. */
  perAddress: number;
  /** Past names over all addresses, and, separately, addresses whose past name is forgotten. */
  past: number;
  /** How long a past name is remembered (ms): lines of long requests come late. */
  rememberMs: number;
}

export const NAME_LIMITS: NameLimits = {
  addresses: 20_000,
  perAddress: 8,
  past: 20_000,
  rememberMs: 10 * 60_000,
};

/** `none`: the helper knew no pod with this address. `forgotten`: there was one, and its name is not remembered. */
type Owner = PodName | 'none' | 'forgotten';

interface Ownership {
  since: number;
  owner: Owner;
}

/**
 * Current and past names of addresses. Pods reuse addresses, so a name is looked up for the time at which a connection
 * was opened: a connection ends with its pod.
 */
export class Names {
  /** Addresses and past names dropped at a limit. */
  readonly counters = { dropped: 0 };
  readonly #limits: NameLimits;
  /** Oldest first; the first one is valid for all times before the second. */
  readonly #byIp: LRUCache<string, Ownership[]>;
  /** The past names, in the order in which they are forgotten. */
  readonly #past = new Set<{ ip: string; ended: number }>();
  /** Addresses whose names are forgotten. */
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

  /** Addresses with a current or remembered past name. */
  get size(): number {
    return this.#byIp.size;
  }

  /** Past names remembered. */
  get past(): number {
    return this.#past.size;
  }

  /** Records of one address may come in any order, and repeatedly. */
  set({ ip, t, pod, namespace, node, service }: NameRecord): void {
    const owner: Owner = pod === '' && service === '' ? 'none' : { pod, namespace, node, service };
    let history = this.#byIp.get(ip);
    if (!history) {
      if (owner === 'none') return;
      history = [{ since: -Infinity, owner: this.#gone.delete(ip) ? 'forgotten' : 'none' }];
      this.#byIp.set(ip, history);
    }
    let i = history.length;
    while (i > 1 && history[i - 1]!.since > t) i--;
    const before = history[i - 1]!;
    if (same(before.owner, owner)) {
      // The same pod; its Service or node may have changed.
      before.owner = owner;
      return;
    }
    if (before.since === t) before.owner = owner;
    else history.splice(i, 0, { since: t, owner });
    const next = history[i + 1];
    if (next && same(next.owner, owner)) history.splice(i + 1, 1);
    // The name was withdrawn for a while, and no other pod was seen: one ownership.
    if (before.owner === 'none' && i > 1 && same(history[i - 2]!.owner, owner)) history.splice(i - 1, 2);
    if (history.length > this.#limits.perAddress) {
      this.counters.dropped++;
      shorten(history, history[2]!.since);
    }
    if (history.length > 2) this.#past.add({ ip, ended: t });
  }

  /** The clock was set back to `t`: the current owner stays, earlier ones cannot be found by time any more. */
  onClockRollback(t: number): void {
    for (const history of this.#byIp.values()) {
      const { since, owner } = history.at(-1)!;
      if (since > t)
        history.splice(0, history.length, { since: -Infinity, owner: 'forgotten' }, { since: t, owner });
    }
  }

  /** Forgets past names that ended too long before `now` (ms since the epoch), or exceed the limit. */
  forget(now: number): void {
    const { rememberMs, past } = this.#limits;
    for (const oldest of this.#past) {
      const tooMany = this.#past.size > past;
      if (oldest.ended > now - rememberMs && !tooMany) return;
      if (tooMany) this.counters.dropped++;
      this.#past.delete(oldest);
      const history = this.#byIp.get(oldest.ip);
      if (!history) continue;
      shorten(history, oldest.ended);
      if (history.length > 2 || history.at(-1)!.owner !== 'none') continue;
      this.#byIp.delete(oldest.ip);
      this.#gone.set(oldest.ip, true);
    }
  }

  /** The name of `ip` at an instant. */
  at(ip: string, t: number): PodName | undefined {
    return this.of(ip, t, t, t);
  }

  /**
   * The pod of the connections that were opened to `ip` between `first` and `last`. Undefined where it is not known, or may
   * be several.
   *
   * A deleted pod stays the owner for connections that were opened before. A connection that was opened while the address
   * had no known owner belongs to the next owner, provided its record is not later than `by`, when the exchange was not over.
   */
  of(ip: string, first: number, last: number, by: number): PodName | undefined {
    const history = this.#byIp.get(ip);
    if (!history) return undefined;
    let found: PodName | undefined;
    for (let i = 0; i < history.length; i++) {
      const { since, owner } = history[i]!;
      const next = history[i + 1];
      if (since > last) break;
      if (next && next.since <= first) continue;
      const meant = owner === 'none' && next && next.since <= by ? next.owner : owner;
      if (typeof meant === 'string' || (found && !same(found, meant))) return undefined;
      found = meant;
    }
    return found;
  }
}

/** Forgets the owners before `t`. */
function shorten(history: Ownership[], t: number): void {
  let over = 0;
  while (history[over + 1] && history[over + 1]!.since <= t) over++;
  if (over > 1) history.splice(0, over, { since: -Infinity, owner: 'forgotten' });
}

/** Whether two owners are the same pod, or, where there is no pod (ClusterIPs, hand-made endpoints), the same Service. */
function same(a: Owner, b: Owner): boolean {
  if (typeof a === 'string' || typeof b === 'string') return a === b;
  return a.pod === b.pod && a.namespace === b.namespace && (a.pod !== '' || a.service === b.service);
}
