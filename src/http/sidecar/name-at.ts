import type { PodName } from '../../model/outcome.ts';

/** What an address was called at a time (ms since the epoch); undefined where that is not known. */
export type NameAt = (ip: string, at: number) => PodName | undefined;
