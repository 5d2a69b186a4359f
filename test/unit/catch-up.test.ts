/** Answers about this moment wait for what has been gathered (`CatchUp`). */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { CatchUp } from '../../src/catch-up.ts';

function start(t: TestContext) {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const state = { now: 1_000, asked: '' };
  const catchUp = new CatchUp({
    lookNow: () => {
      state.asked += 'log ';
    },
    requestTick: () => {
      state.asked += 'feed ';
    },
    clock: () => state.now,
  });
  const isOver = async (waiting: Promise<void>): Promise<boolean> => {
    let over = false;
    void waiting.then(() => {
      over = true;
    });
    await turn();
    return over;
  };
  return { state, catchUp, isOver };
}

test('it reads log and feed at once, and waits for the watermark of that moment and the lines before it', async (t) => {
  const { state, catchUp, isOver } = start(t);
  const waiting = catchUp.wait(20);
  assert.equal(state.asked, 'log feed ');
  catchUp.arrived(999);
  assert.equal(await isOver(waiting), false);
  catchUp.arrived(1_000, 1_000);
  assert.equal(await isOver(waiting), false, 'a line of that moment waits');
  catchUp.arrived(1_000, 1_001);
  assert.equal(await isOver(waiting), true);
});

test('it waits no longer than it may', async (t) => {
  const { catchUp, isOver } = start(t);
  const waiting = catchUp.wait(20);
  t.mock.timers.tick(19);
  assert.equal(await isOver(waiting), false);
  t.mock.timers.tick(1);
  assert.equal(await isOver(waiting), true);
});

test('each waits for its own moment', async (t) => {
  const { state, catchUp, isOver } = start(t);
  const first = catchUp.wait(20);
  state.now = 1_010;
  const second = catchUp.wait(20);
  catchUp.arrived(1_005);
  assert.deepEqual([await isOver(first), await isOver(second)], [true, false]);
  catchUp.arrived(1_010);
  assert.equal(await isOver(second), true);
});
