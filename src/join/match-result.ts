import type { Outcome } from '../model/outcome.ts';
import type { TappedRequest } from './index/connection.ts';
import type { Query } from './query.ts';

/** The outcomes, in step with the line's attempts, and what the index may learn from them (`FlowIndex.markMatched`). */
export interface Match {
  readonly outcomes: Outcome[];
  /** Requests that belong to this line. */
  readonly matched: readonly TappedRequest[];
  /** Connections that opened just now may still turn out to be others': ask again with the next watermark. */
  readonly retryAtNextWatermark: boolean;
  /** In step with the line's attempts. */
  readonly queries: readonly (Query | undefined)[];
}
