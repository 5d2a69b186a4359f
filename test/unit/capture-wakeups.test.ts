/** When the sockets are read (`Wakeups`). */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { type CaptureStats, newCaptureStats } from '../../src/capture/capture.ts';
import { LastReading } from '../../src/capture/last-reading.ts';
import { Wakeups } from '../../src/capture/wakeups.ts';

/** Sockets that become readable as the test says, and the times at which they are read. */
function start(t: TestContext) {
  t.mock.timers.enable({ apis: ['setTimeout', 'setImmediate'] });
  let now = 0;
  const stats = newCaptureStats();
  const last = new LastReading();
  const reads: number[] = [];
  /** Of each reading: whether another one was said to follow. */
  const followed: boolean[] = [];
  let watcher: (() => void) | undefined;
  let onEvent: (() => void) | undefined;
  const events: number[] = [];
  let held = { ids: 0, others: 0 };
  let alter = (_: CaptureStats): void => {};
  const source = {
    watch: (onReadable: () => void) => {
      watcher = onReadable;
    },
    unwatch: () => {
      watcher = undefined;
    },
  };
  const conntrack = {
    watch: (onReadable: () => void) => {
      onEvent = onReadable;
    },
    unwatch: () => {
      onEvent = undefined;
    },
  };
  const wakeups = new Wakeups(
    {
      conntrack: conntrack as never,
      tap: source as never,
      monotonic: () => now,
      read() {
        reads.push(now);
        last.begin(stats);
        stats.tapPackets += held.ids + held.others;
        stats.tapRequests += held.ids + held.others;
        stats.tapWithoutId += held.others;
        held = { ids: 0, others: 0 };
        alter(stats);
        last.end(stats, now);
        followed.push(wakeups.isReadAgain);
        return true;
      },
      readConntrack: () => void events.push(now),
      hasLeft: () => false,
    },
    last,
  );
  /** Requests with an id and without come now. */
  const come = (ids: number, others = 0): void => {
    held.ids += ids;
    held.others += others;
    watcher?.();
  };
  /** `each` is called before each of these milliseconds. */
  const step = (ms: number, each = (): void => {}): void => {
    for (let i = 0; i < ms; i++) {
      each();
      now++;
      t.mock.timers.tick(1);
    }
  };
  wakeups.start();
  t.after(() => wakeups.close());
  const onRead = (what: typeof alter): void => {
    alter = what;
  };
  return {
    wakeups,
    come,
    step,
    reads,
    followed,
    stats,
    onRead,
    isWatched: () => watcher !== undefined,
    /** A connection opens or closes now. */
    event: () => onEvent?.(),
    events,
    areEventsWatched: () => onEvent !== undefined,
  };
}

/** Brings it so far that requests are told apart by their ids, and ends with a quiet moment. */
function withIds(world: ReturnType<typeof start>): void {
  world.come(256);
  world.step(2_000);
  world.reads.length = 0;
}

test('without leave to gather, the first message after quiet is read at once, and the next ones every 5 ms', (t) => {
  const world = start(t);
  const { come, step, reads } = world;
  withIds(world);
  step(20, () => come(1));
  assert.deepEqual(
    reads.map((at) => at - 2_000),
    [0, 1, 6, 11, 16],
  );
});

test('where requests have ids, what comes is gathered and read together', (t) => {
  const world = start(t);
  world.wakeups.gather(100);
  withIds(world);
  world.step(1_000, () => world.come(1));
  assert.deepEqual(
    world.reads.map((at) => at - 2_000),
    [100, 200, 300, 400, 500, 600, 700, 800, 900, 1_000],
  );
});

test('a reading is followed by another one while something is gathered, and only then', (t) => {
  const world = start(t);
  world.wakeups.gather(100);
  const { followed } = world;
  withIds(world);
  followed.length = 0;
  world.come(1);
  world.step(300);
  assert.deepEqual(followed, [true, false], 'the second brought nothing');
  followed.length = 0;
  world.wakeups.gather(0);
  world.come(1);
  world.step(300);
  assert.deepEqual(followed, [false]);
});

test('it takes 256 requests with an id in a row, and one without among fewer begins the count anew', (t) => {
  const { wakeups, come, step, reads } = start(t);
  wakeups.gather(100);
  come(255);
  step(1_000);
  come(0, 1);
  step(1_000);
  come(255);
  step(1_000);
  reads.length = 0;
  come(1);
  assert.equal(reads.length, 1, 'the 256th: at once');
  step(1_000);
  reads.length = 0;
  come(1);
  assert.equal(reads.length, 0, 'the 257th: gathered');
  step(100);
  assert.equal(reads.length, 1);
});

