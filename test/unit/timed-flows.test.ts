/** Which connections an attempt may have had, where only times tell them apart (`--evidence inferred`). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { soleBackend } from '../../src/inferred/decision.ts';
import { timedAttempt } from '../../src/inferred/timed-attempt.ts';
import type { TimedFlow } from '../../src/inferred/timed-flow.ts';
import { TimedFlows } from '../../src/inferred/timed-flows.ts';
import type { OpenRecord } from '../../src/model/feed.ts';
import { lineOf, podIp, T0 } from '../model/wire.ts';

/** An attempt of the request from 0 to 10, whose connection was there by 10 and not over before 5. */
const attempt = {
  ...timedAttempt(lineOf({ end: 10, took: 10 }), 0, 0)!,
  openBy: T0 + 10,
  lookedAt: T0 + 5,
  fresh: false,
};

function opened(pod: number, at: number, flows = new TimedFlows()): { flows: TimedFlows; flow: TimedFlow } {
  const record: OpenRecord = {
    kind: 'open',
    seq: 0,
    t: T0 + at,
    via: 'conntrack',
    src: '10.244.0.70',
    sport: 1,
    ip: podIp(pod),
    port: 8000,
    openedAfter: T0 + at - 1,
  };
  return { flows, flow: flows.opened(record, T0 + at - 1, true) };
}

test('a connection that ended before nginx looked cannot have been the one, less what its clock is late', () => {
  const may = (closed: number, grainMs: number): boolean => {
    const { flows, flow } = opened(1, 1);
    flows.closed(flow, T0 + closed, 'fin');
    return flows.candidates(attempt, grainMs, 9)!.length === 1;
  };
  assert.deepEqual([may(5, 0), may(4.9, 0)], [true, false]);
  assert.deepEqual([may(3, 2), may(2.9, 2)], [true, false]);
});

/** What the attempt had, if one of its own connections led to pod 1 and a kept one of pod 2 was closed at `closed`. */
function sole(closed: number, { grainMs = 0, lo = 0, keptUnknownUntil = -Infinity, openFrom = -100 } = {}) {
  const own = opened(1, 1).flow;
  const { flows, flow } = opened(2, openFrom + 1);
  flow.explainedUntil = T0 - 50;
  flows.closed(flow, T0 + closed, 'fin');
  const service = { keptUnknownUntil: T0 + keptUnknownUntil };
  return soleBackend({ ...attempt, lo: T0 + lo }, [own], [flow], service, grainMs);
}
const POD = `${podIp(1)} 8000`;

test('a kept connection to another pod contradicts while it may have been open, less what nginx’s clock is late', () => {
  assert.deepEqual([sole(5), sole(4.9)], [undefined, POD]);
  assert.deepEqual([sole(3, { grainMs: 2 }), sole(2.9, { grainMs: 2 })], [undefined, POD]);
  assert.deepEqual([sole(99, { openFrom: 10 }), sole(99, { openFrom: 10.1 })], [undefined, POD]);
});

test('nothing is named for what began before kept connections were forgotten', () => {
  assert.deepEqual([sole(0, { keptUnknownUntil: -0.1 }), sole(0, { keptUnknownUntil: 0 })], [POD, undefined]);
  assert.equal(
    soleBackend(attempt, [opened(1, 1).flow], undefined, { keptUnknownUntil: -Infinity }, 0),
    undefined,
  );
});
