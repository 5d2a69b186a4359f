/** The connections of one upstream address, in the order of the feed. */

/** Opened in [openFrom, openTo]; closed at `closeTo` or somewhat before, Infinity while it is open. */
export interface TimedFlow {
  readonly backend: string;
  readonly openFrom: number;
  readonly openTo: number;
  /** The latest `openTo` of this and all before it; the earliest instant that this or any after it was opened. */
  readonly openedBy: number;
  readonly openedAfter: number;
  /** Its place in the feed is also its place in the order of openings. */
  readonly inOrder: boolean;
  /** Opened in [from, to], as narrowed by `narrowByOrder`. */
  from: number;
  to: number;
  closeTo: number;
  /**
   * Its end was the FIN exchange's: all of the answer had come. nginx may not have known: on a busy machine TIME_WAIT was
   * seen up to 91 ms before nginx's own end of the request (conntrack may take the backend's FIN, sent twice, for both
   * sides': tcp_conntracks in nf_conntrack_proto_tcp.c). Without it, `closeTo` proves nothing.
   */
  finished: boolean;
  /** It was not established, so it carried nothing. */
  refused: boolean;
  /** Upper bounds of the payload to the backend and from it (bytes); Infinity without counts. */
  sentMost: number;
  receivedMost: number;
  /** Up to this time an attempt explains why it is open. */
  explainedUntil: number;
}
