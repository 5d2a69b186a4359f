import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { WatermarkPoller } from '../../src/watermark-poller.ts';

/** A poller on a clock that the test steps; `requests` holds the times of its requests. */
function start(t: TestContext, batchMs = 0) {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const state = { now: 1_000, waitingSince: undefined as number | undefined };
  const requests: number[] = [];
  const poller = new WatermarkPoller({
    request: () => requests.push(state.now),
    waitingSince: () => state.waitingSince,
    batchMs,
    clock: () => state.now,
  });
  const step = (ms: number): void => {
    for (let i = 0; i < ms; i++) {
      state.now++;
      t.mock.timers.tick(1);
    }
  };
  const wait = (): void => {
    state.waitingSince = state.now;
    poller.schedule();
  };
  t.after(() => poller.close());
  return { state, requests, poller, step, wait };
}

test('a line waits for one and a half batches, in which the feed brings its watermark by itself', (t) => {
  const { requests, step, wait } = start(t, 100);
  wait();
  step(149);
  assert.deepEqual(requests, []);
  step(1);
  assert.deepEqual(requests, [1_150]);
});

test('a feed that does not gather is given 15 ms', (t) => {
  const { requests, step, wait } = start(t);
  wait();
  step(14);
  assert.deepEqual(requests, []);
  step(1);
  assert.deepEqual(requests, [1_015]);
});

test('a line that has waited for a while already waits only for the rest of the time', (t) => {
  const { state, requests, poller, step } = start(t, 100);
  state.waitingSince = state.now - 140;
  poller.schedule();
  step(10);
  assert.deepEqual(requests, [1_010]);
});

test('while none comes, requests come ever more rarely, 200 ms apart at most', (t) => {
  const { requests, step, wait } = start(t);
  wait();
  step(1_500);
  const rests = requests.slice(1).map((at, i) => at - requests[i]!);
  assert.deepEqual(rests.slice(0, 5), [30, 60, 120, 200, 200]);
  assert.ok(rests.every((rest) => rest <= 200));
});

test('where a batch is longer than that, no request comes earlier for it', (t) => {
  const { requests, step, wait } = start(t, 400);
  wait();
  step(1_800);
  assert.deepEqual(requests, [1_600, 2_200, 2_800]);
});

test('after a block has left, the next one is as patient as the first', (t) => {
  const { requests, poller, step, wait } = start(t);
  wait();
  step(15 + 30);
  poller.resetBackOff();
  wait();
  requests.length = 0;
  step(60);
  assert.equal(requests[0], 1_045 + 60, 'the wait that was under way ends first');
});

test('nothing is requested for a block that has left', (t) => {
  const { state, requests, step, wait } = start(t);
  wait();
  state.waitingSince = undefined;
  step(1_000);
  assert.deepEqual(requests, []);
});

test('between two blocks there is no timer: it would wake the process for nothing', (t) => {
  const { state, requests, poller, step, wait } = start(t, 100);
  for (let n = 0; n < 20; n++) {
    wait();
    step(20);
    state.waitingSince = undefined;
    poller.schedule();
    step(80);
  }
  wait();
  step(149);
  assert.deepEqual(requests, []);
  step(1);
  assert.equal(requests.length, 1);
});

test('a clock that was set back makes no line wait longer', (t) => {
  const { state, requests, poller, step } = start(t, 100);
  state.waitingSince = state.now + 3_600_000;
  poller.schedule();
  state.waitingSince = state.now;
  step(150);
  assert.equal(requests.length, 1);
});

test('the last lines of an ending process do not wait for the feed', (t) => {
  const { requests, poller, step, wait } = start(t, 100);
  poller.end();
  wait();
  step(1);
  assert.equal(requests.length, 1);
});
