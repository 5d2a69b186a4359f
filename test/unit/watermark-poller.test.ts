import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { WatermarkPoller } from '../../src/watermark-poller.ts';

/** A poller on a clock that the test steps; `requests` holds the times of its requests. */
function start(t: TestContext) {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const state = { now: 1_000, waitingSince: undefined as number | undefined };
  const requests: number[] = [];
  const poller = new WatermarkPoller({
    request: () => requests.push(state.now),
    waitingSince: () => state.waitingSince,
    clock: () => state.now,
  });
  const step = (ms: number): void => {
    for (let i = 0; i < ms; i++) {
      state.now++;
      t.mock.timers.tick(1);
    }
  };
  t.after(() => poller.close());
  return { state, requests, poller, step };
}

test('a line on a quiet feed gets its watermark requested after a millisecond', (t) => {
  const { state, requests, poller, step } = start(t);
  state.waitingSince = state.now;
  poller.schedule();
  step(1);
  assert.deepEqual(requests, [1_001]);
});

test('while none comes, requests come ever more rarely, 200 ms apart at most', (t) => {
  const { state, requests, poller, step } = start(t);
  state.waitingSince = state.now;
  poller.schedule();
  step(2_000);
  const rests = requests.slice(1).map((at, i) => at - requests[i]!);
  assert.deepEqual(rests.slice(0, 8), [2, 4, 8, 16, 32, 64, 128, 200]);
  assert.ok(rests.every((rest) => rest <= 200));
});

test('a feed that brings watermarks by itself is given 15 ms first', (t) => {
  const { state, requests, poller, step } = start(t);
  poller.arrived(1);
  step(5);
  poller.arrived(2);
  state.waitingSince = state.now;
  poller.schedule();
  step(14);
  assert.deepEqual(requests, []);
  step(1);
  assert.equal(requests.length, 1);
});

test('a watermark that was requested does not make the feed look busy', (t) => {
  const { state, requests, poller, step } = start(t);
  state.waitingSince = state.now;
  poller.schedule();
  step(1);
  poller.arrived(1);
  poller.resetBackOff();
  state.waitingSince = state.now;
  step(2);
  assert.equal(requests.length, 2);
});

test('nothing is requested for a block that has left', (t) => {
  const { state, requests, poller, step } = start(t);
  state.waitingSince = state.now;
  poller.schedule();
  state.waitingSince = undefined;
  step(1_000);
  assert.deepEqual(requests, []);
});

test('the last lines of an ending process do not wait for the feed', (t) => {
  const { state, requests, poller, step } = start(t);
  poller.arrived(1);
  step(5);
  poller.arrived(2);
  poller.end();
  state.waitingSince = state.now;
  poller.schedule();
  step(1);
  assert.equal(requests.length, 1);
});
