import type { Attempt } from '../../model/line.ts';
import type { Reason } from '../../model/outcome.ts';
import { formatHostPort } from '../../parse/address.ts';
import type { NameAt } from './name-at.ts';
import { EMPTY_AFTER_MS, PodWindow } from './pod-window.ts';

/** Upstream addresses with figures. Attempts to others are counted in `refused` alone. */
const MAX_UPSTREAMS = 200;

interface Unresolved {
  readonly ip: string;
  readonly windows: Map<Reason, PodWindow>;
  lastCounted: number;
}

/** The attempts to one upstream address without a pod, within some time. */
export interface UnresolvedFigures {
  upstream: string;
  service: string;
  namespace: string;
  requests: number;
  errors: number;
  /** Their most frequent reason. */
  reason: Reason;
}

/** Attempts without a pod, by upstream address: the pods' shares are shares of all attempts, not of the resolved ones. */
export class UnresolvedTable {
  readonly counters = { refused: 0 };
  readonly #nameAt: NameAt;
  readonly #byUpstream = new Map<string, Unresolved>();

  constructor(nameAt: NameAt) {
    this.#nameAt = nameAt;
  }

  add({ ip, port }: Attempt, reason: Reason, at: number, error: boolean, now: number): void {
    const key = formatHostPort(ip, port);
    let unresolved = this.#byUpstream.get(key);
    if (!unresolved) {
      if (this.#byUpstream.size >= MAX_UPSTREAMS) this.#dropGone(now);
      if (this.#byUpstream.size >= MAX_UPSTREAMS) {
        this.counters.refused++;
        return;
      }
      unresolved = { ip, windows: new Map(), lastCounted: now };
      this.#byUpstream.set(key, unresolved);
    }
    unresolved.lastCounted = now;
    let window = unresolved.windows.get(reason);
    if (!window) {
      window = new PodWindow();
      unresolved.windows.set(reason, window);
    }
    window.add(at, error, undefined);
  }

  /** The sums over the last `slots` slots, without upstreams that had none. */
  recent(now: number, slots: number): UnresolvedFigures[] {
    this.#dropGone(now);
    const figures: UnresolvedFigures[] = [];
    for (const [upstream, { ip, windows }] of this.#byUpstream) {
      const sums = [...windows].map(([reason, window]) => ({ reason, ...window.sum(now, slots) }));
      const [most] = sums.sort((a, b) => b.requests - a.requests);
      if (!most || most.requests === 0) continue;
      const name = this.#nameAt(ip, now);
      figures.push({
        upstream,
        service: name?.service ?? '',
        namespace: name?.namespace ?? '',
        requests: sums.reduce((sum, { requests }) => sum + requests, 0),
        errors: sums.reduce((sum, { errors }) => sum + errors, 0),
        reason: most.reason,
      });
    }
    return figures.sort((a, b) => (a.upstream < b.upstream ? -1 : 1));
  }

  #dropGone(now: number): void {
    for (const [upstream, { lastCounted }] of this.#byUpstream) {
      if (now - lastCounted >= EMPTY_AFTER_MS) this.#byUpstream.delete(upstream);
    }
  }
}
