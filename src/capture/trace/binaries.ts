import type { Loader } from './loader.ts';
import { findProbePlaces } from './nginx-binary.ts';
import type { Found, Place, RunningBinary } from './processes.ts';

/** Looks after which a binary that nothing runs any more is let go. */
const GONE_AFTER = 3;
/** Executables that are remembered. At the limit no further one is looked at. */
const MAX_BINARIES = 64;
const NOWHERE: ReadonlySet<string> = new Set();

interface Known {
  /** A text: why it is left alone. */
  id: number | string;
  missed: number;
  addresses: ReadonlySet<string>;
}

export interface BinariesParts {
  find(addresses: ReadonlySet<string>): Found;
  /** The whole file. Throws where it cannot be read. */
  read(path: string): Buffer;
  log(level: 'info' | 'warn' | 'error', message: string): void;
}

/** The executables of nginx that run beside subscribed addresses, each attached to once. */
export class TracedBinaries {
  readonly #parts: BinariesParts;
  readonly #known = new Map<string, Known>();
  /** Those whose failure was told: it may have been the process that ended, so each look tries again. */
  readonly #told = new Set<string>();
  #watched = new Map<string, Place>();
  #loader: Loader | undefined;
  #ids = 0;

  constructor(parts: BinariesParts) {
    this.#parts = parts;
  }

  get attached(): number {
    return [...this.#known.values()].filter(({ id }) => typeof id === 'number').length;
  }

  /** Where an executable is left alone, by an address beside which it runs, and why. */
  *untraced(): Generator<{ address: string; why: string }> {
    for (const { id, addresses } of this.#known.values())
      if (typeof id === 'string') for (const address of addresses) yield { address, why: id };
  }

  /** Another loader, which is attached to nothing yet. */
  restart(loader: Loader): void {
    this.#loader = loader;
    this.#known.clear();
    this.#told.clear();
    this.#watched.clear();
  }

  /** Attaches to what is new, and lets go of what is gone. Returns whether there is something new. */
  async look(addresses: ReadonlySet<string>): Promise<boolean> {
    const loader = this.#loader!;
    const { binaries, places } = this.#parts.find(addresses);
    const running = new Map(binaries.map((binary) => [binary.key, binary]));
    for (const [key, known] of this.#known) {
      const binary = running.get(key);
      known.missed = binary ? 0 : known.missed + 1;
      known.addresses = binary?.addresses ?? NOWHERE;
      if (known.missed < GONE_AFTER) continue;
      this.#known.delete(key);
      if (typeof known.id === 'number') loader.detach(known.id);
    }
    let fresh = this.#watch(places, loader);
    for (const binary of binaries) {
      if (this.#known.has(binary.key) || this.#known.size >= MAX_BINARIES) continue;
      const id = await this.#attach(binary, loader);
      if (id === undefined) continue;
      // The loader may have been replaced meanwhile.
      if (this.#loader !== loader) return fresh;
      this.#known.set(binary.key, { id, missed: 0, addresses: binary.addresses });
      fresh ||= typeof id === 'number';
    }
    return fresh;
  }

  #watch(places: readonly Place[], loader: Loader): boolean {
    const wanted = new Map(places.map((place) => [`${place.namespace} ${place.address}`, place]));
    for (const [key, place] of this.#watched) if (!wanted.has(key)) loader.watch('remove', place);
    let fresh = false;
    for (const [key, place] of wanted) {
      if (this.#watched.has(key)) continue;
      loader.watch('add', place);
      fresh = true;
    }
    this.#watched = wanted;
    return fresh;
  }

  /** Its id, or why it is left alone; undefined where it has to be tried again. */
  async #attach({ key, path, named }: RunningBinary, loader: Loader): Promise<number | string | undefined> {
    let file: Buffer;
    try {
      file = this.#parts.read(path);
    } catch {
      // The process has ended: another one may run the file.
      return undefined;
    }
    const places = findProbePlaces(file);
    if (typeof places === 'string') {
      this.#parts.log('warn', `${named} is not traced: ${places}`);
      return places;
    }
    const id = ++this.#ids;
    const failure = await loader.attach(id, places, path);
    if (failure !== undefined) {
      if (this.#told.size < MAX_BINARIES && !this.#told.has(key)) {
        this.#told.add(key);
        this.#parts.log('warn', `${named} cannot be traced yet: ${failure}`);
      }
      return undefined;
    }
    this.#parts.log('info', `${named}, nginx ${places.version}, is traced`);
    return id;
  }
}
