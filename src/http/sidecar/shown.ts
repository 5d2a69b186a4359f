import type { WaitingBlock } from '../../join/pending.ts';

/** A settled block, of which lines are shown. */
export type ShownBlock = Pick<WaitingBlock<unknown>, 'bytes' | 'readAt' | 'lines' | 'outcomes'>;
