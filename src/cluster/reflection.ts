import type { ApiObject, Reflection } from './reflector.ts';

/** How long a past state of an address is remembered (ms): lines of long requests come late. */
const REMEMBER_MS = 10 * 60_000;
/** Past states at most; at the limit the oldest is dropped. */
const MAX_PAST = 20_000;

interface Objects {
  /** The keys of all objects of the kind that are known. */
  known(): Iterable<string>;
  /** Undefined: the object is gone. */
  replace(key: string, object: ApiObject | undefined): void;
  /** Whether all objects of the kind are known as they are now. */
  vouch(current: boolean): void;
}

/** The objects of one kind by `namespace/name`, as a reflector tells of them. Those that a listing lacks are gone. */
export function reflectionOf({ known, replace, vouch }: Objects): Reflection {
  let seen: Set<string> | undefined;
  return {
    upsert(object) {
      const key = keyOf(object);
      seen?.add(key);
      replace(key, object);
    },
    remove: (object) => replace(keyOf(object), undefined),
    lost: () => vouch(false),
    listing() {
      seen = new Set();
    },
    listed() {
      for (const key of [...known()]) if (!seen?.has(key)) replace(key, undefined);
      seen = undefined;
      vouch(true);
    },
  };
}

function keyOf({ metadata }: ApiObject): string {
  return `${metadata?.namespace}/${metadata?.name}`;
}

/** Addresses of which a state has ended, oldest first: the next to forget. */
export class PastStates {
  readonly #ended = new Set<{ ip: string; at: number }>();

  /** `at`: ms since the epoch. */
  add(ip: string, at: number): void {
    this.#ended.add({ ip, at });
  }

  /** Calls `forget` for each address with a state that ended too long ago: all that were over at `before` can go. */
  forget(now: number, forget: (ip: string, before: number) => void): void {
    const before = now - REMEMBER_MS;
    for (const past of this.#ended) {
      const crowded = this.#ended.size > MAX_PAST;
      if (past.at > before && !crowded) return;
      this.#ended.delete(past);
      forget(past.ip, crowded ? Infinity : before);
    }
  }
}
