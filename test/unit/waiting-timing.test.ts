import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LIVE, Timing } from '../../src/inferred/timing.ts';
import { FlowIndex } from '../../src/join/index/flow-index.ts';
import { PendingBlocks } from '../../src/join/pending.ts';
import type { FeedRecord, Observation } from '../../src/model/feed.ts';
import { isResolved } from '../../src/model/outcome.ts';
import { compileLogFormat } from '../../src/parse/log-format.ts';

const T0 = 1_764_837_843_000;
const EVERY_MS = 20;
const format = compileLogFormat(
  '$upstream_addr $msec $request_time "$upstream_connect_time" "$upstream_header_time" "$upstream_response_time" "$upstream_status" $status',
);

/** A request every 20 ms, each on a connection of its own to one of two pods, and its line. */
function play({ inferred = true, maxWaitMs = 2_000, lines = 130 } = {}) {
  const index = new FlowIndex();
  const timing = inferred ? new Timing() : undefined;
  const waiting = new PendingBlocks<number>(index, { maxWaitMs, maxBytes: 1e6 }, timing);
  const left: { line: number; at: number; said: string }[] = [];
  let seq = 0;
  const feed = (observation: Observation): void => {
    const record = { ...observation, seq: ++seq } as FeedRecord;
    index.apply(record);
    timing?.apply(record);
  };
  const settle = (now: number): void => {
    for (const { tag, outcomes } of waiting.take(now)) {
      const [outcome] = outcomes[0]!;
      const said = isResolved(outcome!) ? `${outcome.ip} by ${outcome.evidence}` : outcome!.reason;
      left.push({ line: tag, at: now, said });
    }
  };
  feed({ kind: 'gap', source: 'conntrack', t: T0 - 100 });
  feed({ kind: 'tick', t: T0 - 100 });
  for (let n = 0; n < lines + 100; n++) {
    const at = T0 + n * EVERY_MS;
    if (n < lines) {
      const flow = { src: '10.244.0.70', sport: 33_000 + n, vip: '10.105.148.194', vport: 80, port: 8080 };
      const served = { ...flow, ip: podOf(n), via: 'conntrack' } as const;
      feed({ kind: 'open', t: at + 0.3, openedAfter: at, ...served });
      feed({ kind: 'close', t: at + 9, end: 'fin', endedBefore: at + 5, ...served });
    }
    feed({ kind: 'tick', t: at + 10 });
    if (n < lines) {
      const text = `10.105.148.194:80 ${((at + 5) / 1000).toFixed(3)} 0.005 "0.001" "0.005" "0.005" "200" 200`;
      const bytes = Buffer.from(`${text}\n`);
      const parsed = format.parse(bytes, 0, text.length);
      waiting.push(bytes, at + 6, [{ start: 0, end: text.length, parsed }], n);
    }
    settle(at + 10);
  }
  return left;
}

const podOf = (n: number): string => (n % 3 === 0 ? '10.244.1.1' : '10.244.1.2');

test('a line whose pod is deduced waits for the lines beside it', () => {
  const left = play();
  assert.equal(left.length, 130);
  for (const { line, at, said } of left.slice(110)) {
    assert.equal(said, `${podOf(line)} by timing`);
    assert.ok(at - (T0 + line * EVERY_MS) >= LIVE.waitMs);
  }
  assert.equal(left[10]!.said, 'ambiguous');
});

test('with too short a --max-wait nothing is deduced', () => {
  const left = play({ maxWaitMs: 1_000 });
  assert.deepEqual(new Set(left.slice(5).map(({ said }) => said)), new Set(['ambiguous']));
});

test('without --evidence inferred lines leave at once', () => {
  const left = play({ inferred: false });
  assert.ok(left.every(({ line, at }) => at - (T0 + line * EVERY_MS) < 3 * EVERY_MS));
  assert.deepEqual(new Set(left.slice(5).map(({ said }) => said)), new Set(['ambiguous']));
});
