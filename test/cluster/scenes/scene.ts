/** One scene of `test:cluster:scenes`: `run` rejects where it does not hold. */
export interface Scene {
  name: string;
  run(): Promise<void>;
}
