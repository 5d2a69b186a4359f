import type { Outcome } from '../model/outcome.ts';
import type { TappedRequest } from './index/connection.ts';

/** The outcomes, in step with the line's attempts, and what the index may learn from them (`FlowIndex.learn`). */
export interface Match {
  outcomes: Outcome[];
  /** Sightings that belong to this line. */
  matched: readonly TappedRequest[];
  /** Connections just opened may yet turn out not to be meant; with the next watermark the line can be settled. */
  retryAtNextWatermark: boolean;
}