test('a lone request without an id changes nothing, the second among 256 does, and so do two at once', (t) => {
  for (const second of [() => {}, (come: (ids: number, others: number) => void) => come(200, 0)]) {
    const world = start(t);
    const { wakeups, come, step, reads } = world;
    const comeAndRead = (ids: number, others: number): void => {
      come(ids, others);
      step(1_000);
      reads.length = 0;
    };
    wakeups.gather(100);
    withIds(world);
    comeAndRead(3, 1);
    come(1);
    assert.equal(reads.length, 0, 'a lone one');
    step(1_000);
    second(comeAndRead);
    comeAndRead(5, 1);
    come(1);
    assert.equal(reads.length, 1, 'the second: at once again');
    t.mock.timers.reset();
  }
  const world = start(t);
  world.wakeups.gather(100);
  withIds(world);
  world.come(5, 2);
  world.step(1_000);
  world.reads.length = 0;
  world.come(1);
  assert.equal(world.reads.length, 1, 'two in one reading');
});

for (const [what, count] of [
  ['an answer', 'tapAnswers'],
  ['a connection that cannot be read', 'unreadable'],
  ['a body in which a request can begin', 'tapWithin'],
] as const)
  test(`${what} is told from others by its time only: nothing is gathered any more`, (t) => {
    const world = start(t);
    const { wakeups, come, step, reads, onRead } = world;
    wakeups.gather(100);
    withIds(world);
    onRead((stats) => {
      stats[count]++;
    });
    come(1);
    assert.deepEqual(reads, []);
    step(100);
    onRead(() => {});
    step(1_000);
    reads.length = 0;
    come(1);
    assert.equal(reads.length, 1);
  });

test('while clients come through the node, nothing is gathered', (t) => {
  const world = start(t);
  world.wakeups.gather(100);
  withIds(world);
  world.stats.clients = 1;
  world.come(1);
  world.step(1_000);
  world.reads.length = 0;
  world.come(1);
  assert.equal(world.reads.length, 1);
});

test('after a reading without a message it waits for one, without a timer', (t) => {
  const world = start(t);
  world.wakeups.gather(100);
  withIds(world);
  world.come(1);
  world.step(10_000);
  assert.deepEqual(
    world.reads.map((at) => at - 2_000),
    [100, 200],
  );
  assert.ok(world.isWatched());
});

test('the pause is so long that some 600 requests come in it, and 10 ms at least', (t) => {
  const world = start(t);
  world.wakeups.gather(100);
  withIds(world);
  world.step(1_000, () => world.come(12));
  const rests = world.reads.slice(1).map((at, i) => at - world.reads[i]!);
  assert.deepEqual(rests.slice(0, 3), [50, 50, 50]);
  world.step(1_000, () => world.come(1_000));
  assert.equal(world.reads.at(-1)! - world.reads.at(-2)!, 10);
  world.step(1_000, () => world.come(1));
  assert.equal(world.reads.at(-1)! - world.reads.at(-2)!, 100, 'and as long as before where fewer come');
});

test('for readers that need exact times nothing is gathered', (t) => {
  const world = start(t);
  world.wakeups.gather(100);
  withIds(world);
  world.wakeups.readPromptly(true);
  world.come(1);
  assert.equal(world.reads.length, 1);
});

test('a connection’s event is a message like others', (t) => {
  const { event, events, reads, areEventsWatched } = start(t);
  event();
  assert.deepEqual([reads, events, areEventsWatched()], [[0], [], false]);
});

test('for readers that need exact times each event is read as it comes, and all is read once a pause', (t) => {
  const { wakeups, event, events, reads, step, areEventsWatched } = start(t);
  assert.equal(wakeups.readPromptly(true), true);
  assert.equal(wakeups.readPromptly(true), false, 'as before');
  for (let n = 0; n < 3; n++) event();
  assert.deepEqual([events, reads], [[0, 0, 0], []]);
  step(1);
  event();
  step(4);
  assert.deepEqual([events, reads], [[0, 0, 0, 1], [1]]);
  assert.equal(areEventsWatched(), true);
});

test('after its end nothing is read and nothing is watched', (t) => {
  for (const end of ['while it waits', 'in a pause', 'in a prompt pause'] as const) {
    const world = start(t);
    if (end === 'in a prompt pause') world.wakeups.readPromptly(true);
    if (end !== 'while it waits') world.come(1);
    world.event();
    const before = world.reads.length;
    world.wakeups.close();
    assert.deepEqual([world.isWatched(), world.areEventsWatched()], [false, false], end);
    assert.equal(world.wakeups.readPromptly(true), false);
    world.step(50);
    assert.deepEqual([world.reads.length, world.isWatched()], [before, false], end);
    t.mock.timers.reset();
  }
});
