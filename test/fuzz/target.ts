export interface Target {
  name: string;
  corpus: readonly Buffer[];
  words: readonly string[];
  /** Share of the inputs, by how quickly one is done. */
  weight: number;
  /** Throws if something does not hold. */
  run(input: Buffer): void;
}
