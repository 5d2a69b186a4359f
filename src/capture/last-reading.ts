import type { CaptureStats } from './capture.ts';

/** What the last reading brought, which determines the next pause. */
export class LastReading {
  /** Monotonic time (ms). */
  at = Number.NEGATIVE_INFINITY;
  requests = 0;
  /** Of any kind. */
  messages = 0;
  /** Requests with an id, of this reading and those before, since the last record that only its time tells from others. */
  withIds = 0;
  #before = { requests: 0, messages: 0, byTimes: 0 };

  begin(stats: CaptureStats): void {
    this.#before = countsOf(stats);
  }

  end(stats: CaptureStats, at: number): void {
    const now = countsOf(stats);
    this.at = at;
    this.requests = now.requests - this.#before.requests;
    this.messages = now.messages - this.#before.messages;
    const byTimes = now.byTimes > this.#before.byTimes || stats.clients > 0;
    this.withIds = byTimes ? 0 : this.withIds + this.requests;
  }
}

function countsOf(stats: CaptureStats): { requests: number; messages: number; byTimes: number } {
  return {
    requests: stats.tapRequests,
    messages: stats.conntrackEvents + stats.tapPackets,
    byTimes: stats.tapWithoutId + stats.tapWithin + stats.tapAnswers + stats.unreadable,
  };
}
