import type { PodName } from '../../model/outcome.ts';

/** The name of an address at a time (ms since the epoch); undefined where it is not known. */
export type NameAt = (ip: string, at: number) => PodName | undefined;
