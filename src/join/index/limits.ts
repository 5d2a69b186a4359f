/** Limits of the index. At each the oldest entry goes, and lines that need it get `gap`. */
export interface IndexLimits {
  /** Open and closed connections together. About 500 bytes each. */
  connections: number;
  /** Finished requests whose line has not been read. About 500 bytes each. */
  requests: number;
  /** Finished requests whose line has been resolved. They stay a moment longer, for lines with the same id. */
  matchedRequests: number;
  /** Upstream addresses. */
  services: number;
}

export const DEFAULT_LIMITS: IndexLimits = {
  connections: 40_000,
  requests: 30_000,
  matchedRequests: 500,
  services: 5_000,
};
