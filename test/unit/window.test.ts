import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LineClock } from '../../src/join/line-clock.ts';
import {
  attemptWindows,
  lineEnd,
  ranAcrossClockRollback,
  wasCarried,
  wasSent,
} from '../../src/join/window.ts';
import type { Attempt, ParsedLine } from '../../src/model/line.ts';
import { lineOf, T0 } from '../model/wire.ts';

/** The window of each attempt in ms after T0. */
function windows(line: ParsedLine, readAt: number, clock = new LineClock(), behindMs = 0) {
  return attemptWindows(line, T0 + readAt, clock, behindMs).map(({ begin, end, answeredAfter, endedAfter }) =>
    [begin, end, answeredAfter, endedAfter].map((t) => t - T0),
  );
}

/** A clock of nginx that has been at most `lag` ms behind the reading for long enough. */
function clockOf(lag: number): LineClock {
  const clock = new LineClock();
  for (let n = 0; n < 200; n++) clock.observe(T0 - 10_000, T0 - 10_000 + lag);
  return clock;
}

const attempts = (...each: Partial<Attempt>[]): ParsedLine =>
  lineOf({ end: 1_000, took: 900 }, { attempts: each });

test('an attempt ran between the beginning of its request and the reading of its line', () => {
  const line = lineOf({ end: 1_000, took: 900 }, { attempt: { headerMs: 600, responseMs: 700 } });
  // 11 ms is what an upstream time can be too long by.
  assert.deepEqual(windows(line, 1_005), [[100, 1_005, 689, 789]]);
});

test('a clock known to be fine pulls the end earlier by the time between answer and end', () => {
  const line = lineOf({ end: 1_000, took: 900 }, { attempt: { headerMs: 100, responseMs: 700 } });
  assert.deepEqual(windows(line, 1_005, clockOf(3)), [[100, 416, 189, 789]]);
  assert.deepEqual(
    windows(line, 1_005, clockOf(500)),
    [[100, 905, 189, 789]],
    'less by what the clock may lag',
  );
});

test('attempts follow one another: each begins after those before, less a step for each, and ends before those after', () => {
  const line = attempts(
    { headerMs: 200, responseMs: 200 },
    { headerMs: 300, responseMs: 300 },
    { headerMs: 50, responseMs: 50 },
  );
  assert.deepEqual(windows(line, 1_005, clockOf(3)), [
    [100, 1_005 - (350 - 22), 289, 289],
    [100 + 200 - 11, 1_005 - (50 - 11), 289 + 289, 289 + 289],
    [100 + 500 - 22, 1_005, 578 + 39, 578 + 39],
  ]);
});

test('a short attempt before pulls nothing later', () => {
  assert.equal(windows(attempts({ headerMs: 5, responseMs: 5 }, { headerMs: 1 }), 1_005)[1]![0], 100);
});

test('an attempt without an answer can have been sent until the line was read', () => {
  const line = attempts({ headerMs: null, responseMs: 300, status: 504 }, { headerMs: 10, responseMs: 10 });
  assert.deepEqual(
    windows(line, 1_005, clockOf(3)).map(([, end]) => end),
    [1_005, 1_005],
  );
});

test('a line without times can be of any time before it was read', () => {
  assert.deepEqual(windows(lineOf(undefined), 6), [[-Infinity, 6, -Infinity, -Infinity]]);
});

test('a clock of the helper that is behind moves the beginning by so much', () => {
  assert.deepEqual(windows(lineOf({ end: 1_000, took: 900 }), 1_005, new LineClock(), 50)[0]![0], 50);
});

test('a line of a finished log may be written up to a second after its logged time', () => {
  const line = lineOf({ end: 1_000, took: 900 });
  const [window] = attemptWindows(line, Infinity, new LineClock());
  assert.equal(window!.end, T0 + 1_000 + 1 + 1_000);
  const open = attempts({ headerMs: null, status: 504 });
  assert.equal(attemptWindows(open, Infinity, new LineClock())[0]!.end, T0 + 2_001 + 10_000);
});

test('the evidence of a line has arrived with the watermark of its reading, offline with that of its end', () => {
  const line = lineOf({ end: 1_000, took: 900 });
  assert.equal(lineEnd(line, T0 + 1_005), T0 + 1_005);
  assert.equal(lineEnd(line, Infinity), T0 + 2_001);
  assert.equal(lineEnd(line, Infinity, 3_000), T0 + 4_001);
  for (const attempt of [
    { headerMs: null, status: 504 },
    { headerMs: null, connectMs: null, status: 502 },
  ])
    assert.equal(
      lineEnd(attempts(attempt), Infinity),
      T0 + 11_001,
      'such an attempt may trail its line by a turn',
    );
  assert.equal(lineEnd(lineOf(undefined), Infinity), Infinity);
});

test('what shows whether an attempt was sent', () => {
  const cases: [Partial<Attempt>, string, string][] = [
    [{ headerMs: 0 }, 'yes', 'yes'],
    [{ headerMs: null, connectMs: null, status: 200 }, 'no', 'no'],
    [{ headerMs: undefined, connectMs: undefined, status: 200 }, 'yes', 'yes'],
    [{ headerMs: undefined, connectMs: undefined, status: undefined }, 'unknown', 'unknown'],
    [{ headerMs: null, connectMs: 1, status: 404 }, 'yes', 'yes'],
    [{ headerMs: null, connectMs: null, status: 502, bytesSent: 1 }, 'no', 'yes'],
    [{ headerMs: null, connectMs: null, status: 502, bytesSent: 0 }, 'no', 'no'],
    ...[499, 502, 503, 504].map((status): [Partial<Attempt>, string, string] => [
      { headerMs: null, connectMs: 1, status },
      'unknown',
      'unknown',
    ]),
  ];
  for (const [attempt, sent, carried] of cases) {
    assert.equal(wasSent(attempts(attempt), 0), sent, JSON.stringify(attempt));
    assert.equal(wasCarried(attempts(attempt), 0), carried, JSON.stringify(attempt));
  }
});

test('a line whose upstream times are longer than its request ran across a clock that was set back', () => {
  const line = (took: number, ...responses: (number | null)[]): ParsedLine =>
    lineOf({ end: 1_000, took }, { attempts: responses.map((responseMs) => ({ responseMs })) });
  assert.equal(ranAcrossClockRollback(line(100, 111), -Infinity), false);
  assert.equal(ranAcrossClockRollback(line(100, 112), -Infinity), true);
  assert.equal(ranAcrossClockRollback(line(100, 61, 61), -Infinity), false);
  assert.equal(ranAcrossClockRollback(line(100, 62, 61), -Infinity), true);
  assert.equal(ranAcrossClockRollback(line(0, null), T0 + 1_001), true, 'no time, and times came twice');
  assert.equal(ranAcrossClockRollback(line(0, null), T0 + 1_000), false);
  assert.equal(ranAcrossClockRollback(line(1, null), T0 + 1_001), false);
  assert.equal(ranAcrossClockRollback(line(0, 0), T0 + 1_001), false);
  assert.equal(ranAcrossClockRollback(lineOf(undefined), T0 + 1e6), false);
});
