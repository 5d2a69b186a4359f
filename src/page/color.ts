/** Colours that differ in both themes and for colour-blind readers (after Okabe and Ito). */
const COLORS = ['#0072b2', '#e69f00', '#009e73', '#cc79a7', '#56b4e9', '#d55e00', '#8c7ae6', '#7f8c8d'];

/** FNV-1a, 32 bits. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  return value >>> 0;
}

/**
 * Colours for the pods of one Service. A pod's colour comes from its name, so it is the same in every page and after every
 * reload; if another pod of the Service has it, the pod gets the next free one, in the order of the names.
 */
export class PodColors {
  readonly #byPod = new Map<string, string>();

  /** Gives each of these pods a colour; the colours of other pods are free again. */
  assign(keys: readonly string[]): void {
    for (const known of this.#byPod.keys()) if (!keys.includes(known)) this.#byPod.delete(known);
    for (const key of [...keys].sort()) {
      if (this.#byPod.has(key)) continue;
      const taken = new Set(this.#byPod.values());
      const first = hash(key) % COLORS.length;
      let color = COLORS[first]!;
      for (let i = 0; i < COLORS.length && taken.has(color); i++) {
        color = COLORS[(first + i) % COLORS.length]!;
      }
      // With more pods than colours, some share one.
      this.#byPod.set(key, taken.has(color) ? COLORS[first]! : color);
    }
  }

  of(key: string): string {
    return this.#byPod.get(key) ?? COLORS[0]!;
  }
}
