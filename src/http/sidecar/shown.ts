import type { PendingBlock } from '../../join/pending.ts';

/** A settled block, of which lines are shown. */
export type ShownBlock = Pick<PendingBlock<unknown>, 'bytes' | 'readAt' | 'lines' | 'outcomes'>;
