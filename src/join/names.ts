import type { NameRecord } from '../record/feed.ts';
import type { PodName } from '../record/outcome.ts';

/** Addresses remembered, and names an address had. At the limit the address named longest ago goes. */
const MAX_ADDRESSES = 20_000;
const MAX_NAMES = 4;

interface Held {
  since: number;
  name: PodName | undefined;
}

/** What addresses are and were called: an address is reused, and an old line keeps the old name. */
export class Names {
  readonly #byIp = new Map<string, Held[]>();

  set(record: NameRecord): void {
    const { ip, t, pod, namespace, node, service } = record;
    const name = pod === '' && service === '' ? undefined : { pod, namespace, node, service };
    const history = this.#byIp.get(ip) ?? [];
    const last = history[history.length - 1];
    if (last?.name && name && sameName(last.name, name)) return;
    history.push({ since: history.length === 0 ? -Infinity : t, name });
    if (history.length > MAX_NAMES) history.shift();
    this.#byIp.delete(ip);
    this.#byIp.set(ip, history);
    if (this.#byIp.size > MAX_ADDRESSES) {
      for (const oldest of this.#byIp.keys()) {
        this.#byIp.delete(oldest);
        break;
      }
    }
  }

  /**
   * The name that `ip` had at `at` (ms since the epoch). An address whose name was withdrawn keeps it until another
   * pod takes the address: the last answers of a deleted pod are logged after its deletion.
   */
  at(ip: string, at: number): PodName | undefined {
    const history = this.#byIp.get(ip);
    if (!history) return undefined;
    let name: PodName | undefined;
    for (const held of history) {
      if (held.since > at) break;
      if (held.name) name = held.name;
    }
    return name ?? history.find((held) => held.name)?.name;
  }

  get size(): number {
    return this.#byIp.size;
  }
}

function sameName(a: PodName, b: PodName): boolean {
  return a.pod === b.pod && a.namespace === b.namespace && a.node === b.node && a.service === b.service;
}
