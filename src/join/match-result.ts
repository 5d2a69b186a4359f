import type { Outcome } from '../model/outcome.ts';
import type { TappedRequest } from './index/connection.ts';
import type { Query } from './query.ts';

/** The outcomes, in step with the line's attempts, and what the index may learn from them (`FlowIndex.markMatched`). */
export interface Match {
  readonly outcomes: readonly Outcome[];
  /** The requests that the line was resolved by. */
  readonly matched: readonly TappedRequest[];
  /** The requests of connections that opened just now may be in the next batch: match again at the next watermark. */
  readonly retryAtNextWatermark: boolean;
  /** In step with the line's attempts. */
  readonly queries: readonly (Query | undefined)[];
}
