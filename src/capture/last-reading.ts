import type { CaptureStats } from './capture.ts';

/** Requests in a row with an id, after which times need not tell requests apart. */
const IDS_IN_A_ROW = 256;

/** What the last reading brought, which determines the next pause. */
export class LastReading {
  /** Monotonic time (ms). */
  at = Number.NEGATIVE_INFINITY;
  requests = 0;
  /** Of any kind. */
  messages = 0;
  /** Requests have ids, but for a lone one: exact times of those after it would not tell it from others. */
  toldByIds = false;
  /** Requests with an id since the last record that only its time tells from others. */
  #inARow = 0;
  #before = { requests: 0, messages: 0, withoutId: 0, byTimes: 0 };

  begin(stats: CaptureStats): void {
    this.#before = countsOf(stats);
  }

  end(stats: CaptureStats, at: number): void {
    const now = countsOf(stats);
    const before = this.#before;
    this.at = at;
    this.requests = now.requests - before.requests;
    this.messages = now.messages - before.messages;
    const withoutId = now.withoutId - before.withoutId;
    const byTimes = now.byTimes > before.byTimes || stats.clients > 0;
    if (!byTimes && withoutId === 0) {
      this.#inARow += this.requests;
      if (this.#inARow >= IDS_IN_A_ROW) this.toldByIds = true;
      return;
    }
    if (byTimes || withoutId > 1 || this.#inARow < IDS_IN_A_ROW) this.toldByIds = false;
    this.#inARow = 0;
  }
}

function countsOf(stats: CaptureStats) {
  return {
    requests: stats.tapRequests,
    messages: stats.conntrackEvents + stats.tapPackets,
    withoutId: stats.tapWithoutId,
    byTimes: stats.tapWithin + stats.tapAnswers + stats.unreadable,
  };
}
